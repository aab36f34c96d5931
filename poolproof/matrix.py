"""What was seen, laid against what was expected: the matrix of outcomes, and which of its rounds count.

A round counts only while the target demonstrably served those whom it should serve, in that very round. Otherwise the
silence in it may just be a target that is down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from poolproof.challenge import Challenge, Expectation, Observation, Round, Row, quorum
from poolproof.fleet import Perspective, Role
from poolproof.outcome import Outcome
from poolproof.verdict import Reason

_MONITOR_REGIONS = 2
"""Monitors that are answered span this many registries, if the cohort's monitors do (design, section 3)."""

_LEAST_SILENT: tuple[Outcome, ...] = (
    Outcome.REPLIED,
    Outcome.UNSYNCHRONISED,
    Outcome.RATE_LIMITED,
    Outcome.LATE,
    Outcome.MALFORMED,
    Outcome.PROBE_FAILED,
    Outcome.SILENT,
    Outcome.REFUSED,
)


class RoundState(NamedTuple):
    """Whether one round counts, and why not.

    Attributes:
        number: of the round.
        window: of the challenge, that it belongs to.
        reason: None if it counts.
        monitors, served: monitors that expected an answer in it, and how many got one.
        witnesses, witnessed: the same for witnesses.
    """

    number: int
    window: int
    reason: Reason | None
    monitors: int
    served: int
    witnesses: int
    witnessed: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """Outcomes by row and round.

    Attributes:
        rows: the challenge's rows.
        wants_silence: by row and window.
        cells: by row and round; None where nothing was observed.
        states: one for each round.
        refuting: the first answer where silence was asked, or None.
        missing: perspectives that have not accounted for a leased exchange.
    """

    rows: tuple[Row, ...]
    wants_silence: list[list[bool]]
    cells: list[list[Outcome | None]]
    states: tuple[RoundState, ...]
    refuting: Observation | None
    missing: tuple[Perspective, ...]


def arrange(challenge: Challenge, rounds: Sequence[Round], observations: Iterable[Observation]) -> Matrix:
    """Lay the observations into the matrix, in any order, and say which rounds count.

    Raises:
        IndexError: an observation of a row or round that does not exist.
    """
    rows = challenge.rows
    seen_in_any_order = tuple(observations)
    wants_silence = [[expected is Expectation.SILENCE for expected in row.expected] for row in rows]
    cells: list[list[Outcome | None]] = [[None] * len(rounds) for _ in rows]
    for seen in seen_in_any_order:
        line, number = cells[seen.row], seen.round
        held = line[number]
        if held is not None and held is not seen.outcome:
            line[number] = _worse(held, seen.outcome, wants_silence[seen.row][rounds[number].window])
        else:
            line[number] = seen.outcome
    states, missing = _count(rows, rounds, cells, wants_silence)
    refuting = None
    if _answered_where_silent(rounds, cells, wants_silence):
        refuting = min(
            (o for o in seen_in_any_order if o.outcome.is_answer and wants_silence[o.row][rounds[o.round].window]),
            key=_chronological,
        )
    return Matrix(rows, wants_silence, cells, states, refuting, missing)


def _answered_where_silent(
    rounds: Sequence[Round], cells: list[list[Outcome | None]], wants_silence: list[list[bool]]
) -> bool:
    """Looked at in every round, whether it counts or not."""
    for line, wanted in zip(cells, wants_silence, strict=True):
        if True in wanted:
            for outcome, fired in zip(line, rounds, strict=True):
                if outcome is not None and outcome.is_answer and wanted[fired.window]:
                    return True
    return False


def _worse(one: Outcome, other: Outcome, wants_silence: bool) -> Outcome:
    """Of two observations of one cell the one that speaks more against a proof; symmetric, hence free of order."""
    first, second = sorted((one, other), key=_LEAST_SILENT.index)
    return first if wants_silence else second


def _chronological(seen: Observation) -> tuple[int, int, int, bytes, str]:
    return (seen.round, seen.row, seen.received_at_ns, seen.packet, seen.source)


def _count(
    rows: Sequence[Row],
    rounds: Sequence[Round],
    cells: list[list[Outcome | None]],
    wants_silence: list[list[bool]],
) -> tuple[tuple[RoundState, ...], tuple[Perspective, ...]]:
    roles = [row.perspective.role for row in rows]
    monitors = [i for i, role in enumerate(roles) if role is Role.ALLOWED_MONITOR]
    witnesses = [i for i, role in enumerate(roles) if role is Role.WITNESS]
    windows = range(len(rows[0].expected)) if rows else range(0)
    asked_in = [[i for i in monitors if not wants_silence[i][window]] for window in windows]
    open_in = [[i for i in witnesses if not wants_silence[i][window]] for window in windows]
    states: list[RoundState] = []
    missing: dict[int, None] = {}
    for fired, column in zip(rounds, zip(*cells, strict=True), strict=True):
        asked, open_witnesses = asked_in[fired.window], open_in[fired.window]
        absent = [i for i in fired.leased if column[i] is None] if None in column else ()
        served = [i for i in asked if (seen := column[i]) is not None and seen.shows_presence]
        witnessed = (
            [i for i in open_witnesses if (seen := column[i]) is not None and seen.shows_presence]
            if open_witnesses
            else []
        )
        reason: Reason | None = None
        if absent:
            missing.update(dict.fromkeys(absent))
            reason = Reason.REPORT_MISSING
        elif len(served) < len(asked) and not _is_quorum(rows, asked, served):
            reason = Reason.MONITORS_BELOW_QUORUM if served else Reason.TARGET_DOWN
        elif open_witnesses and not witnessed:
            reason = Reason.WITNESSES_NOT_SERVED
        states.append(
            RoundState(fired.number, fired.window, reason, len(asked), len(served), len(open_witnesses), len(witnessed))
        )
    return tuple(states), tuple(rows[i].perspective for i in missing)


def _is_quorum(rows: Sequence[Row], asked: list[int], served: list[int]) -> bool:
    """Enough monitors, and of enough registries if the cohort has them."""
    regions = min(_MONITOR_REGIONS, _regions(rows, asked))
    return len(served) >= quorum(len(asked)) and _regions(rows, served) >= regions


def _regions(rows: Sequence[Row], served: list[int]) -> int:
    return len({rows[i].perspective.rir.value for i in served})
