"""What becomes of an open attempt when one of its vantages is quarantined."""

from __future__ import annotations

from dataclasses import replace

from poolproof.challenge import Observation, Round, Row, within_reach
from poolproof.ids import VantageId
from poolproof.outcome import Outcome
from poolproof.policy import Policy
from poolproof.verdict import NOTHING, Inconclusive, Reason
from poolproof.verification import Attempt, BaselinePath


def without(attempt: Attempt, vantage: VantageId) -> Attempt:
    """The attempt with everything that the vantage has said, or still could say, counted as its own failure.

    A report that comes later finds its place taken and changes nothing.
    """
    if vantage in attempt.distrusted or not any(each.vantage.id == vantage for each in attempt.candidates):
        return attempt
    attempt = replace(attempt, distrusted=(*attempt.distrusted, vantage))
    if attempt.challenge is None:
        others = tuple(entry for entry in attempt.paths if entry.vantage != vantage)
        return replace(attempt, paths=(*others, BaselinePath(vantage, None)))
    row = _row(attempt.challenge.rows, vantage)
    kept = tuple(seen for seen in attempt.observations if seen.row != row)
    failed = tuple(failure for fired in attempt.rounds for failure in failures(attempt, fired) if failure.row == row)
    return replace(attempt, observations=kept + failed)


def failures(attempt: Attempt, fired: Round) -> tuple[Observation, ...]:
    """What quarantined vantages say in a round: they are not asked."""
    if attempt.challenge is None:
        return ()
    rows = attempt.challenge.rows
    return tuple(
        Observation(row, fired.number, Outcome.PROBE_FAILED)
        for row in fired.leased
        if rows[row].perspective.vantage in attempt.distrusted
    )


def given_up(attempt: Attempt, policy: Policy) -> Inconclusive | None:
    """The verdict of a challenged attempt that cannot come to any proof without those distrusted; None if it can."""
    if attempt.challenge is None:
        return None
    rows, out = attempt.challenge.rows, attempt.distrusted
    lost = tuple(row.perspective for row in rows if row.perspective.vantage in out)
    if not lost or within_reach(policy, tuple(row for row in rows if row.perspective not in lost), attempt.number):
        return None
    return Inconclusive(Reason.PROBES_FAILED, lost, NOTHING)


def _row(rows: tuple[Row, ...], vantage: VantageId) -> int | None:
    return next((i for i, row in enumerate(rows) if row.perspective.vantage == vantage), None)
