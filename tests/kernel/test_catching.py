"""How soon liars are caught: the computation against simulation, and against what must hold for every policy."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from poolproof.calibration import Stratum, evidence, needed
from poolproof.catching import Lie, boundary, caught_within, crossing, falsely_within, shares
from poolproof.challenge import Expectation, Path
from poolproof.cohort import candidates, draw
from poolproof.enactment import draw_enactment, serves
from poolproof.ids import VerificationId
from poolproof.policy import POLICY_2026_11 as POLICY
from poolproof.variant import Variant
from tests.kernel.fleets import TARGET, fleet

LOSS = POLICY.calibration_loss


def test_the_boundary_is_where_the_evidence_reaches_what_is_needed() -> None:
    fewest = boundary(120, LOSS, needed(POLICY))
    for n, k in enumerate(fewest):
        assert k > n or evidence(n, k, LOSS) >= needed(POLICY)
        assert k == 0 or k - 1 > n or evidence(n, k - 1, LOSS) < needed(POLICY)


@pytest.mark.parametrize("failing", [0.05, 0.2, 0.5])
def test_the_chance_to_be_caught_is_that_of_a_simulation(failing: float) -> None:
    rng, lives, length = random.Random(f"catch {failing}"), 2000, 60
    fewest = boundary(length, LOSS, needed(POLICY))
    caught = 0
    for _ in range(lives):
        failures = 0
        for n in range(1, length + 1):
            failures += rng.random() < failing
            if failures >= fewest[n]:
                caught += 1
                break
    expected = crossing(fewest, failing)[-1]
    # Four standard deviations of the simulation.
    assert caught / lives == pytest.approx(expected, abs=4 * (expected * (1 - expected) / lives) ** 0.5 + 1e-3)


def test_whoever_fails_more_is_caught_sooner_and_nobody_is_let_go() -> None:
    fewest = boundary(80, LOSS, needed(POLICY))
    curves = [crossing(fewest, failing) for failing in (0.0, 0.05, 0.1, 0.3, 1.0)]
    for curve in curves:
        assert list(curve) == sorted(curve)
    for slow, quick in pairwise(curves):
        assert all(a <= b + 1e-12 for a, b in zip(slow, quick, strict=True))
    assert curves[0][-1] == 0
    assert curves[-1][4] == pytest.approx(1)


@pytest.mark.parametrize("trials", [10, 100, 1000])
def test_all_strata_together_quarantine_an_honest_probe_with_chance_alpha_at_most(trials: int) -> None:
    assert len(Stratum) * falsely_within(trials, POLICY) <= POLICY.alpha_quarantine


@pytest.mark.parametrize("lie", Lie)
def test_more_lies_and_more_jobs_are_caught_more_often(lie: Lie) -> None:
    table = [[caught_within(lie, rate, jobs, POLICY) for jobs in (30, 300, 3000)] for rate in (0.05, 0.25, 1.0)]
    for row in table:
        assert row == sorted(row)
    for column in zip(*table, strict=True):
        assert list(column) == sorted(column)


def test_more_calibrations_catch_sooner() -> None:
    rare, often = replace(POLICY, calibration_rate=0.05), replace(POLICY, calibration_rate=0.5)
    for lie in Lie:
        assert caught_within(lie, 0.5, 1000, rare) < caught_within(lie, 0.5, 1000, often)


def test_shares_are_those_of_calibrations_that_are_really_drawn() -> None:
    """Cohorts and owners as the coordinator draws them: how often a candidate has a trial of each kind."""
    known, drawn = shares(POLICY), 400
    trials: Counter[Stratum] = Counter()
    asked = 0
    for n in range(drawn):
        seed = hashlib.sha256(f"seed {n}".encode()).digest()
        enactment = draw_enactment(seed, VerificationId(f"c{n}"), 1, POLICY)
        chosen = candidates(fleet(16), TARGET, Variant.BLOCK, 1, seed, POLICY)
        asked += len(chosen)
        reached = [each for each in chosen if serves(enactment, None, each.vantage.id, each.source, enacted=False)]
        trials[Stratum.BASELINE] += len(reached)
        usable = [(each, Path(8, 8)) for each in reached]
        challenge = draw(usable, TARGET, Variant.BLOCK, 1, seed, POLICY) if usable else None
        for row in challenge.rows if challenge is not None else ():
            if serves(enactment, challenge, row.perspective.vantage, row.perspective.source, enacted=True):
                quiet = Expectation.SILENCE in row.expected
                trials[Stratum.UNSERVED if quiet else Stratum.SERVED] += 1
    for stratum, share in known.trials.items():
        # Within-cohort dependence makes the standard deviation that of some 400 draws, not 5,600.
        assert trials[stratum] / asked == pytest.approx(share, abs=4 * (share * (1 - share) / drawn) ** 0.5), stratum


@pytest.mark.parametrize(("lie", "rate"), [(Lie.HIDES_WHERE_IT_PAYS, 0.5), (Lie.HIDES_ANSWERS, 0.25)])
def test_the_table_is_what_a_simulation_of_jobs_shows(lie: Lie, rate: float) -> None:
    rng, lives, jobs, known = random.Random(f"jobs {lie} {rate}"), 1500, 1000, shares(POLICY)
    stratum = Stratum.BASELINE if lie is Lie.HIDES_ANSWERS else Stratum.UNSERVED
    fewest = boundary(jobs // known.jobs, LOSS, needed(POLICY))
    caught = 0
    for _ in range(lives):
        trials = failures = 0
        for _ in range(jobs // known.jobs):
            if rng.random() < known.calibrations and rng.random() < known.trials[stratum]:
                trials += 1
                failures += rng.random() < rate or rng.random() < 0.02
                if failures >= fewest[trials]:
                    caught += 1
                    break
    expected = caught_within(lie, rate, jobs, POLICY)
    assert caught / lives == pytest.approx(expected, abs=4 * (expected * (1 - expected) / lives) ** 0.5)


def test_shares_are_chances() -> None:
    known = shares(POLICY)
    assert known.calibrations == pytest.approx(0.2)
    assert known.jobs == 3
    assert all(0 < share < 1 for share in known.trials.values())
