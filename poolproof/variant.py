"""Variants of the `differential` method."""

from __future__ import annotations

from enum import Enum


class Variant(Enum):
    """Which difference the owner brings about."""

    BLOCK = "block"
    """The assigned verifiers get no answer (drop), a refusal (reject), or nothing at any address of their prefix."""
    ALLOW_ONLY = "allow-only"
    """The assigned monitors are answered and nobody else; judged with undisclosed witnesses."""
