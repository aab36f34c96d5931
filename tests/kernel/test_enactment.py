"""The owners of calibration targets: drawn by key alone, in the shares that the catching is computed with."""

from __future__ import annotations

import ipaddress
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.challenge import Challenge, Expectation
from poolproof.enactment import (
    MODES,
    TRIES_AGAIN,
    UNREACHED,
    Enactment,
    Mode,
    blocked,
    draw_enactment,
    draw_looks,
    serves,
)
from poolproof.fleet import Role
from poolproof.ids import VantageId, VerificationId
from poolproof.ntp import client_request, decode
from poolproof.policy import POLICY_2026_11 as POLICY
from poolproof.serving import reply_to
from poolproof.variant import Variant
from tests.kernel.fleets import START_NS, TARGET6, attempt_of, challenged

KEY = bytes(range(32))


def drawn(number: int, key: bytes = KEY) -> Enactment:
    return draw_enactment(key, VerificationId(f"c{number}"), 1, POLICY)


def of(mode: Mode, *, start: int = 0) -> Enactment:
    return next(each for each in map(drawn, range(start, start + 2000)) if each.mode is mode)


def challenge_of(variant: Variant) -> Challenge:
    challenge = attempt_of(challenged(variant)).challenge
    assert challenge is not None
    return challenge


def test_one_key_and_one_id_always_give_the_same_and_another_key_another() -> None:
    assert [drawn(n) for n in range(50)] == [drawn(n) for n in range(50)]
    other = bytes(reversed(KEY))
    assert sum(drawn(n).mode is drawn(n, other).mode for n in range(400)) < 200


def test_modes_are_drawn_in_their_shares() -> None:
    assert sum(MODES.values()) == 1
    seen = Counter(drawn(n).mode for n in range(4000))
    for mode, share in MODES.items():
        assert seen[mode] / 4000 == pytest.approx(float(share), abs=0.03), mode
    assert {drawn(n).variant for n in range(50)} == set(Variant)


def test_owners_take_their_time_as_people_do() -> None:
    times = sorted(drawn(n).ready_after_ns for n in range(1000))
    assert times[0] >= POLICY.calibration_ready_ns // 40 - 1
    assert times[-1] <= POLICY.calibration_ready_ns
    assert times[500] < POLICY.calibration_ready_ns // 4, "most are quick, some take very long"


def test_some_owners_try_again_and_do_something_else_then_and_none_for_ever() -> None:
    again = [drawn(n).again_after_ns is not None for n in range(1500)]
    assert sum(again) / 1500 == pytest.approx(float(TRIES_AGAIN), abs=0.05)
    attempts = [[draw_enactment(KEY, VerificationId(f"c{n}"), k, POLICY) for k in (1, 2, 3, 4)] for n in range(200)]
    assert all(each[-1].again_after_ns is None for each in attempts)
    assert any(len({one.mode for one in each}) > 1 for each in attempts)


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("mode", Mode)
def test_whom_each_owner_answers(mode: Mode, variant: Variant) -> None:
    enactment, challenge = of(mode), challenge_of(variant)
    reached = [
        row
        for row in challenge.rows
        if serves(enactment, None, row.perspective.vantage, row.perspective.source, enacted=False)
    ]
    if mode is Mode.DARK:
        assert reached == []
        return
    after = {
        row.perspective: serves(enactment, challenge, row.perspective.vantage, row.perspective.source, enacted=True)
        for row in reached
    }
    wanted = {row.perspective: Expectation.ANSWER in row.expected for row in reached}
    match mode:
        case Mode.WHOLE:
            assert after == wanted
        case Mode.PART:
            assert all(after[view] for view in wanted if wanted[view])
        case Mode.NOTHING:
            assert all(after.values())
        case Mode.DOWN:
            assert not any(after.values())


def test_who_is_spared_by_half_an_enactment_is_drawn() -> None:
    challenge = challenge_of(Variant.BLOCK)
    parts = [each for each in map(drawn, range(3000)) if each.mode is Mode.PART]
    spared = [
        serves(each, challenge, view.vantage, view.source, enacted=True)
        for each in parts
        for view in challenge.verifiers
    ]
    expected = float((1 - UNREACHED) / 2)
    assert sum(spared) / len(spared) == pytest.approx(expected, abs=0.04)


def test_some_vantages_are_never_reached() -> None:
    seen = [
        serves(drawn(n), None, VantageId(f"v{v}"), f"192.0.2.{v}", enacted=False)
        for n in range(400)
        for v in range(10)
        if drawn(n).mode is not Mode.DARK
    ]
    assert 1 - sum(seen) / len(seen) == pytest.approx(float(UNREACHED), abs=0.02)


@pytest.mark.parametrize(("variant", "stranger"), [(Variant.BLOCK, False), (Variant.ALLOW_ONLY, True)])
def test_a_witness_is_a_stranger_to_the_owner(variant: Variant, stranger: bool) -> None:
    challenge = challenge_of(variant)
    for witness in challenge.witnesses:
        assert witness.role is Role.WITNESS
        assert blocked(challenge, witness.vantage, witness.source) is stranger
    assert blocked(challenge, None, "203.0.113.99") is stranger


def test_of_a_prefix_the_half_that_was_told_is_blocked_and_the_other_is_not() -> None:
    challenge = attempt_of(challenged(target=TARGET6, prefix=True)).challenge
    assert challenge is not None
    halves = [row for row in challenge.rows if row.neighbour]
    assert halves
    for row in halves:
        told, other = (ipaddress.ip_network(each)[7] for each in (row.perspective.source, row.neighbour))
        assert blocked(challenge, row.perspective.vantage, str(told))
        assert not blocked(challenge, row.perspective.vantage, str(other))


@given(st.integers(0, 1 << 32), st.integers(0, (1 << 64) - 1))
def test_a_target_looks_like_an_ordinary_server_and_each_address_like_one_of_its_own(host: int, noise: int) -> None:
    looks = draw_looks(KEY, f"2001:db8::{host:x}")
    assert looks == draw_looks(KEY, f"2001:db8::{host:x}")
    answer = reply_to(
        client_request(host + 1),
        behaviour=looks,
        blocked=False,
        hurried=False,
        received_ns=START_NS,
        transmit_ns=START_NS,
        noise=noise,
    )
    assert answer is not None
    told = decode(answer)
    assert (told.leap, told.version, told.mode) == (0, 4, 4)
    assert 2 <= told.stratum <= 3
    assert -25 <= told.precision <= -22
    assert 0 < told.refid[0] < 224, "an IPv4 address of a host"
    assert told.root_delay > 0
    assert told.reference < told.receive


def test_no_two_addresses_look_the_same() -> None:
    looks = [draw_looks(KEY, f"192.0.2.{n}") for n in range(200)]
    assert len({(each.refid, each.root_delay, each.root_dispersion) for each in looks}) == 200
