"""What the counted rounds of a matrix are worth, in nats, and which part of it no off-path attacker can bring about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from poolproof.common_event import against_one_event, most_against_one_event
from poolproof.evidence import domain_evidence, jointly, loss_bound, round_evidence
from poolproof.matrix import Matrix, RoundState
from poolproof.outcome import Outcome
from poolproof.policy import Assurance, Policy

_SILENT, _REFUSED = Outcome.SILENT, Outcome.REFUSED
_WORTH_WAITING_FOR = (Assurance.MEDIUM, Assurance.STRONG)

_Domain = tuple[int, int]
"""ASN and window: what goes dark together. Each window of a timed challenge is an independent factor."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What the counted rounds are worth.

    Attributes:
        worth: by assurance, nats against H0, "nobody enacted the challenge", from what an attacker leaves standing
            at that assurance: everything for weak, what cannot be forged for strong.
        limit: by assurance above weak, the most that more rounds can make of it.
        silent: indices of rows whose silence or refusals counted.
        refusing: whether any failure domain refused.
    """

    worth: Mapping[Assurance, float]
    limit: Mapping[Assurance, float]
    silent: tuple[int, ...]
    refusing: bool

    @property
    def total(self) -> float:
        """Nats from everything."""
        return self.worth[Assurance.WEAK]

    @property
    def unforgeable(self) -> float:
        """Nats from what no off-path attacker can bring about."""
        return self.worth[Assurance.STRONG]


def weigh(matrix: Matrix, policy: Policy, *, watched: bool = False) -> Weight:
    """Weigh the rounds that count.

    Args:
        matrix: what was seen.
        policy: the numbers.
        watched: as if every probe had a tripwire; to tell what its lack costs.
    """
    counted = [state for state in matrix.states if state.reason is None]
    numbers: dict[int, list[int]] = {}
    for state in counted:
        numbers.setdefault(state.window, []).append(state.number)
    unwatched = frozenset[int]() if watched else matrix.unwatched
    refusing: set[_Domain] = set()
    domains: dict[_Domain, tuple[Assurance, Assurance]] = {}
    blocked: list[_Blocked] = []
    for i in matrix.layout.must_be_silent:
        line = matrix.cells[i]
        standing = _standing(matrix.layout.forgeable[i], matrix.refuses_unasked, i in unwatched)
        for window, wants in enumerate(matrix.layout.silent[i]):
            if not wants:
                continue
            domain = (matrix.rows[i].perspective.asn, window)
            held = domains.get(domain)
            domains[domain] = standing if held is None else (max(held[0], standing[0]), max(held[1], standing[1]))
            mine = numbers.get(window, ())
            silent = [number for number in mine if line[number] is _SILENT]
            refused = [number for number in mine if line[number] is _REFUSED] if len(silent) < len(mine) else []
            if refused:
                refusing.add(domain)
            if silent or refused:
                blocked.append(_Blocked(i, domain, silent, refused, *standing))
    return Weight(
        worth=_by_assurance(matrix, counted, blocked, policy),
        limit={level: _limit(matrix, domains, level, bool(refusing), policy) for level in _WORTH_WAITING_FOR},
        silent=tuple(dict.fromkeys(row.row for row in blocked)),
        refusing=bool(refusing),
    )


def _standing(forgeable: bool, refuses_unasked: bool, unwatched: bool) -> tuple[Assurance, Assurance]:
    """Up to which assurance a row's silence and its refusals stand against an attacker.

    Silence at an address that was told can be forged (design 2a). A refusal that quotes our packet cannot, whoever was
    asked, unless something before the target refuses by itself. Where no tripwire looked for a flood's backscatter,
    all is worth one less.
    """
    silence = Assurance.MEDIUM if forgeable else Assurance.STRONG
    refusal = Assurance.MEDIUM if refuses_unasked else Assurance.STRONG
    return _LESS[silence] if unwatched else silence, _LESS[refusal] if unwatched else refusal


_LESS = {Assurance.STRONG: Assurance.MEDIUM, Assurance.MEDIUM: Assurance.WEAK}


class _Blocked(NamedTuple):
    """One row's counted exchanges in one window that were not answered, by number of the round, and what they stand."""

    row: int
    domain: _Domain
    silent: list[int]
    refused: list[int]
    silence: Assurance
    refusal: Assurance


def _by_assurance(
    matrix: Matrix, counted: list[RoundState], blocked: list[_Blocked], policy: Policy
) -> dict[Assurance, float]:
    worth: dict[Assurance, float] = {}
    last: list[_Blocked] | None = None
    nats = 0.0
    for level in Assurance:
        standing = [
            row._replace(
                silent=row.silent if row.silence >= level else [], refused=row.refused if row.refusal >= level else []
            )
            for row in blocked
            if row.silence >= level or (row.refused and row.refusal >= level)
        ]
        if standing != last:
            nats = _worth(matrix, counted, standing, policy)
            last = standing
        worth[level] = nats
    return worth


def _limit(
    matrix: Matrix,
    domains: Mapping[_Domain, tuple[Assurance, Assurance]],
    level: Assurance,
    refusing: bool,
    policy: Policy,
) -> float:
    """The most that rounds without end can make of what stands at one assurance."""
    # Where one domain refuses, the others may yet.
    refusals = {domain for domain, (_, refusal) in domains.items() if refusing and refusal >= level}
    silences = {domain for domain, (silence, _) in domains.items() if silence >= level} - refusals
    nats = len(refusals) * policy.most_per_refusing_domain + len(silences) * policy.most_per_domain
    return jointly(
        nats, most_against_one_event(matrix, {asn for asn, _ in refusals}, {asn for asn, _ in silences}, policy)
    )


def _worth(matrix: Matrix, counted: list[RoundState], blocked: list[_Blocked], policy: Policy) -> float:
    """Nats against all ways together in which the network could have made this.

    Path by path, a refusing domain is worth what it takes to refuse, and its silences nothing more, because kernels
    limit the ICMP that they send. All at once, a refusal is one more exchange that was not answered: a target that
    rejects a random share of everything (a global limiter) must not look like an owner.
    """
    if not blocked:
        return 0.0
    refusing = {row.domain for row in blocked if row.refused}
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
    return jointly(path_by_path, all_at_once, against_one_event(matrix, counted, worths, refusing, policy))
