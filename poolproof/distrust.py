"""What becomes of an open attempt when one of its vantages is quarantined."""

from __future__ import annotations

from dataclasses import replace

from poolproof.challenge import Observation, Row, within_reach
from poolproof.ids import VantageId
from poolproof.outcome import Outcome
from poolproof.policy import Policy
from poolproof.verdict import NOTHING, Inconclusive, Reason
from poolproof.verification import Attempt, BaselinePath


def without(attempt: Attempt, vantage: VantageId) -> Attempt:
    """The attempt with everything that the vantage has said, or still could say, counted as its own failure.

    A report that comes later finds its place taken and changes nothing.
    """
    if attempt.challenge is None:
        others = tuple(entry for entry in attempt.paths if entry.vantage != vantage)
        asked = any(candidate.vantage.id == vantage for candidate in attempt.candidates)
        return replace(attempt, paths=(*others, BaselinePath(vantage, None))) if asked else attempt
    row = _row(attempt.challenge.rows, vantage)
    if row is None:
        return attempt
    kept = tuple(seen for seen in attempt.observations if seen.row != row)
    failed = tuple(
        Observation(row, fired.number, Outcome.PROBE_FAILED) for fired in attempt.rounds if row in fired.leased
    )
    return replace(attempt, observations=kept + failed)


def given_up(attempt: Attempt, vantage: VantageId, policy: Policy) -> Inconclusive | None:
    """The verdict of a challenged attempt that cannot come to any proof without the vantage; None if it can."""
    row = None if attempt.challenge is None else _row(attempt.challenge.rows, vantage)
    if attempt.challenge is None or row is None:
        return None
    rows = attempt.challenge.rows
    if within_reach(policy, rows[:row] + rows[row + 1 :], attempt.number) is not None:
        return None
    return Inconclusive(Reason.PROBES_FAILED, (rows[row].perspective,), NOTHING)


def _row(rows: tuple[Row, ...], vantage: VantageId) -> int | None:
    return next((i for i, row in enumerate(rows) if row.perspective.vantage == vantage), None)
