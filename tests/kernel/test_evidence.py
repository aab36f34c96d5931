"""The formulas: bounds that must hold for every loss, computed exactly instead of sampled."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.challenge import quorum
from poolproof.evidence import domain_evidence, event_evidence, jointly, loss_bound, round_evidence
from poolproof.policy import POLICY_2026_11, Assurance

POLICY = POLICY_2026_11
P, E, FLOOR = POLICY.dark_path, POLICY.enacted_error, POLICY.loss_floor


def worth(loss: float, silent: int) -> float:
    return domain_evidence(P, E, ((loss, silent),))


@given(st.floats(0.02, 0.99), st.integers(1, 30))
def test_silence_is_worth_the_designs_formula_and_at_most_the_cap(loss: float, silent: int) -> None:
    formula = max(math.log((1 - E) ** n / (P + (1 - P) * loss**n)) for n in range(1, silent + 1))
    assert worth(loss, silent) == pytest.approx(max(0.0, formula))
    assert worth(loss, silent) <= math.log(1 / P)


@given(st.floats(0.02, 0.98), st.integers(1, 30))
def test_more_silence_never_weighs_less_and_a_worse_path_never_weighs_more(loss: float, silent: int) -> None:
    assert worth(loss, silent + 1) >= worth(loss, silent)
    assert worth(loss + 0.01, silent) <= worth(loss, silent)


@given(st.integers(1, 30), st.data())
def test_the_loss_bound_is_an_upper_confidence_bound(asked: int, data: st.DataObject) -> None:
    answered = data.draw(st.integers(1, asked))
    bound = loss_bound(asked, answered, POLICY.loss_confidence, 0.0)
    at_most = sum(math.comb(asked, k) * bound**k * (1 - bound) ** (asked - k) for k in range(asked - answered + 1))
    assert at_most == pytest.approx(1 - POLICY.loss_confidence, abs=1e-6)
    assert bound >= (asked - answered) / asked


@pytest.mark.parametrize("answered", [-1, 9])
def test_a_baseline_that_cannot_be_is_refused(answered: int) -> None:
    with pytest.raises(ValueError, match="baseline"):
        loss_bound(8, answered, 0.65, 0.02)


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97])
@pytest.mark.parametrize("domains", [4, 5])
def test_no_loss_makes_unconfigured_paths_look_blocked_more_often_than_alpha(loss: float, domains: int) -> None:
    """Exact: every baseline that can happen, then the rounds that its bounds ask for, all of them lost.

    Monitors are granted every round (the worst case), so this is the path-by-path part alone.
    """
    series, least = POLICY.baseline_exchanges, POLICY.baseline_min_answers
    needed = POLICY.threshold(Assurance.STRONG, 1)
    lost = [math.comb(series, k) * loss**k * (1 - loss) ** (series - k) for k in range(series - least + 1)]
    bounds = [loss_bound(series, series - k, POLICY.loss_confidence, FLOOR) for k in range(series - least + 1)]
    false = 0.0
    for baseline in itertools.combinations_with_replacement(range(len(lost)), domains):
        ways = math.factorial(domains)
        for k in set(baseline):
            ways //= math.factorial(baseline.count(k))
        for n in range(POLICY.min_rounds, POLICY.max_rounds + 1):
            if sum(worth(bounds[k], n) for k in baseline) >= needed:
                all_lost = (P + (1 - P) * loss**n) ** domains
                false += ways * math.prod(lost[k] for k in baseline) * all_lost
                break
    assert false <= math.exp(-needed)


@pytest.mark.parametrize("monitors", [1, 2, 3, 5, 6, 8])
@pytest.mark.parametrize("witnesses", [0, 1, 2])
@pytest.mark.parametrize("silent", [1, 2, 4, 5, 7])
def test_a_round_is_a_fair_bet_against_every_leaky_target(monitors: int, witnesses: int, silent: int) -> None:
    """E[exp(evidence)] <= 1 under "everything is answered with probability q", for every q.

    Then Ville's inequality bounds the chance of ever gathering so much. Rounds that are worth nothing are repeated, so
    the expectation is over rounds that are worth something or refute.
    """
    worth_something = {
        (answered, witnessed): nats
        for answered in range(quorum(monitors), monitors + 1)
        for witnessed in range(1 if witnesses else 0, witnesses + 1)
        if (nats := round_evidence(monitors, answered, witnesses, witnessed, silent, POLICY.expected_loss)) > 0
    }
    for q in (i / 200 for i in range(1, 200)):
        all_silent = (1 - q) ** silent
        chance = {
            (answered, witnessed): _binomial(answered, monitors, q) * _binomial(witnessed, witnesses, q) * all_silent
            for answered, witnessed in worth_something
        }
        decided = 1 - all_silent + math.fsum(chance.values())
        expectation = math.fsum(chance[seen] / decided * math.exp(nats) for seen, nats in worth_something.items())
        assert expectation <= 1 + 1e-9, f"q={q}"


@pytest.mark.parametrize(("domains", "asked"), [(n, s) for n in (2, 5, 8, 10, 12, 15) for s in range(1, n, 2)])
def test_no_event_matches_the_roles_more_often_than_its_bound(domains: int, asked: int) -> None:
    """Exact: an event that cuts any number of domains, then every draw of the roles, whichever silences count.

    That domains which were to be silent and were not cut do not count instead of refuting is granted: an attacker may
    have forged them, or stopped their probes.
    """
    draws = math.comb(domains, asked)
    for cut in range(1, domains + 1):
        seen: dict[float, float] = {}
        for silent in range(max(0, cut - domains + asked), min(cut, asked) + 1):
            nats = event_evidence(1.0, domains, asked, cut - silent, (math.inf,) * silent)
            ways = math.comb(cut, silent) * math.comb(domains - cut, asked - silent)
            seen[nats] = seen.get(nats, 0.0) + ways / draws
        for nats in seen:
            assert math.fsum(chance for other, chance in seen.items() if other >= nats) <= math.exp(-nats) + 1e-12


@pytest.mark.parametrize(("silent", "answered"), [(7, 5), (6, 6), (6, 5), (5, 7), (8, 6), (9, 9), (5, 5)])
@pytest.mark.parametrize("alone", [0.01, 0.02, 0.1, 0.3])
def test_paths_and_one_event_together_keep_to_the_bound(silent: int, answered: int, alone: float) -> None:
    """Exact: with 1 in 1000 an event cuts each domain with chance q; each may fall silent by itself as well."""
    worths = (-math.log(alone),) * silent
    event = event_evidence(POLICY.common_cut, silent + answered, silent, 0, worths)
    evidence = jointly(math.fsum(worths), event)
    for q in (i / 100 for i in range(1, 100)):
        by_event = (q + (1 - q) * alone) ** silent * (1 - q) ** answered
        assert 0.999 * alone**silent + 0.001 * by_event <= math.exp(-evidence)


@given(st.integers(1, 10), st.integers(0, 10), st.data())
def test_one_event_is_likelier_the_less_was_seen(asked: int, others: int, data: st.DataObject) -> None:
    worths = tuple(sorted(data.draw(st.lists(st.floats(0.1, 7), min_size=1, max_size=asked))))
    unanswered = data.draw(st.integers(0, others))
    nats = event_evidence(0.001, asked + others, asked, unanswered, worths)
    assert event_evidence(0.001, asked + others, asked, unanswered, worths[1:]) <= nats + 1e-9
    assert event_evidence(0.001, asked + others, asked, unanswered, worths[:-1]) <= nats + 1e-9
    assert event_evidence(0.001, asked + others, asked, min(others, unanswered + 1), worths) <= nats + 1e-9
    assert nats <= math.log(1000) + math.log(math.comb(asked + others, asked)) + 1e-9


@given(st.lists(st.floats(0, 40), min_size=1, max_size=4))
def test_explanations_add_up(nats: list[float]) -> None:
    assert max(0.0, min(nats) - math.log(len(nats))) <= jointly(*nats) + 1e-9
    assert jointly(*nats) <= min(nats) + 1e-9


def _binomial(k: int, n: int, q: float) -> float:
    return math.comb(n, k) * q**k * (1 - q) ** (n - k)
