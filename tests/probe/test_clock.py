"""The clock check says how far our clock is off, and stops work only when that is certain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.exchange import Exchange, ExchangeKind, Reply
from poolproof.job import ClockCheck
from poolproof.ntp import Header, client_request, decode, encode, to_ntp
from probe.clock import ClockVerdict, SystemClock, check_clock, judge_clock, server_answer
from tests.probe.virtual import EPOCH_NS, MS, S


def asked(off_ns: int, there_ns: int, back_ns: int, *, held_ns: int = 0) -> Exchange:
    """An exchange made by a clock that is `off_ns` behind the server's."""
    request = client_request(77)
    t1 = EPOCH_NS
    t2 = t1 + off_ns + there_ns
    t3 = t2 + held_ns
    t4 = t1 + there_ns + held_ns + back_ns
    header = Header(0, 4, 4, 2, 0, -20, 0, 0, b"TEST", 1, 77, to_ntp(t2), to_ntp(t3))
    return Exchange(
        ExchangeKind.CLIENT_V4, request, "192.0.2.7", "198.51.100.1", 123, t1, S, (Reply(encode(header), t4),)
    )


def with_header(exchange: Exchange, **fields: Any) -> Exchange:
    reply = exchange.replies[0]
    return replace(exchange, replies=(Reply(encode(replace(decode(reply.payload), **fields)), reply.received_at_ns),))


@given(st.integers(-60 * S, 60 * S), st.integers(0, 400 * MS), st.integers(0, 400 * MS), st.integers(0, 100 * MS))
def test_the_true_offset_lies_within_the_error_of_one_sample(off: int, there: int, back: int, held: int) -> None:
    check = check_clock([asked(off, there, back, held_ns=held)])
    assert check.samples == 1
    # NTP timestamps have a resolution of 0.23 ns; four roundings.
    assert abs(check.offset_ns - off) <= check.error_ns + 3
    assert abs(check.error_ns - (there + back) // 2) <= 2


def test_one_server_that_lies_does_not_move_the_median() -> None:
    check = check_clock([asked(1 * MS, MS, MS), asked(3600 * S, MS, MS), asked(2 * MS, 20 * MS, 20 * MS)])
    assert check.samples == 3
    assert check.offset_ns == pytest.approx(2 * MS, abs=3)
    assert check.error_ns == pytest.approx(MS, abs=3)


@pytest.mark.parametrize(
    "fields",
    [{"leap": 3}, {"stratum": 0}, {"stratum": 16}, {"receive": 0}, {"transmit": 0}, {"mode": 5}, {"origin": 78}],
)
def test_who_does_not_know_the_time_or_is_not_our_server_tells_none(fields: dict[str, int]) -> None:
    assert check_clock([with_header(asked(0, MS, MS), **fields)]).samples == 0


def test_no_answer_is_no_sample() -> None:
    silent = replace(asked(0, MS, MS), replies=())
    late = replace(asked(0, MS, 2 * S), timeout_ns=S)
    assert check_clock([silent, late]) == ClockCheck(0, 0, 0)


def test_an_answer_counts_as_a_control_servers_only_in_mode_4() -> None:
    assert server_answer(asked(0, MS, MS)) is not None
    assert server_answer(with_header(asked(0, MS, MS), mode=5)) is None
    # A kiss code or an unsynchronised server still shows that the way there and back works.
    assert server_answer(with_header(asked(0, MS, MS), leap=3)) is not None


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (ClockCheck(0, 0, 0), ClockVerdict.UNKNOWN),
        (ClockCheck(99 * MS, 0, 1), ClockVerdict.RIGHT),
        (ClockCheck(-101 * MS, 0, 1), ClockVerdict.WRONG),
        (ClockCheck(101 * MS, 5 * MS, 1), ClockVerdict.RIGHT),
        (ClockCheck(106 * MS, 5 * MS, 1), ClockVerdict.WRONG),
    ],
)
def test_a_clock_is_wrong_only_beyond_the_checks_own_error(check: ClockCheck, verdict: ClockVerdict) -> None:
    assert judge_clock(check, 100 * MS) is verdict


async def test_the_machines_clock_waits_until_the_time_and_not_for_the_past() -> None:
    clock = SystemClock()
    at_ns = clock.now_ns() + 5 * MS
    await clock.sleep_until(at_ns)
    assert clock.now_ns() >= at_ns
    await clock.sleep_until(0)
