"""What was seen, laid against what was expected: the matrix of outcomes, and which of its rounds count.

A round counts only while the target demonstrably served those whom it should serve, in that very round. Otherwise the
silence in it may just be a target that is down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from poolproof.challenge import Challenge, Layout, Observation, Round, Row, quorum
from poolproof.fleet import Perspective
from poolproof.outcome import Outcome
from poolproof.refusal import ASKED_FOR, RefusalKind
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


class Refusals(Enum):
    """Whether what was refused was refused in the ways that were asked for."""

    NONE_OTHERWISE = "none-otherwise"
    """None was refused in another way, but neither were there refusals of two ways yet."""
    AS_ASKED = "as-asked"
    """Each in its own way, and the ways are two."""
    OTHERWISE = "otherwise"
    """Some perspective was refused in another way than it asked for."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Outcomes by row and round.

    Attributes:
        rows: the challenge's rows.
        layout: what follows from them.
        cells: by row and round; None where nothing was observed.
        states: one for each round.
        refuting: the first answer where silence was asked, or None.
        backscatter: the first packet at a must-be-silent perspective that nobody there had asked for, or None.
        unwatched: indices of must-be-silent rows of which some exchange without an answer was not watched throughout.
        refusals: whether what was refused was refused in the ways that were asked for.
        alone: (row, round) where a prefix's other half was not answered: a limit by prefix explains its silence.
        kissed: indices of rows that the daemon itself refused, and nobody else.
        missing: perspectives that have not accounted for a leased exchange.
    """

    rows: tuple[Row, ...]
    layout: Layout
    cells: list[list[Outcome | None]]
    states: tuple[RoundState, ...]
    refuting: Observation | None
    backscatter: Observation | None
    unwatched: frozenset[int]
    refusals: Refusals
    alone: frozenset[tuple[int, int]]
    kissed: frozenset[int]
    missing: tuple[Perspective, ...]


def arrange(challenge: Challenge, rounds: Sequence[Round], observations: Iterable[Observation]) -> Matrix:
    """Lay the observations into the matrix, in any order, and say which rounds count.

    Raises:
        IndexError: an observation of a row or round that does not exist.
    """
    rows = challenge.rows
    seen_in_any_order = tuple(observations)
    wants_silence = challenge.layout.silent
    cells: list[list[Outcome | None]] = [[None] * len(rounds) for _ in rows]
    filled = 0
    unwatched: set[int] = set()
    flooded: list[Observation] = []
    refused = False
    alone: set[tuple[int, int]] = set()
    for seen in seen_in_any_order:
        line, number = cells[seen.row], seen.round
        if not seen.watched and (seen.outcome is Outcome.SILENT or seen.outcome is Outcome.REFUSED):
            unwatched.add(seen.row)
        if seen.outcome is Outcome.REFUSED:
            refused = True
        if rows[seen.row].neighbour and not seen.neighbour_answered:
            alone.add((seen.row, seen.round))
        if seen.unasked and wants_silence[seen.row][rounds[number].window]:
            flooded.append(seen)
        held = line[number]
        if held is None:
            line[number] = seen.outcome
            filled += 1
        elif held is not seen.outcome:
            line[number] = _worse(held, seen.outcome, wants_silence[seen.row][rounds[number].window])
    absent: dict[int, list[int]] = {}
    if filled < len(rows) * len(rounds):
        absent = {fired.number: [i for i in fired.leased if cells[i][fired.number] is None] for fired in rounds}
    states = _count(challenge, rounds, cells, absent)
    missing = dict.fromkeys(i for number in sorted(absent) for i in absent[number])
    refuting = None
    if _answered_where_silent(challenge.layout, rounds, cells):
        refuting = min(
            (o for o in seen_in_any_order if o.outcome.is_answer and wants_silence[o.row][rounds[o.round].window]),
            key=_chronological,
        )
    return Matrix(
        rows,
        challenge.layout,
        cells,
        states,
        refuting,
        _first_unasked(flooded),
        unwatched=frozenset(unwatched).intersection(challenge.layout.must_be_silent),
        refusals=_refusals(challenge, seen_in_any_order) if refused else Refusals.NONE_OTHERWISE,
        alone=frozenset(alone),
        kissed=_kissed(seen_in_any_order) if refused else frozenset(),
        missing=tuple(rows[i].perspective for i in missing),
    )


def _first_unasked(flooded: Iterable[Observation]) -> Observation | None:
    """The earliest unasked packet as a sighting: its address, its time and its bytes."""
    return min(
        (
            replace(seen, source=packet.destination, received_at_ns=packet.received_at_ns, packet=packet.payload)
            for seen in flooded
            for packet in seen.unasked
        ),
        key=lambda seen: (seen.received_at_ns, _chronological(seen)),
        default=None,
    )


def _refusals(challenge: Challenge, observations: Iterable[Observation]) -> Refusals:
    ways: set[RefusalKind] = set()
    for seen in observations:
        asked = challenge.rows[seen.row].refusal
        if seen.outcome is not Outcome.REFUSED or asked is None or seen.refusal is RefusalKind.KISS:
            continue
        if seen.refusal is not asked:
            return Refusals.OTHERWISE
        ways.add(asked)
    return Refusals.AS_ASKED if len(ways) >= len(ASKED_FOR) else Refusals.NONE_OTHERWISE


def _kissed(observations: Iterable[Observation]) -> frozenset[int]:
    kinds: dict[int, set[RefusalKind | None]] = {}
    for seen in observations:
        if seen.outcome is Outcome.REFUSED:
            kinds.setdefault(seen.row, set()).add(seen.refusal)
    return frozenset(row for row, ways in kinds.items() if ways == {RefusalKind.KISS})


def _answered_where_silent(layout: Layout, rounds: Sequence[Round], cells: list[list[Outcome | None]]) -> bool:
    """Looked at in every round, whether it counts or not."""
    for i in layout.must_be_silent:
        wanted = layout.silent[i]
        for outcome, fired in zip(cells[i], rounds, strict=True):
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
    challenge: Challenge, rounds: Sequence[Round], cells: list[list[Outcome | None]], absent: dict[int, list[int]]
) -> tuple[RoundState, ...]:
    rows, layout = challenge.rows, challenge.layout
    served = [[outcome is not None and outcome.shows_presence for outcome in line] for line in cells]
    states: list[RoundState] = []
    for number, fired in enumerate(rounds):
        asked, open_witnesses = layout.asked[fired.window], layout.open_witnesses[fired.window]
        answered = [i for i in asked if served[i][number]]
        witnessed = sum([served[i][number] for i in open_witnesses]) if open_witnesses else 0
        reason: Reason | None = None
        if absent and absent[number]:
            reason = Reason.REPORT_MISSING
        elif len(answered) < len(asked) and not _is_quorum(rows, asked, answered):
            reason = Reason.MONITORS_BELOW_QUORUM if answered else _nobody(cells, asked, number, Reason.TARGET_DOWN)
        elif open_witnesses and not witnessed:
            reason = _nobody(cells, open_witnesses, number, Reason.WITNESSES_NOT_SERVED)
        states.append(
            RoundState(number, fired.window, reason, len(asked), len(answered), len(open_witnesses), witnessed)
        )
    return tuple(states)


def _nobody(cells: list[list[Outcome | None]], asked: Sequence[int], number: int, reason: Reason) -> Reason:
    """Why nobody was answered: what that says of the target, unless all who asked failed by themselves."""
    return Reason.PROBES_FAILED if all(cells[i][number] is Outcome.PROBE_FAILED for i in asked) else reason


def _is_quorum(rows: Sequence[Row], asked: Sequence[int], served: Sequence[int]) -> bool:
    """Enough monitors, and of enough registries if the cohort has them."""
    regions = min(_MONITOR_REGIONS, _regions(rows, asked))
    return len(served) >= quorum(len(asked)) and _regions(rows, served) >= regions


def _regions(rows: Sequence[Row], served: Sequence[int]) -> int:
    return len({rows[i].perspective.rir for i in served})
