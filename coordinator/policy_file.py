"""A policy of the operator's own: a dated one with other numbers, under a new id.

    id = "example-2027"
    based_on = "2026-11"
    settle_ns = 10_000_000_000

The keys are the fields of `poolproof.policy.Policy`. Nothing in a request can change a policy.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from poolproof.ids import PolicyId
from poolproof.job import MAX_STEPS
from poolproof.policy import POLICIES, Policy

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")
_COUNTS = {
    "monitors": (1, 64),
    "must_be_silent": (1, 64),
    "witnesses": (0, 64),
    "spares": (0, 64),
    "min_rirs": (1, 5),
    "min_rounds": (1, 64),
    "max_rounds": (1, 64),
    "baseline_exchanges": (1, MAX_STEPS),
    "baseline_min_answers": (1, MAX_STEPS),
    "prefix_burst": (0, MAX_STEPS),
}
_HOUR_NS = 3_600_000_000_000
_LONGEST_NS = 366 * 24 * _HOUR_NS
_JOB_LIMITS_NS = {"timeout_ns": 60_000_000_000, "linger_ns": 60_000_000_000, "lead_ns": _HOUR_NS}
"""What the contract lets a job ask."""
_MAY_BE_ZERO = frozenset({"settle_ns", "linger_ns", "retry_spacing_ns", "report_grace_ns", "missing_grace_ns"})


class PolicyFileError(ValueError):
    """The policy file cannot be used; the message names the field, the value and what to give."""


def load_policy(path: Path) -> Policy:
    """The policy of a file.

    Raises:
        PolicyFileError: it cannot be read, names an unknown field or base, or a number makes no sense.
    """
    where = f"policy file {path}"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyFileError(f"{where}: {error}") from None
    name, base = document.pop("id", None), document.pop("based_on", None)
    if not isinstance(name, str) or not _ID.fullmatch(name) or PolicyId(name) in POLICIES:
        raise PolicyFileError(f"{where}: id: {name!r}: give a new id of letters, digits, '.' and '-'")
    if not isinstance(base, str) or PolicyId(base) not in POLICIES:
        raise PolicyFileError(f"{where}: based_on: {base!r}: give one of {', '.join(POLICIES)}")
    known = [each.name for each in fields(Policy) if each.name != "id"]
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise PolicyFileError(f"{where}: {unknown[0]}: no such number; there are {', '.join(known)}")
    for field, value in document.items():
        _check(where, field, value)
    policy = replace(POLICIES[PolicyId(base)], id=PolicyId(name), **document)
    _check_together(where, policy)
    return policy


def _check(where: str, field: str, value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if field in _COUNTS:
        low, high = _COUNTS[field]
        if not whole or not low <= value <= high:
            raise PolicyFileError(f"{where}: {field}: {value!r}: give a whole number from {low} to {high}")
    elif field.endswith("_ns"):
        low, high = int(field not in _MAY_BE_ZERO), _JOB_LIMITS_NS.get(field, _LONGEST_NS)
        if not whole or not low <= value <= high:
            raise PolicyFileError(f"{where}: {field}: {value!r}: give whole nanoseconds from {low} to {high}")
    elif not isinstance(value, float) or not 0 < value < 1:
        raise PolicyFileError(f"{where}: {field}: {value!r}: give a probability above 0 and below 1, like 0.01")


def _check_together(where: str, policy: Policy) -> None:
    if not policy.alpha_strong <= policy.alpha_medium <= policy.alpha_weak:
        raise PolicyFileError(
            f"{where}: alpha_strong {policy.alpha_strong}, alpha_medium {policy.alpha_medium}, alpha_weak"
            f" {policy.alpha_weak}: the better assurance must have the smaller chance of being wrong"
        )
    if policy.calibration_ready_ns >= policy.ready_window_ns:
        raise PolicyFileError(
            f"{where}: calibration_ready_ns: {policy.calibration_ready_ns}: give less than ready_window_ns,"
            f" {policy.ready_window_ns}"
        )
    if policy.min_rounds > policy.max_rounds:
        raise PolicyFileError(f"{where}: min_rounds: {policy.min_rounds}: give at most max_rounds, {policy.max_rounds}")
    if policy.baseline_min_answers > policy.baseline_exchanges:
        raise PolicyFileError(
            f"{where}: baseline_min_answers: {policy.baseline_min_answers}: give at most baseline_exchanges,"
            f" {policy.baseline_exchanges}"
        )
    if policy.prefix_burst + policy.baseline_exchanges > MAX_STEPS:
        raise PolicyFileError(
            f"{where}: prefix_burst: {policy.prefix_burst}: together with baseline_exchanges,"
            f" {policy.baseline_exchanges}, a job has at most {MAX_STEPS} steps"
        )
    longest = (
        policy.prefix_burst * policy.prefix_burst_spacing_ns + policy.baseline_exchanges * policy.baseline_spacing_ns
    )
    if longest > _HOUR_NS:
        raise PolicyFileError(
            f"{where}: baseline_spacing_ns: {policy.baseline_spacing_ns}: a job lasts at most an hour"
        )
