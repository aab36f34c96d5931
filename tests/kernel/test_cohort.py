"""Who looks and as what: drawn so that nobody foresees it, spread as far as the fleet allows."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.challenge import Challenge, Expectation, Path, within_reach
from poolproof.cohort import Candidate, candidates, draw
from poolproof.fleet import Rir, Role, Vantage
from poolproof.ids import VantageId
from poolproof.policy import Assurance
from poolproof.target import Target, whole
from poolproof.variant import Variant
from tests.kernel.fleets import POLICY, TARGET, TARGET6, fleet, vantage

SEED = bytes(range(32))
CLEAN = Path(8, 8)


def drawn(
    vantages: Sequence[Vantage],
    variant: Variant = Variant.BLOCK,
    *,
    seed: bytes = SEED,
    target: Target = TARGET,
    attempt: int = 1,
) -> Challenge | None:
    chosen = candidates(vantages, target, variant, attempt, seed, POLICY)
    return draw([(candidate, CLEAN) for candidate in chosen], target, variant, attempt, seed, POLICY)


def must(challenge: Challenge | None) -> Challenge:
    assert challenge is not None
    return challenge


def roles(challenge: Challenge) -> dict[VantageId, Role]:
    return {row.perspective.vantage: row.perspective.role for row in challenge.rows}


def seeds(count: int) -> list[bytes]:
    entropy = random.Random(7)
    return [entropy.randbytes(32) for _ in range(count)]


fleets = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(Rir), st.booleans(), st.booleans()), min_size=1, max_size=20
).map(
    lambda entries: tuple(
        Vantage(
            VantageId(f"v{i:02}"),
            f"192.0.2.{i + 1}" if has_address else None,
            f"2001:db8:ffff::{i + 1:x}" if has_address else None,
            f"2001:db8:{i + 1:x}::/64" if has_prefix or not has_address else None,
            64500 + asn,
            rir,
        )
        for i, (asn, rir, has_address, has_prefix) in enumerate(entries)
    )
)


@given(fleets, st.sampled_from(Variant), st.binary(min_size=32, max_size=32), st.sampled_from([TARGET, TARGET6]))
def test_every_challenge_keeps_its_promises(
    vantages: tuple[Vantage, ...], variant: Variant, seed: bytes, target: Target
) -> None:
    by_id = {each.id: each for each in vantages}
    asked = {each.vantage.id: each.source for each in candidates(vantages, target, variant, 1, seed, POLICY)}
    challenge = drawn(vantages, variant, seed=seed, target=target)
    if challenge is None:
        return
    views = [row.perspective for row in challenge.rows]
    assert len({view.vantage for view in views}) == len(views), "one role each"
    assert set(roles(challenge)) <= set(asked)
    assert len(challenge.monitors) in range(1, POLICY.monitors + 1)
    assert not any(view.is_prefix for view in challenge.monitors), "a monitor shows one address"
    if variant is Variant.ALLOW_ONLY:
        assert not challenge.verifiers
        assert challenge.witnesses
    for row in challenge.rows:
        view = row.perspective
        shown = whole(row.neighbour) if row.neighbour else view.source
        assert shown in (by_id[view.vantage].ipv4, by_id[view.vantage].ipv6, by_id[view.vantage].ipv6_prefix)
        assert bool(row.neighbour) is (view.is_prefix and view.role is Role.MUST_BE_BLOCKED)
        assert not row.neighbour or whole(view.source) == shown
        assert (view.asn, view.rir) == (by_id[view.vantage].asn, by_id[view.vantage].rir)
        if any(expected.value == "silence" for expected in row.expected):
            assert shown == asked[view.vantage], "silence counts only where the baseline was answered"
    assert challenge.aim is within_reach(POLICY, challenge.rows, 1)


@given(fleets, st.randoms(use_true_random=False), st.sampled_from(Variant))
def test_the_order_of_the_fleet_and_of_the_answers_changes_nothing(
    vantages: tuple[Vantage, ...], order: random.Random, variant: Variant
) -> None:
    shuffled = list(vantages)
    order.shuffle(shuffled)
    chosen = candidates(vantages, TARGET6, variant, 1, SEED, POLICY)
    assert candidates(shuffled, TARGET6, variant, 1, SEED, POLICY) == chosen
    answered = [(candidate, CLEAN) for candidate in chosen]
    first = draw(answered, TARGET6, variant, 1, SEED, POLICY)
    order.shuffle(answered)
    assert draw(answered, TARGET6, variant, 1, SEED, POLICY) == first


def test_the_seed_alone_decides() -> None:
    everyone = fleet(30)
    draws = [roles(must(drawn(everyone, seed=seed))) for seed in seeds(20)]
    assert draws == [roles(must(drawn(everyone, seed=seed))) for seed in seeds(20)]
    assert len({tuple(sorted(each.items())) for each in draws}) == 20


def test_nobody_foresees_who_looks_as_what() -> None:
    """Each of 30 equal vantages comes as often as chance has it: 400 draws, five standard deviations."""
    everyone = fleet(30)
    counted: Counter[tuple[VantageId, Role]] = Counter()
    for seed in seeds(400):
        counted.update(roles(must(drawn(everyone, seed=seed))).items())
    for role, size in ((Role.ALLOWED_MONITOR, 5), (Role.MUST_BE_BLOCKED, 5), (Role.WITNESS, 3)):
        share = size / 30
        spread = 5 * (400 * share * (1 - share)) ** 0.5
        for each in everyone:
            assert abs(counted[each.id, role] - 400 * share) < spread


def test_roles_change_with_the_attempt_even_if_the_same_vantages_answer() -> None:
    """The seed is of one attempt; a role does not follow from having been a candidate."""
    answered = [(candidate, CLEAN) for candidate in candidates(fleet(12), TARGET, Variant.BLOCK, 1, SEED, POLICY)]
    drawn_roles = [
        roles(must(draw(answered, TARGET, Variant.BLOCK, 1, seed, POLICY)))[VantageId("v03")] for seed in seeds(60)
    ]
    assert set(drawn_roles) == {Role.ALLOWED_MONITOR, Role.MUST_BE_BLOCKED, Role.WITNESS}


@pytest.mark.parametrize("variant", Variant)
def test_verifiers_come_from_as_many_failure_domains_as_there_are(variant: Variant) -> None:
    crowded = tuple(vantage(i, asn=64500 + max(0, i - 11)) for i in range(16))  # twelve share an ASN, five domains
    for seed in seeds(20):
        challenge = must(drawn(crowded, variant, seed=seed))
        silent = challenge.verifiers or challenge.witnesses
        assert len({view.asn for view in silent}) == 5


def test_both_sides_span_registries_although_most_vantages_are_in_one() -> None:
    lopsided = tuple(vantage(i, rir=Rir.RIPE if i < 27 else Rir.APNIC) for i in range(30))
    for seed in seeds(30):
        challenge = must(drawn(lopsided, seed=seed))
        assert {view.rir for view in challenge.monitors} == {Rir.RIPE, Rir.APNIC}
        assert {view.rir for view in challenge.verifiers} == {Rir.RIPE, Rir.APNIC}
        assert challenge.aim is Assurance.STRONG


def test_a_fleet_of_one_registry_gets_medium_at_best() -> None:
    challenge = must(drawn(tuple(vantage(i, rir=Rir.RIPE) for i in range(16)), Variant.ALLOW_ONLY))
    assert challenge.aim is Assurance.MEDIUM


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize(
    ("size", "monitors", "silent", "aim"),
    [
        (1, 0, 0, None),
        (2, 1, 1, None),
        (3, 1, 2, Assurance.WEAK),
        (4, 2, 2, Assurance.WEAK),
        (5, 2, 3, Assurance.MEDIUM),
        (7, 3, 4, Assurance.MEDIUM),
        (10, 5, 5, Assurance.MEDIUM),
    ],
)
def test_small_fleets_get_what_their_evidence_can_reach(
    variant: Variant, size: int, monitors: int, silent: int, aim: Assurance | None
) -> None:
    challenge = drawn(fleet(size), variant)
    if aim is None:
        assert challenge is None
        return
    assert challenge is not None
    quiet = challenge.verifiers if variant is Variant.BLOCK else challenge.witnesses
    assert (len(challenge.monitors), len(quiet), challenge.aim) == (monitors, silent, aim)


@pytest.mark.parametrize("variant", Variant)
def test_strong_takes_eleven_domains(variant: Variant) -> None:
    aims = [must(drawn(fleet(size), variant)).aim for size in (10, 11, 12)]
    assert aims == [Assurance.MEDIUM, Assurance.STRONG, Assurance.STRONG]


def test_a_small_fleet_suffices_for_fewer_attempts() -> None:
    assert drawn(fleet(3), attempt=1) is not None
    assert drawn(fleet(3), attempt=2) is None
    assert must(drawn(fleet(12), attempt=1)).aim is Assurance.STRONG
    assert must(drawn(fleet(12), attempt=2)).aim is Assurance.MEDIUM


@pytest.mark.parametrize("variant", Variant)
def test_later_attempts_ask_as_many_more_as_keeps_strong_within_reach(variant: Variant) -> None:
    everyone = fleet(60)
    for attempt in (1, 2, 3, 5, 10, 20, 50, 100, 1000):
        challenge = must(drawn(everyone, variant, attempt=attempt))
        assert challenge.aim is Assurance.STRONG
        assert len(challenge.rows) == 13 + math.ceil(2 * math.log2(attempt))


def test_where_the_baseline_lost_anything_one_more_takes_part() -> None:
    """Two rounds then bear an answer that is missing, which is cheaper than a third round."""
    for variant, roles_of in ((Variant.BLOCK, (6, 5, 3)), (Variant.ALLOW_ONLY, (0, 6, 8))):
        chosen = candidates(fleet(40), TARGET, variant, 1, SEED, POLICY)
        answered = [(candidate, Path(8, 7) if i == 3 else CLEAN) for i, candidate in enumerate(chosen)]
        challenge = must(draw(answered, TARGET, variant, 1, SEED, POLICY))
        assert (len(challenge.verifiers), len(challenge.monitors), len(challenge.witnesses)) == roles_of


def test_no_silent_set_is_drawn_much_more_often_than_another() -> None:
    """One event is held against 1/C(n, s), so the draw must not favour a set.

    It shuns those that share fewer than two of the five registries, which makes the others a little more frequent.
    """
    vantages, count = fleet(12), 7_920
    draws = Counter(
        frozenset(view.vantage for view in must(drawn(vantages, seed=seed)).verifiers) for seed in seeds(count)
    )
    mean = count / len(draws)
    assert len(draws) > 0.95 * math.comb(12, 5)
    assert max(draws.values()) <= 1.1 * mean + 5 * mean**0.5


def test_an_applicant_with_prefixes_alone_in_the_fleet_finds_no_monitor() -> None:
    prefixes = tuple(
        Vantage(VantageId(f"p{i}"), None, None, f"2001:db8:{i + 1:x}::/64", 64500 + i, Rir.RIPE) for i in range(12)
    )
    assert drawn(prefixes, target=TARGET6) is None
    assert candidates(prefixes, TARGET, Variant.BLOCK, 1, SEED, POLICY) == ()


def test_vantages_that_can_be_monitors_are_among_the_candidates_although_few_can() -> None:
    few = tuple(
        Vantage(
            VantageId(f"m{i:02}"),
            None,
            f"2001:db8:ffff::{i + 1:x}" if i < 5 else None,
            f"2001:db8:{i + 1:x}::/64",
            64500 + i,
            tuple(Rir)[i % 5],
        )
        for i in range(25)
    )
    for seed in seeds(10):
        assert len(must(drawn(few, seed=seed, target=TARGET6)).monitors) >= 4


def test_whoever_must_be_silent_shows_the_prefix_that_was_tried_and_others_an_address() -> None:
    """Somebody who knows the whole fleet can flood each of its addresses, and not each address of its prefixes."""
    everyone = fleet(16, prefix=True)
    for variant in Variant:
        for candidate in candidates(everyone, TARGET6, variant, 1, SEED, POLICY):
            assert candidate == Candidate(candidate.vantage, candidate.vantage.ipv6_prefix or "")
        for row in must(drawn(everyone, variant, target=TARGET6)).rows:
            assert row.perspective.is_prefix is (Expectation.SILENCE in row.expected)
