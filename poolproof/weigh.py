"""What the counted rounds of a matrix are worth, in nats, and which part of it no off-path attacker can bring about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from poolproof.common_event import against_one_event, most_against_one_event
from poolproof.evidence import domain_evidence, jointly, loss_bound, round_evidence
from poolproof.matrix import Matrix, Refusals, RoundState
from poolproof.outcome import Outcome
from poolproof.policy import Assurance, Policy

_SILENT, _REFUSED = Outcome.SILENT, Outcome.REFUSED

_Domain = tuple[int, int]
"""ASN and window: what goes dark together. Each window of a timed challenge is an independent factor."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What the counted rounds are worth.

    Attributes:
        worth: by assurance, nats against H0, "nobody enacted the challenge", from what an attacker leaves standing
            at that assurance: everything for weak, what cannot be forged for strong.
        limit: by assurance, the most that more rounds can make of it.
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
    domains: dict[_Domain, _Standing] = {}
    blocked: list[_Blocked] = []
    for i in matrix.layout.must_be_silent:
        line = matrix.cells[i]
        looked = i not in unwatched
        standing = _standing(matrix, i, forgeable=matrix.layout.forgeable[i], watched=looked)
        alone = [number for row, number in matrix.alone if row == i] if matrix.rows[i].neighbour else []
        for window, wants in enumerate(matrix.layout.silent[i]):
            if not wants:
                continue
            domain = (matrix.rows[i].perspective.asn, window)
            held = domains.get(domain)
            domains[domain] = standing if held is None else _Standing(*map(max, held, standing))
            mine = numbers.get(window, ())
            silent = [number for number in mine if line[number] is _SILENT]
            refused = [number for number in mine if line[number] is _REFUSED] if len(silent) < len(mine) else []
            if refused:
                refusing.add(domain)
            if alone:
                # Here a limit by prefix explains the silence, which a flood at one address of it can fill.
                lesser = _standing(matrix, i, forgeable=True, watched=looked)
                dim = [number for number in silent if number in alone]
                dim_refused = [number for number in refused if number in alone]
                if dim or dim_refused:
                    blocked.append(_Blocked(i, domain, dim, dim_refused, lesser.silence, lesser.refusal))
                silent = [number for number in silent if number not in alone]
                refused = [number for number in refused if number not in alone]
            if silent or refused:
                blocked.append(_Blocked(i, domain, silent, refused, standing.silence, standing.refusal))
    return Weight(
        worth=_by_assurance(matrix, counted, blocked, policy),
        limit=_Limits(matrix, domains, bool(refusing), policy),
        silent=tuple(dict.fromkeys(row.row for row in blocked)),
        refusing=bool(refusing),
    )


class _Standing(NamedTuple):
    """Up to which assurance a row's silence and refusals stand against an attacker, now and with refusals to come."""

    silence: Assurance
    refusal: Assurance
    refusal_at_best: Assurance


def _standing(matrix: Matrix, row: int, *, forgeable: bool, watched: bool) -> _Standing:
    """Silence at an address that was told can be forged (design 2a).

    A refusal that quotes our packet there stands only if the refusals are of the two ways that were asked for, which no
    rate limiter is, or the daemon's own. Where no tripwire looked for a flood's backscatter, all is worth one less.
    """
    silence = Assurance.MEDIUM if forgeable else Assurance.STRONG
    own = matrix.refusals is Refusals.AS_ASKED or row in matrix.kissed
    refusal = Assurance.STRONG if own else silence
    at_best = silence if matrix.refusals is Refusals.OTHERWISE and not own else Assurance.STRONG
    if watched:
        return _Standing(silence, refusal, at_best)
    return _Standing(_LESS[silence], _LESS[refusal], _LESS[at_best])


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


class _Limits(dict[Assurance, float]):
    """The most that rounds without end can make of what stands at each assurance; computed when it is asked for."""

    def __init__(self, matrix: Matrix, domains: Mapping[_Domain, _Standing], refusing: bool, policy: Policy) -> None:
        self._matrix, self._domains, self._refusing, self._policy = matrix, domains, refusing, policy

    def __missing__(self, level: Assurance) -> float:
        policy = self._policy
        # Where one domain refuses, the others may yet.
        refusals = {d for d, standing in self._domains.items() if self._refusing and standing.refusal_at_best >= level}
        silences = {d for d, standing in self._domains.items() if standing.silence >= level} - refusals
        nats = len(refusals) * policy.most_per_refusing_domain + len(silences) * policy.most_per_domain
        refusing, silent = {asn for asn, _ in refusals}, {asn for asn, _ in silences}
        return jointly(nats, most_against_one_event(self._matrix, refusing, silent, policy))


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
