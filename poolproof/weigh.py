"""What the counted rounds of a matrix are worth, in nats, and which part of it no off-path attacker can bring about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from poolproof.common_event import against_one_event, most_against_one_event
from poolproof.evidence import domain_evidence, jointly, loss_bound, round_evidence
from poolproof.matrix import Matrix, RoundState
from poolproof.outcome import Outcome
from poolproof.policy import Policy

_SILENT, _REFUSED = Outcome.SILENT, Outcome.REFUSED

_Domain = tuple[int, int]
"""ASN and window: what goes dark together. Each window of a timed challenge is an independent factor."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What the counted rounds are worth.

    Attributes:
        total: nats against H0, "nobody enacted the challenge".
        unforgeable: nats from refusals, witnesses and random addresses alone.
        unforgeable_limit: the most that more rounds can make of `unforgeable`.
        silent: indices of rows whose silence or refusals counted.
        refusing: whether any failure domain refused.
    """

    total: float
    unforgeable: float
    unforgeable_limit: float
    silent: tuple[int, ...]
    refusing: bool


def weigh(matrix: Matrix, policy: Policy) -> Weight:
    """Weigh the rounds that count."""
    counted = [state for state in matrix.states if state.reason is None]
    numbers: dict[int, list[int]] = {}
    for state in counted:
        numbers.setdefault(state.window, []).append(state.number)
    refusing: set[_Domain] = set()
    unforgeable: dict[_Domain, bool] = {}
    blocked: list[_Blocked] = []
    for i in matrix.layout.must_be_silent:
        line, forgeable = matrix.cells[i], matrix.layout.forgeable[i]
        for window, wants in enumerate(matrix.layout.silent[i]):
            if not wants:
                continue
            domain = (matrix.rows[i].perspective.asn, window)
            unforgeable[domain] = unforgeable.get(domain, False) or not forgeable
            mine = numbers.get(window, ())
            silent = [number for number in mine if line[number] is _SILENT]
            refused = [number for number in mine if line[number] is _REFUSED] if len(silent) < len(mine) else []
            if refused:
                refusing.add(domain)
            if silent or refused:
                blocked.append(_Blocked(i, domain, silent, refused))
    total = unforged = _worth(matrix, counted, blocked, refusing, policy)
    if any(matrix.layout.forgeable[row.row] for row in blocked):
        # A refusal that quotes our packet cannot be forged, whoever was asked; silence there can.
        surely = [
            row._replace(silent=[]) if matrix.layout.forgeable[row.row] else row
            for row in blocked
            if row.refused or not matrix.layout.forgeable[row.row]
        ]
        unforged = _worth(matrix, counted, surely, refusing, policy)
    return Weight(
        total=total,
        unforgeable=unforged,
        unforgeable_limit=_limit(matrix, unforgeable, bool(refusing), policy),
        silent=tuple(dict.fromkeys(row.row for row in blocked)),
        refusing=bool(refusing),
    )


def _limit(matrix: Matrix, unforgeable: dict[_Domain, bool], refusing: bool, policy: Policy) -> float:
    """The most that rounds without end can make of the unforgeable part."""
    # Where one domain refuses, the others may yet.
    counting = [domain for domain, is_so in unforgeable.items() if is_so or refusing]
    each, event = (
        (policy.most_per_refusing_domain, policy.common_refusal)
        if refusing
        else (policy.most_per_domain, policy.common_cut)
    )
    one_event = most_against_one_event(matrix.rows, matrix.layout, (asn for asn, _ in counting), each, event)
    return jointly(len(counting) * each, one_event)


class _Blocked(NamedTuple):
    """One row's counted exchanges in one window that were not answered, by number of the round."""

    row: int
    domain: _Domain
    silent: list[int]
    refused: list[int]


def _worth(
    matrix: Matrix, counted: list[RoundState], blocked: list[_Blocked], refusing: set[_Domain], policy: Policy
) -> float:
    """Nats against all ways together in which the network could have made this.

    Path by path, a refusing domain is worth what it takes to refuse, and its silences nothing more, because kernels
    limit the ICMP that they send. All at once, a refusal is one more exchange that was not answered: a target that
    rejects a random share of everything (a global limiter) must not look like an owner.
    """
    if not blocked:
        return 0.0
    by_domain: dict[_Domain, list[tuple[float, int]]] = {}
    by_round = [0] * len(matrix.states)
    for row in blocked:
        if row.silent and row.domain not in refusing:
            path = matrix.rows[row.row].path
            loss = loss_bound(path.asked, path.answered, policy.loss_confidence, policy.loss_floor)
            by_domain.setdefault(row.domain, []).append((loss, len(row.silent)))
        for number in row.silent:
            by_round[number] += 1
        for number in row.refused:
            by_round[number] += 1
    dark, error = policy.dark_path, policy.enacted_error
    # fsum is exact, so that the order of rows and rounds cannot change the last bit of a sum.
    worths = dict.fromkeys(refusing, policy.most_per_refusing_domain)
    for domain, losses in by_domain.items():
        worths[domain] = domain_evidence(dark, error, tuple(sorted(losses)))
    path_by_path = math.fsum(worths.values())
    all_at_once = math.fsum(
        round_evidence(
            state.monitors, state.served, state.witnesses, state.witnessed, by_round[state.number], policy.expected_loss
        )
        for state in counted
    )
    return jointly(path_by_path, all_at_once, against_one_event(matrix, counted, worths, bool(refusing), policy))
