"""The pace lets through what no known daemon limits, and nothing faster."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.exchange import ExchangeKind
from poolproof.job import Step
from probe.pace import SERIES, Pace, WindowBudget, paced_times
from tests.probe.jobs import job, prefix_job
from tests.probe.virtual import MS, S

seconds = st.integers(0, 200_000).map(lambda ms: ms * MS)


def at(*times_s: float) -> list[int]:
    return [round(each * S) for each in times_s]


def test_a_short_series_of_eight_is_fine_and_a_ninth_at_once_is_not() -> None:
    series = [2.1 * n for n in range(9)]
    assert Pace().refuses("k", at(*series[:8])) is None
    assert "too early" in (Pace().refuses("k", at(*series)) or "")


def test_eight_seconds_can_be_kept_up_for_ever_also_after_a_series() -> None:
    series = [2 * n for n in range(8)]
    assert Pace().refuses("k", at(*series, *(14 + 8 * n for n in range(1, 200)))) is None


def test_a_second_series_needs_the_rest_that_the_first_one_cost() -> None:
    series = [2 * n for n in range(8)]
    again_soon = [14 + 8 + each for each in series]
    again_rested = [64 + each for each in series]
    assert Pace().refuses("k", at(*series, *again_soon)) is not None
    assert Pace().refuses("k", at(*series, *again_rested)) is None


def test_closer_than_two_seconds_is_refused_however_rested() -> None:
    refusal = Pace().refuses("k", at(100, 101.9))
    assert refusal is not None
    assert "1.9 s after the packet before; at least 2 s" in refusal


def test_other_pairs_do_not_count() -> None:
    pace = Pace()
    pace.plan("a", at(0))
    assert pace.refuses("b", at(1)) is None
    assert pace.refuses("a", at(1)) is not None


def test_packets_that_were_never_sent_are_given_back() -> None:
    pace = Pace()
    pace.plan("a", at(10, 12))
    pace.unplan("a", at(10, 12))
    assert pace.refuses("a", at(11)) is None


@given(st.lists(seconds, max_size=40, unique=True).map(sorted), seconds)
def test_forgetting_the_past_changes_no_answer_about_the_future(times: list[int], now: int) -> None:
    whole, folded = Pace(), Pace()
    for each in times:
        if whole.refuses("k", [each]) is None:
            whole.plan("k", [each])
            folded.plan("k", [each])
        folded.forget(each)
    now += max(times, default=0)
    folded.forget(now)
    for later in (now + 1, now + S, now + 3 * S, now + 9 * S, now + 70 * S):
        assert (whole.refuses("k", [later]) is None) == (folded.refuses("k", [later]) is None)


@given(st.lists(seconds, min_size=9, max_size=60, unique=True))
def test_no_nine_packets_ever_pass_within_what_nine_need(times: list[int]) -> None:
    pace, passed = Pace(), list[int]()
    for each in times:
        if pace.refuses("k", [each]) is None:
            pace.plan("k", [each])
            passed.append(each)
    passed.sort()
    for earlier, later in itertools.pairwise(passed):
        assert later - earlier >= 2 * S
    for first, ninth in zip(passed, passed[SERIES:], strict=False):
        # Eight gaps: seven may be short for the credit of one series, one has to pay for itself.
        assert ninth - first >= 7 * 2 * S + 8 * S


def test_nothing_is_remembered_of_pairs_at_rest() -> None:
    pace, budget = Pace(), WindowBudget(2, 60 * S)
    for name in range(100):
        pace.plan(name, at(1))
        budget.plan(name, at(1))
    pace.forget(62 * S)
    budget.forget(62 * S)
    assert len(pace) == 0
    assert len(budget) == 0


@given(st.lists(seconds, min_size=1, max_size=60), st.integers(1, 8), st.integers(1, 60))
def test_a_budget_is_kept_in_every_window(times: list[int], limit: int, window_s: int) -> None:
    budget, passed = WindowBudget(limit, window_s * S), list[int]()
    for each in times:
        if budget.fits("k", [each]):
            budget.plan("k", [each])
            passed.append(each)
    for start in passed:
        assert sum(start <= each < start + window_s * S for each in passed) <= limit


def test_a_budget_sees_all_times_of_one_request_together() -> None:
    budget = WindowBudget(3, S)
    assert budget.fits("k", at(0, 0.1, 0.2))
    assert not budget.fits("k", at(0, 0.1, 0.2, 0.3))
    budget.plan("k", at(0.5))
    assert not budget.fits("k", at(0, 0.1, 0.2))
    budget.unplan("k", at(0.5))
    assert budget.fits("k", at(0, 0.1, 0.2))


def test_a_burst_from_one_address_of_a_prefix_is_left_out_of_the_pace() -> None:
    offsets = (0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 3.6, 5.7)
    slots = (0, 0, 0, 0, 0, 0, 1, 2, 3)
    bursting = prefix_job(offsets_s=offsets, slots=slots)
    start = bursting.start_at_ns
    assert paced_times(bursting) == (start + round(3.6 * S), start + round(5.7 * S))


@pytest.mark.parametrize(
    ("offsets", "slots", "why"),
    [
        ((0, 0.19), (0, 0), "at least 0.2 s"),
        (tuple(n * 0.25 for n in range(9)), (0,) * 9, "a burst of 9 from one address; at most 8"),
        ((0, 0.25, 5, 5.25), (0, 0, 1, 1), "one burst a job"),
        (tuple(n * 0.25 for n in range(6)), (0, 0, 0, 1, 2, 3), "3 steps of other addresses"),
    ],
)
def test_what_is_no_decent_burst_is_refused(offsets: tuple[float, ...], slots: tuple[int, ...], why: str) -> None:
    problem = paced_times(prefix_job(offsets_s=offsets, slots=slots))
    assert isinstance(problem, str)
    assert why in problem


def test_two_halves_of_a_prefix_asked_together_count_as_one() -> None:
    halves = ("2001:db8:7::/65", "2001:db8:7:0:8000::/65")
    steps = tuple(Step(ExchangeKind.CLIENT_V4, n * S // 50, n, half) for n, half in enumerate(halves))
    pair = prefix_job(steps=steps)
    assert paced_times(pair) == (pair.start_at_ns,)
    assert isinstance(paced_times(prefix_job(steps=(steps[0], replace(steps[1], source=halves[0])))), str)
    assert isinstance(paced_times(prefix_job(steps=(*steps, replace(steps[0], offset_ns=S // 20)))), str)


def test_a_single_address_may_not_burst() -> None:
    problem = paced_times(job(offsets_s=(0, 0.5)))
    assert isinstance(problem, str)
    assert "steps 0 and 1 are 0.5 s apart" in problem
