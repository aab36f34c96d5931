"""What the counted rounds of a matrix are worth, in nats, and which part of it no off-path attacker can bring about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from poolproof.evidence import domain_evidence, loss_bound, round_evidence
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
    silences: list[_Silence] = []
    showed: list[int] = []
    for i in matrix.layout.must_be_silent:
        line, forgeable, shows = matrix.cells[i], matrix.layout.forgeable[i], False
        for window, wants in enumerate(matrix.layout.silent[i]):
            if not wants:
                continue
            domain = (matrix.rows[i].perspective.asn, window)
            unforgeable[domain] = unforgeable.get(domain, False) or not forgeable
            mine = numbers.get(window, ())
            silent = [number for number in mine if line[number] is _SILENT]
            if len(silent) < len(mine) and any(line[number] is _REFUSED for number in mine):
                refusing.add(domain)
                shows = True
            if silent:
                silences.append(_Silence(i, domain, forgeable, silent))
                shows = True
        if shows:
            showed.append(i)
    # Kernels limit the ICMP that they send: beside refusals of its domain a silence says nothing more.
    silences = [silence for silence in silences if silence.domain not in refusing]
    refused = len(refusing) * policy.most_per_refusing_domain
    total = unforged = _silence(matrix, counted, silences, policy)
    if any(silence.forgeable for silence in silences):
        unforged = _silence(matrix, counted, [silence for silence in silences if not silence.forgeable], policy)
    return Weight(
        total=refused + total,
        unforgeable=refused + unforged,
        # Where one domain refuses, the others may yet.
        unforgeable_limit=len(unforgeable) * policy.most_per_refusing_domain
        if refusing
        else sum(unforgeable.values()) * policy.most_per_domain,
        silent=tuple(showed),
        refusing=bool(refusing),
    )


class _Silence(NamedTuple):
    """One row's counted silent exchanges in one window."""

    row: int
    domain: _Domain
    forgeable: bool
    rounds: list[int]


def _silence(matrix: Matrix, counted: list[RoundState], silences: list[_Silence], policy: Policy) -> float:
    """The cheaper of the two ways in which the network could have made these silences."""
    if not silences:
        return 0.0
    by_domain: dict[_Domain, list[tuple[float, int]]] = {}
    by_round = [0] * len(matrix.states)
    for silence in silences:
        path = matrix.rows[silence.row].path
        loss = loss_bound(path.asked, path.answered, policy.loss_confidence, policy.loss_floor)
        by_domain.setdefault(silence.domain, []).append((loss, len(silence.rounds)))
        for number in silence.rounds:
            by_round[number] += 1
    dark, error = policy.dark_path, policy.enacted_error
    # fsum is exact, so that the order of rows and rounds cannot change the last bit of a sum.
    path_by_path = math.fsum(domain_evidence(dark, error, tuple(sorted(losses))) for losses in by_domain.values())
    all_at_once = math.fsum(
        round_evidence(
            state.monitors, state.served, state.witnesses, state.witnessed, by_round[state.number], policy.expected_loss
        )
        for state in counted
    )
    return min(path_by_path, all_at_once)
