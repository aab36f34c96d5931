"""Who looks, and as what: candidates for the baseline, and roles drawn from those that got an answer.

Roles come from a keyed hash over the verification and the attempt, so that neither the applicant nor a probe can
foresee them, and everybody with the key can check them afterwards. They are drawn after the baseline: a vantage that
the target never answered cannot show that it has been blocked.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from poolproof.challenge import Challenge, Expectation, Method, Path, Row, expectation, within_reach
from poolproof.exchange import ExchangeKind
from poolproof.fleet import Perspective, Role, Vantage
from poolproof.ids import VantageId
from poolproof.policy import Policy
from poolproof.refusal import ASKED_FOR
from poolproof.target import Family, Target, halves
from poolproof.variant import Variant

_DRAWS = 64
"""Seeded orders that are tried until one spans all that is asked for; of so many that do not, the best is taken."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A vantage that takes part in the baseline; its role is not yet drawn.

    Attributes:
        vantage: the vantage.
        source: what the baseline is sent from, which must be what a silent role shows later: an address that was never
            answered before the challenge proves nothing by not being answered after it.
    """

    vantage: Vantage
    source: str


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many vantages a cohort has in each role, if the fleet has so many.

    Attributes:
        silent: verifiers of `block`, witnesses of `allow-only`.
        monitors: that are to be answered.
        witnesses: of `block`.
    """

    silent: int
    monitors: int
    witnesses: int

    @property
    def total(self) -> int:
        """All vantages with a role."""
        return self.silent + self.monitors + self.witnesses


def sizes(variant: Variant, attempt: int, policy: Policy, *, lossy: bool = False) -> Sizes:
    """The cohort of one attempt; `lossy` if the baseline lost anything.

    In `allow-only` everybody but the monitors is a witness that must be silent. Attempt k needs 2 ln k nats more than
    the first, and against one event only more vantages give more, about ln 2 each: later attempts ask 2 ln k / ln 2
    vantages more, half of them silent. Where packets get lost, one vantage more on the smaller side makes two rounds
    suffice although an answer is missing in one of them, which costs less than a third round.
    """
    more = math.ceil(2 * math.log2(attempt))
    silent, answered = more // 2, more - more // 2
    if variant is Variant.ALLOW_ONLY:
        return Sizes(policy.must_be_silent + policy.witnesses + silent, policy.monitors + answered + lossy, 0)
    # Every verifier is a line that the owner has to write; a witness costs them nothing.
    return Sizes(policy.must_be_silent + silent + lossy, policy.monitors, policy.witnesses + answered)


def candidates(
    fleet: Sequence[Vantage], target: Target, variant: Variant, attempt: int, seed: bytes, policy: Policy
) -> tuple[Candidate, ...]:
    """Vantages for the baseline of one attempt: a full cohort and some spares, spread over ASNs and registries.

    Args:
        fleet: vantages that can work now.
        target: decides the family.
        variant: decides how many witnesses there are.
        attempt: number of the attempt; decides how many vantages take part.
        seed: 32 bytes, fixed for this attempt.
        policy: sizes.
    """
    usable = {vantage.id: vantage for vantage in fleet if _source(vantage, target.family) is not None}
    wanted = sizes(variant, attempt, policy)
    size = wanted.total + policy.spares
    ideal = _coverage(tuple(usable.values()), target.family, wanted, policy)
    best: tuple[tuple[int, int], list[Vantage]] | None = None
    for number in range(_DRAWS):
        order = _shuffled(list(usable), seed, f"candidates/{number}")
        chosen = _spread([usable[vantage] for vantage in order])[:size]
        covered = _coverage(chosen, target.family, wanted, policy)
        if best is None or covered > best[0]:
            best = covered, chosen
        if covered >= ideal:
            break
    taken = best[1] if best is not None else []
    return tuple(Candidate(vantage, source) for vantage in taken if (source := _source(vantage, target.family)))


def _coverage(vantages: Sequence[Vantage], family: Family, wanted: Sizes, policy: Policy) -> tuple[int, int]:
    """What candidates need beside many ASNs: enough that can be monitors, and registries for both sides."""
    able = sum(vantage.source(family) is not None for vantage in vantages)
    held = [vantage.rir for vantage in vantages]
    return min(wanted.monitors, able), min(policy.min_rirs, sum(held.count(rir) >= 2 for rir in set(held)))


def _source(vantage: Vantage, family: Family) -> str | None:
    """What a vantage shows in a role that must be silent, as far as it has it.

    An IPv6 prefix rather than an address: silence at its random addresses cannot be forged even by somebody who knows
    the whole fleet, be it told to the owner (`block`) or to nobody (`allow-only`).
    """
    return vantage.source(family, prefix=True) or vantage.source(family)


def _shuffled(ids: Sequence[VantageId], seed: bytes, label: str) -> list[VantageId]:
    return sorted(ids, key=lambda vantage: hmac.digest(seed, f"{label}/{vantage}".encode(), "sha256"))


def _spread(ordered: Sequence[Vantage]) -> list[Vantage]:
    """The same vantages, those of an ASN not yet seen first, so that a short cut-off keeps many failure domains."""
    seen: dict[int, int] = {}
    ranked: list[tuple[int, int, Vantage]] = []
    for place, vantage in enumerate(ordered):
        ranked.append((seen.get(vantage.asn, 0), place, vantage))
        seen[vantage.asn] = seen.get(vantage.asn, 0) + 1
    return [vantage for _, _, vantage in sorted(ranked, key=lambda entry: entry[:2])]


def draw(
    answered: Sequence[tuple[Candidate, Path]],
    target: Target,
    variant: Variant,
    attempt: int,
    seed: bytes,
    policy: Policy,
) -> Challenge | None:
    """Draw roles among the candidates that the target answered, and lay out the challenge.

    Args:
        answered: candidates whose baseline suffices, each with what it said of the path.
        target: decides the family of the sources.
        variant: decides which roles there are.
        attempt: number of the attempt; decides the sizes and what is within reach.
        seed: 32 bytes, fixed for this attempt.
        policy: sizes.

    Returns:
        The challenge with the best spread, or None if not even weak assurance is within reach.
    """
    paths = {candidate.vantage.id: (candidate.vantage, path) for candidate, path in answered}
    wanted = sizes(variant, attempt, policy, lossy=any(path.answered < path.asked for _, path in answered))
    ideal = (wanted.silent, policy.min_rirs, wanted.monitors, policy.min_rirs)
    best: tuple[tuple[int, ...], tuple[Row, ...]] | None = None
    for number in range(_DRAWS):
        order = [paths[vantage][0] for vantage in _shuffled(list(paths), seed, f"roles/{number}")]
        rows = _rows(_assign(order, target.family, variant, wanted), paths, target.family, variant)
        score = _score(rows, policy)
        if best is None or score > best[0]:
            best = score, rows
        if score >= ideal:
            break
    if best is None:
        return None
    rows = _with_halves(_with_refusals(best[1], seed), seed)
    aim = within_reach(policy, rows, attempt)
    return None if aim is None else Challenge(Method.DIFFERENTIAL, variant, rows, aim)


def _assign(order: Sequence[Vantage], family: Family, variant: Variant, wanted: Sizes) -> list[tuple[Vantage, Role]]:
    """Roles in one order: must-be-silent ones from as many failure domains as can be, then monitors, then witnesses."""
    quiet = Role.MUST_BE_BLOCKED if variant is Variant.BLOCK else Role.WITNESS
    able = {vantage.id for vantage in order if vantage.source(family) is not None}
    monitors = min(wanted.monitors, max(1, len(order) // 2), len(able))
    # A vantage that has nothing but a prefix cannot be a monitor, which shows one address: silent ones first.
    chosen = _spread(sorted(order, key=lambda vantage: vantage.id in able))
    silent = chosen[: min(wanted.silent, len(order) - monitors)]
    taken = {vantage.id for vantage in silent}
    rest = [vantage for vantage in _spread([v for v in order if v.id not in taken]) if vantage.id in able]
    roles = [
        *((vantage, quiet) for vantage in silent),
        *((vantage, Role.ALLOWED_MONITOR) for vantage in rest[:monitors]),
    ]
    if variant is Variant.BLOCK:
        roles += [(vantage, Role.WITNESS) for vantage in rest[monitors:][: wanted.witnesses]]
    return roles


def _rows(
    roles: Sequence[tuple[Vantage, Role]],
    paths: dict[VantageId, tuple[Vantage, Path]],
    family: Family,
    variant: Variant,
) -> tuple[Row, ...]:
    order = (Role.ALLOWED_MONITOR, Role.MUST_BE_BLOCKED, Role.WITNESS)
    rows: list[Row] = []
    for vantage, role in sorted(roles, key=lambda pair: (order.index(pair[1]), pair[0].id)):
        silent = _source(vantage, family)
        expected = expectation(variant, role)
        source = silent if expected is Expectation.SILENCE else vantage.source(family) or silent
        perspective = Perspective(vantage.id, role, source or "", vantage.asn, vantage.rir)
        rows.append(Row(perspective, ExchangeKind.CLIENT_V4, (expected,), paths[vantage.id][1]))
    return tuple(rows)


def _with_refusals(rows: tuple[Row, ...], seed: bytes) -> tuple[Row, ...]:
    """Each verifier asks to be refused in one of two ways, drawn in turn; see `poolproof.refusal`."""
    verifiers = [row.perspective.vantage for row in rows if row.perspective.role is Role.MUST_BE_BLOCKED]
    order = {vantage: place for place, vantage in enumerate(_shuffled(verifiers, seed, "refusals"))}
    return tuple(
        replace(row, refusal=ASKED_FOR[order[row.perspective.vantage] % len(ASKED_FOR)])
        if row.perspective.role is Role.MUST_BE_BLOCKED
        else row
        for row in rows
    )


def _with_halves(rows: tuple[Row, ...], seed: bytes) -> tuple[Row, ...]:
    """Of each verifier's prefix the owner is told one half, drawn by the seed; the other must go on being answered."""
    halved: list[Row] = []
    for row in rows:
        view = row.perspective
        parts = halves(view.source) if view.role is Role.MUST_BE_BLOCKED and view.is_prefix else None
        if parts is None:
            halved.append(row)
            continue
        upper = hmac.digest(seed, f"half/{view.vantage}".encode(), "sha256")[0] & 1
        halved.append(replace(row, perspective=replace(view, source=parts[upper]), neighbour=parts[1 - upper]))
    return tuple(halved)


def _score(rows: Sequence[Row], policy: Policy) -> tuple[int, ...]:
    """What makes a draw good: failure domains, then registries on both sides, then registries that both sides share.

    Shared registries matter because an outage of one region must not look like "verifiers blocked, monitors answered".
    """
    silent = [row.perspective for row in rows if row.perspective.role is not Role.ALLOWED_MONITOR]
    if any(row.perspective.role is Role.MUST_BE_BLOCKED for row in rows):
        silent = [view for view in silent if view.role is Role.MUST_BE_BLOCKED]
    monitors = [row.perspective for row in rows if row.perspective.role is Role.ALLOWED_MONITOR]
    quiet, open_ = {view.rir for view in silent}, {view.rir for view in monitors}
    return (
        len({view.asn for view in silent}),
        min(policy.min_rirs, len(quiet), len(open_)),
        len({view.asn for view in monitors}),
        min(policy.min_rirs, len(quiet & open_)),
    )
