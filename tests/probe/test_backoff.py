"""Delays between attempts to connect."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.backoff import Backoff

PROBE = {"floor_s": 0.1, "first_s": 0.5, "cap_s": 30.0}


@given(st.integers(0, 1 << 30), st.integers(1, 40))
def test_every_delay_is_within_its_bounds(seed: int, count: int) -> None:
    backoff = Backoff(random.Random(seed).getrandbits, **PROBE)
    for n in range(count):
        assert 0.1 <= backoff.next_s() <= min(30.0, 0.5 * 2**n)


def test_even_the_luckiest_draws_do_not_spin() -> None:
    backoff = Backoff(lambda bits: 0, **PROBE)
    assert {backoff.next_s() for _ in range(20)} == {0.1}


def test_the_ceiling_doubles_up_to_the_cap_and_begins_anew_after_a_session() -> None:
    backoff = Backoff(lambda bits: (1 << bits) - 1, **PROBE)
    assert [round(backoff.next_s(), 3) for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    backoff.reset()
    assert round(backoff.next_s(), 3) == 0.5


def test_a_fleet_that_lost_its_coordinator_at_one_moment_comes_back_spread_out() -> None:
    delays = []
    for seed in range(1_000):
        backoff = Backoff(random.Random(seed).getrandbits, **PROBE)
        for _ in range(7):
            delay = backoff.next_s()
        delays.append(delay)
    per_second = [sum(second <= delay < second + 1 for delay in delays) for second in range(30)]
    assert max(per_second) < 70, "33 on average"


def test_bounds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="rising"):
        Backoff(lambda bits: 0, floor_s=0, first_s=1, cap_s=2)
