"""The pattern that one event would have to cut: which failure domains fell silent, and which were answered.

A failure domain is an ASN here, over all windows: an event cuts it once and for good. Regions need no rule of their
own, because the bound holds however the event chose whom it cut (`evidence.event_evidence`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from poolproof.challenge import Layout, Row
from poolproof.evidence import event_evidence
from poolproof.matrix import Matrix, RoundState
from poolproof.policy import Policy


def against_one_event(
    matrix: Matrix,
    counted: Sequence[RoundState],
    worths: Mapping[tuple[int, int], float],
    refusing: bool,
    policy: Policy,
) -> float:
    """Nats against "one event since the baseline made this pattern".

    Args:
        matrix: what was seen.
        counted: the rounds that count.
        worths: by domain and window that count as silent, what they are worth path by path.
        refusing: whether any of them refused, so that the event must be one that refuses.
        policy: the numbers.
    """
    rows = matrix.rows
    answering = {rows[i].perspective.asn: False for wanted in _wanted(matrix.layout) for i in wanted}
    for state in counted:
        number = state.number
        for wanted in (matrix.layout.asked[state.window], matrix.layout.open_witnesses[state.window]):
            for i in wanted:
                asn = rows[i].perspective.asn
                if not answering[asn]:
                    outcome = matrix.cells[i][number]
                    answering[asn] = outcome is not None and outcome.shows_presence
        if all(answering.values()):
            break
    quiet = _quiet(rows, matrix.layout)
    cut: dict[int, float] = {}
    toggling: list[float] = []
    for (asn, _), nats in worths.items():
        if asn in quiet:
            cut[asn] = cut.get(asn, 0.0) + nats
        else:
            # It is to be answered in another window, or by another vantage: no lasting event makes it silent.
            toggling.append(nats)
    others = answering.keys() - quiet
    unanswered = sum(not answering[asn] for asn in others)
    event = policy.common_refusal if refusing else policy.common_cut
    return math.fsum(
        (
            event_evidence(event, len(quiet) + len(others), len(quiet), unanswered, tuple(sorted(cut.values()))),
            *toggling,
        )
    )


def most_against_one_event(
    rows: Sequence[Row], layout: Layout, counting: Iterable[int], each: float, event: float
) -> float:
    """The most that any rounds can make of it, where only these ASNs' silence counts and is worth `each` at most."""
    quiet = _quiet(rows, layout)
    others = {rows[i].perspective.asn for wanted in _wanted(layout) for i in wanted} - quiet
    silent = (each,) * len(quiet.intersection(counting))
    return event_evidence(event, len(quiet) + len(others), len(quiet), 0, silent)


def _wanted(layout: Layout) -> tuple[tuple[int, ...], ...]:
    return layout.asked + layout.open_witnesses


def _quiet(rows: Sequence[Row], layout: Layout) -> set[int]:
    """ASNs of rows that are to be silent in every window."""
    return {rows[i].perspective.asn for i in layout.must_be_silent if all(layout.silent[i])}
