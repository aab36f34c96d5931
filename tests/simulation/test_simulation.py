"""A smoke run of the simulation in every `make test`; `make sim` plays the 100,000."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolproof.policy import POLICY_2026_11
from poolproof.verdict import ControlProven
from tests.simulation.attempt import play
from tests.simulation.census import count
from tests.simulation.worlds import SCENARIOS, Owner, Scenario, World

_ATTEMPTS = 40


@pytest.mark.parametrize("index", range(len(SCENARIOS)), ids=[scenario.world.name for scenario in SCENARIOS])
def test_every_world_keeps_its_promise(index: int) -> None:
    """Goals of 99.9 % need more attempts than a test has: here at most one in forty may miss, and no proof is false."""
    scenario = SCENARIOS[index]
    _, tally = count(index, 0, _ATTEMPTS, "smoke")
    assert not tally.false_proofs
    if scenario.goal.proven is not None:
        assert tally.proven.total() >= _ATTEMPTS - 1
    if scenario.goal.refuted_in_round_one is not None:
        assert tally.refuted_in_round_one >= _ATTEMPTS - 1
    if scenario.goal.median_rounds is not None:
        assert tally.median_rounds <= scenario.goal.median_rounds


@pytest.mark.parametrize("scenario", SCENARIOS[::6], ids=lambda scenario: scenario.world.name)
def test_a_seed_repeats_an_attempt_to_the_last_packet(scenario: Scenario) -> None:
    assert play(scenario.world, "again", POLICY_2026_11) == play(scenario.world, "again", POLICY_2026_11)


def test_a_simulation_can_find_a_false_proof() -> None:
    """It must be able to fail: a policy that holds dark paths for impossible proves servers that nobody configured."""
    careless = replace(POLICY_2026_11, dark_path=1e-9)
    world = World("absent, every other path goes dark", Owner.ABSENT, vantages=4, dark=0.5)
    verdicts = [play(world, f"careless/{i}", careless).verdict for i in range(100)]
    assert any(isinstance(verdict, ControlProven) for verdict in verdicts)
