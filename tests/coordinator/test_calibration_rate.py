"""How often calibrations begin: by the policy's rate beside applicants' attempts, now and then when nobody comes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.calibration.addresses import Addresses, read_place
from coordinator.calibration.calibrations import MAX_AT_ONCE, Calibrations
from coordinator.calibration.ledger import Ledger
from coordinator.calibration.play import Stage
from coordinator.calibration.sources import Sources
from coordinator.conductor import new_id
from coordinator.registry import Registry
from coordinator.settings import CoordinatorSettings
from poolproof.ids import VerificationId
from poolproof.policy import SECOND_NS
from tests.coordinator.doubles import DRAW_KEY, POLICY, NoTelemetry, Play, a_fleet
from tests.coordinator.running import free_udp_port

HOST = "127.7.8.1"


class Counting(Calibrations):
    """Counts what would begin."""

    begun = 0

    def begin(self) -> VerificationId | None:
        self.begun += 1
        return None


def calibrations(
    kind: type[Calibrations], play: Play, places: Iterable[str], bits: Callable[[int], int] = secrets.randbits
) -> Calibrations:
    registry = Registry(a_fleet(), play.clock, CoordinatorSettings(Path("never-read")))
    ledger = Ledger(play.store, registry, play.conductor, play.clock, NoTelemetry(), play.policy)
    stage = Stage(play.store, play.conductor, play.clock, ledger, Sources(a_fleet()), play.policy)
    return kind(
        stage,
        Addresses(map(read_place, places), secrets.randbelow),
        NoTelemetry(),
        DRAW_KEY,
        lambda: new_id(secrets.token_bytes),
        bits,
    )


def test_a_calibration_follows_an_attempt_by_the_rate_and_not_at_once() -> None:
    play = Play()
    counting = calibrations(Counting, play, [HOST])
    assert isinstance(counting, Counting)
    for _ in range(4000):
        counting.attempt_begun()
    assert counting.begun == 0, "two things that always come together can be told apart"
    play.clock.move_to(play.clock.now_ns() + 61 * SECOND_NS)
    assert counting.begun / 4000 == pytest.approx(POLICY.calibration_rate, abs=0.04)


def test_without_an_address_nothing_ever_begins() -> None:
    play = Play()
    counting = calibrations(Counting, play, [])
    for _ in range(100):
        counting.attempt_begun()
    assert play.clock.next_ns() is None


async def test_that_there_are_none_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    await calibrations(Calibrations, Play(), []).start()
    assert "calibration_listen is empty" in caplog.text


async def test_when_nobody_comes_one_begins_now_and_then() -> None:
    play = Play()
    running = calibrations(Calibrations, play, [f"{HOST}:{free_udp_port(HOST)}"])
    await running.start()
    try:
        started_ns, idle_ns = play.clock.now_ns(), POLICY.calibration_idle_ns
        due_ns = play.clock.next_ns()
        assert due_ns is not None
        assert started_ns + idle_ns // 2 <= due_ns <= started_ns + idle_ns * 3 // 2
        play.clock.move_to(due_ns)
        assert running.under_way == 1
        again_ns = play.clock.next_ns()
        assert again_ns is not None
        assert again_ns >= due_ns + idle_ns // 2
    finally:
        await running.close()


async def test_no_more_begin_than_there_are_addresses_for_or_than_the_bound() -> None:
    port = free_udp_port(HOST)
    few = calibrations(Calibrations, Play(), [f"{HOST}:{port}"])
    many = calibrations(Calibrations, Play(), ["[2001:db8:c::/64]:11123"])
    for running, bound in ((few, 1), (many, MAX_AT_ONCE)):
        try:
            begun = [running.begin() for _ in range(MAX_AT_ONCE + 3)]
            assert sum(name is not None for name in begun) == running.under_way == bound
        finally:
            await running.close()


async def test_an_owner_that_comes_to_no_verdict_gives_up() -> None:
    """A calibration without a single probe ends by itself, and its address is free again."""
    play = Play(policy=replace(POLICY, calibration_ready_ns=SECOND_NS))
    play.agents.mute = {vantage.id for vantage in a_fleet()}
    running = calibrations(Calibrations, play, [f"{HOST}:{free_udp_port(HOST)}"])
    await running.start()
    try:
        assert running.begin() is not None
        for _ in range(200):
            for _ in range(40):
                await asyncio.sleep(0)
            if running.under_way == 0:
                break
            await play.step()
        assert running.under_way == 0
        assert running.begin() is not None
    finally:
        await running.close()
