"""The estimator of `make soak`, held to chances that can be computed, and to plain draws."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from poolproof.evidence import domain_evidence, event_evidence, jointly, loss_bound, round_evidence
from poolproof.policy import POLICY_2026_11, Assurance
from poolproof.variant import Variant
from poolproof.verdict import ControlProven
from tests.simulation.attempt import play
from tests.simulation.chance import posterior
from tests.simulation.literature import ABSENT, HONEST, MECHANISMS, picked
from tests.simulation.soak import Estimate, estimate
from tests.simulation.worlds import SECOND_NS, Cut, Owner, World

POLICY = POLICY_2026_11
SILENT, MONITORS = POLICY.must_be_silent + POLICY.witnesses, POLICY.monitors


def world(**what: object) -> World:
    return World("exact", Owner.ABSENT, Variant.ALLOW_ONLY, vantages=40, **what)  # type: ignore[arg-type]


def all_at_once(q: float) -> float:
    """Chance of a strong first attempt if all is answered with probability q: every sequence of counted rounds.

    A round is told by the monitor that was not answered in it, or None. Rounds with fewer answers are repeated.
    """
    quiet = (1 - q) ** SILENT
    counts: dict[int | None, float] = dict.fromkeys(range(MONITORS), q ** (MONITORS - 1) * (1 - q))
    counts[None] = q**MONITORS
    repeated = quiet * (1 - math.fsum(counts.values()))
    chance = {missed: quiet * p / (1 - repeated) for missed, p in counts.items()}
    loss = loss_bound(POLICY.baseline_exchanges, POLICY.baseline_exchanges, POLICY.loss_confidence, POLICY.loss_floor)

    def strong(seen: tuple[int | None, ...]) -> bool:
        worth = domain_evidence(POLICY.dark_path, POLICY.enacted_error, ((loss, len(seen)),))
        answered = [MONITORS if missed is None else MONITORS - 1 for missed in seen]
        by_luck = math.fsum(round_evidence(MONITORS, n, 0, 0, SILENT, POLICY.expected_loss) for n in answered)
        never = len(set(seen)) == 1 and seen[0] is not None
        event = event_evidence(POLICY.common_cut, SILENT + MONITORS, SILENT, never, (worth,) * SILENT)
        return jointly(SILENT * worth, by_luck, event) >= POLICY.threshold(Assurance.STRONG, 1)

    total = 0.0
    open_: list[tuple[int | None, ...]] = [(missed,) for missed in chance]
    for _ in range(3):
        # The fourth round's share is under a thousandth of the first two's.
        longer = [(*seen, missed) for seen, missed in itertools.product(open_, chance)]
        total += math.fsum(math.prod(chance[missed] for missed in seen) for seen in longer if strong(seen))
        open_ = [seen for seen in longer if not strong(seen)]
    return total


@pytest.mark.parametrize(
    ("what", "exact"),
    [
        (world(dark=0.3), 0.3**SILENT * 0.7**MONITORS),
        (world(cut=Cut(1e-3, 0.5)), 1e-3 * 0.5 ** (SILENT + MONITORS)),
        (world(cut=Cut(1e-3, 0.5, groups=2)), 1e-3 * 0.5 * 0.5 ** (SILENT + MONITORS)),
        (world(loss_after=0.5), all_at_once(0.5)),
    ],
    ids=["dark paths", "one event", "one of two upstreams", "all at once"],
)
def test_the_estimate_is_what_can_be_computed(what: World, exact: float) -> None:
    found = estimate(what, "exact", range(150), attempts=1)
    assert found.error < 0.25 * exact
    assert abs(found.mean - exact) < 4 * found.error + 0.01 * exact


def test_steered_runs_agree_with_plain_ones_where_false_proofs_are_frequent() -> None:
    """Several causes at once, under a policy that believes in nothing but blocking."""
    careless = replace(
        POLICY, alpha_strong=0.5, dark_path=1e-9, common_cut=1e-9, loss_floor=1e-6, measuring_window_ns=300 * SECOND_NS
    )
    mixed = World(
        "mixed", Owner.ABSENT, Variant.ALLOW_ONLY, vantages=5, loss=0.1, loss_after=0.4, dark=0.3, burst_share=0.2,
        rejects_after=0.1, rate_limit=0.2, limited=0.3, cut=Cut(0.3, 0.5, groups=3), dead_probes=0.02,
    )  # fmt: skip
    runs = 250
    plain = sum(_is_strong(play(mixed, f"plain/{i}", careless).verdict) for i in range(runs)) / runs
    found = estimate(mixed, "steered", range(runs), careless, attempts=1)
    assert plain > 0.02
    assert abs(found.mean - plain) < 4 * math.hypot(found.error, math.sqrt(plain * (1 - plain) / runs))


def _is_strong(verdict: object) -> bool:
    return isinstance(verdict, ControlProven) and verdict.assurance is Assurance.STRONG


def test_a_chance_over_the_limit_is_seen() -> None:
    """Paths that go dark thirty times as often as the policy believes: `make soak` must say so."""
    found = estimate(world(dark=0.3), "too dark", range(40))
    assert found.interval[0] > 1e-6


def test_later_attempts_add_to_the_chance() -> None:
    """Under a budget that later attempts do not share, a hundred attempts would be a hundred times the first."""
    first, all_of_them = (estimate(world(dark=0.3), "more", range(60), attempts=n) for n in (1, 100))
    assert first.mean < all_of_them.mean < 4 * first.mean


def test_an_interval_without_hits_allows_for_three() -> None:
    unseen = Estimate(runs=300, largest=0.01)
    assert unseen.interval == (0.0, 3 * 0.01 / 300)


@pytest.mark.parametrize(("prior", "otherwise", "expected"), [(0.0, 0.5, 0.0), (1.0, 0.5, 1.0), (0.5, 1.0, 0.5)])
def test_a_cause_is_as_likely_as_its_effect_makes_it(prior: float, otherwise: float, expected: float) -> None:
    assert posterior(prior, otherwise) == expected


@pytest.mark.parametrize("index", range(len(ABSENT)), ids=[scenario.world.name for scenario in ABSENT])
def test_nobody_is_proven_who_did_nothing(index: int) -> None:
    for i in range(2):
        assert not isinstance(play(ABSENT[index].world, f"plain/{i}", POLICY).verdict, ControlProven)


def test_every_mechanism_names_its_source_and_is_played() -> None:
    assert all(len(mechanism.source) > 40 for mechanism in MECHANISMS)
    played = {scenario.world.name.split(";")[0] for scenario in (*ABSENT, *HONEST)}
    assert played == {mechanism.name for mechanism in MECHANISMS}


def test_the_survey_finds_a_server_worse_than_most() -> None:
    few, many = picked(10), picked()
    assert many.dark > 0.01 >= POLICY.dark_path
    assert many.dark + many.loss > few.dark + few.loss
