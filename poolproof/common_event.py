"""The pattern that one event would have to cut: which failure domains fell silent, and which were answered.

A failure domain is an ASN here, over all windows: an event cuts it once and for good. Regions need no rule of their
own, because the bound holds however the event chose whom it cut (`evidence.event_evidence`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache

from poolproof.challenge import Layout, Row
from poolproof.evidence import event_evidence
from poolproof.matrix import Matrix, RoundState
from poolproof.policy import Policy


def against_one_event(
    matrix: Matrix,
    counted: Sequence[RoundState],
    worths: Mapping[tuple[int, int], float],
    refusing: Set[tuple[int, int]],
    policy: Policy,
) -> float:
    """Nats against "one event since the baseline made this pattern".

    Args:
        matrix: what was seen.
        counted: the rounds that count.
        worths: by domain and window that count as silent, what they are worth path by path.
        refusing: which of them refused. They alone are also held against an event that refuses, which is rarer; the
            rest of the pattern is then no evidence. Either is a bound, so the larger counts.
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
    others = answering.keys() - quiet
    unanswered = sum(not answering[asn] for asn in others)
    domains = len(quiet) + len(others)

    def against(event: float, pattern: Iterable[tuple[int, int]]) -> float:
        cut: dict[int, float] = {}
        toggling: list[float] = []
        for domain in pattern:
            asn = domain[0]
            if asn in quiet:
                cut[asn] = cut.get(asn, 0.0) + worths[domain]
            else:
                # It is to be answered in another window, or by another vantage: no lasting event makes it silent.
                toggling.append(worths[domain])
        cutting = event_evidence(event, domains, len(quiet), unanswered, tuple(sorted(cut.values())))
        return math.fsum((cutting, *toggling))

    nats = against(policy.common_cut, worths)
    return max(nats, against(policy.common_refusal, refusing)) if refusing else nats


def most_against_one_event(matrix: Matrix, refusing: Set[int], silent: Set[int], policy: Policy) -> float:
    """The most that any rounds can make of it, where only the refusals and the silence of these ASNs count."""
    quiet = _quiet(matrix.rows, matrix.layout)
    others = {matrix.rows[i].perspective.asn for wanted in _wanted(matrix.layout) for i in wanted} - quiet
    return _most(len(quiet) + len(others), len(quiet), len(quiet & refusing), len(quiet & (refusing | silent)), policy)


@lru_cache(maxsize=1024)
def _most(domains: int, quiet: int, refusing: int, counting: int, policy: Policy) -> float:
    each = policy.most_per_refusing_domain
    by_refusals = event_evidence(policy.common_refusal, domains, quiet, 0, (each,) * refusing)
    return max(by_refusals, event_evidence(policy.common_cut, domains, quiet, 0, (each,) * counting))


def _wanted(layout: Layout) -> tuple[tuple[int, ...], ...]:
    return layout.asked + layout.open_witnesses


def _quiet(rows: Sequence[Row], layout: Layout) -> set[int]:
    """ASNs of rows that are to be silent in every window."""
    return {rows[i].perspective.asn for i in layout.must_be_silent if all(layout.silent[i])}
