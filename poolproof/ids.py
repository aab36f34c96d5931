"""Identifiers, one `NewType` each, so that a job can never be handed in where a verification is meant."""

from __future__ import annotations

from typing import NewType

VerificationId = NewType("VerificationId", str)
JobId = NewType("JobId", str)
VantageId = NewType("VantageId", str)
PolicyId = NewType("PolicyId", str)
AttemptNumber = NewType("AttemptNumber", int)
"""1 for the first attempt on a target. Attempts on one target are counted over all its verifications, because the
error budget is spent over all of them."""
