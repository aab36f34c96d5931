"""What was seen, laid against what was expected: the matrix of outcomes, and which of its rounds count.

A round counts only while the target demonstrably served those whom it should serve, in that very round. Otherwise the
silence in it may just be a target that is down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class RoundState:
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
    wants_silence = [[expected is Expectation.SILENCE for expected in row.expected] for row in rows]
    windows = [fired.window for fired in rounds]
    cells: list[list[Outcome | None]] = [[None] * len(rounds) for _ in rows]
    refuting: Observation | None = None
    for seen in observations:
        row, number, outcome = seen.row, seen.round, seen.outcome
        line = cells[row]
        held = line[number]
        if held is None:
            line[number] = outcome
        elif held is not outcome:
            line[number] = _worse(held, outcome, wants_silence[row][windows[number]])
        # Judged before anything is filtered out: in a round that does not count, too.
        if outcome.is_answer and wants_silence[row][windows[number]]:
            refuting = seen if refuting is None else min(refuting, seen, key=_chronological)
    states, missing = _count(rows, rounds, cells, wants_silence)
    return Matrix(rows, wants_silence, cells, states, refuting, missing)


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
    monitors = [i for i, row in enumerate(rows) if row.perspective.role is Role.ALLOWED_MONITOR]
    witnesses = [i for i, row in enumerate(rows) if row.perspective.role is Role.WITNESS]
    regions = min(_MONITOR_REGIONS, len({rows[i].perspective.rir.value for i in monitors}))
    states: list[RoundState] = []
    missing: dict[int, None] = {}
    for number, fired in enumerate(rounds):
        absent = [i for i in fired.leased if cells[i][number] is None]
        missing.update(dict.fromkeys(absent))
        window = fired.window
        asked = [i for i in monitors if not wants_silence[i][window]]
        served = [i for i in asked if (seen := cells[i][number]) is not None and seen.shows_presence]
        open_witnesses = [i for i in witnesses if not wants_silence[i][window]]
        witnessed = [i for i in open_witnesses if (seen := cells[i][number]) is not None and seen.shows_presence]
        reason: Reason | None = None
        if absent:
            reason = Reason.REPORT_MISSING
        elif asked and not served:
            reason = Reason.TARGET_DOWN
        elif len(served) < (quorum(len(asked)) if asked else 0) or (asked and _regions(rows, served) < regions):
            reason = Reason.MONITORS_BELOW_QUORUM
        elif open_witnesses and not witnessed:
            reason = Reason.WITNESSES_NOT_SERVED
        states.append(RoundState(number, window, reason, len(asked), len(served), len(open_witnesses), len(witnessed)))
    return tuple(states), tuple(rows[i].perspective for i in missing)


def _regions(rows: Sequence[Row], served: list[int]) -> int:
    return len({rows[i].perspective.rir.value for i in served})
