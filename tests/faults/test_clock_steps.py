"""Clocks that are set by minutes, both ways: the coordinator's, the probe's, and the timers of both."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.registry import Agent, Ended, Registry
from coordinator.settings import CoordinatorSettings
from coordinator.wall_clock import WallClock
from poolproof.classify import classify_report
from poolproof.job import Report
from poolproof.outcome import Outcome
from poolproof.policy import SECOND_NS
from poolproof.target import Family
from poolproof.verdict import ControlProven, ControlRefuted
from poolproof.wire import hello_from_wire
from probe.clock import SystemClock
from probe.guard import Guard
from probe.journal import Journal
from probe.runner import Runner
from probe.settings import ProbeSettings
from probe.tripwire import NoTripwire
from probe.udp import _until
from tests.coordinator.agents import hello
from tests.coordinator.doubles import a_fleet
from tests.faults.troubled import FaultyStore, Troubled
from tests.probe.jobs import CONTROL, TARGET, decode, encode, job, settings
from tests.probe.virtual import EPOCH_NS, FakeTransport, Host, S, VirtualClock, run_virtual, seeded

MINUTE_NS = 60 * SECOND_NS
STEPS = (-30 * MINUTE_NS, -5 * MINUTE_NS, -MINUTE_NS, MINUTE_NS, 5 * MINUTE_NS, 30 * MINUTE_NS)


@pytest.mark.parametrize("obeys", [True, False])
async def test_a_coordinators_clock_that_is_set_again_and_again_loses_nothing_and_proves_nothing_false(
    obeys: bool,
) -> None:
    """Also with a store that fails in between. While the clock is wrong, probes miss their starts, and say so."""
    ends, set_times = Counter[str](), 0
    for seed in range(10):
        chance = random.Random(seed)
        troubled = Troubled(FaultyStore(seed, rate=0.02), obeys=obeys)

        def harm(troubled: Troubled = troubled, chance: random.Random = chance) -> None:
            nonlocal set_times
            if chance.random() < 0.25:
                set_times += 1
                # Set wrong, or right again.
                troubled.set_clock.set_by(-troubled.skew_ns if troubled.skew_ns else chance.choice(STEPS))

        verification = await troubled.live(harm)
        await troubled.check_nothing_lost(verification)
        ends[type(verification.verdict).__name__] += 1
        assert not isinstance(verification.verdict, ControlRefuted if obeys else ControlProven)
    print(f"set {set_times} times: {dict(ends)}")
    assert set_times > 10
    assert ends["ControlProven" if obeys else "ControlRefuted"] > 2


class Time:
    """The module `time` for code under test: passes with the virtual loop, and can be set."""

    def __init__(self) -> None:
        self.off_ns = 0

    def time_ns(self) -> int:
        return EPOCH_NS + round(asyncio.get_running_loop().time() * 1e9) + self.off_ns


@pytest.fixture
def machine_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    machine = Time()
    both = SimpleNamespace(time_ns=machine.time_ns, sleep=time.sleep, monotonic_ns=time.monotonic_ns)
    for module in ("coordinator.wall_clock", "probe.clock", "probe.udp"):
        monkeypatch.setattr(f"{module}.time", both)
    yield machine


@pytest.mark.parametrize("step_ns", STEPS)
def test_a_coordinators_timer_rings_when_the_clock_says_so_however_it_is_set(machine_time: Time, step_ns: int) -> None:
    async def play() -> tuple[float, int, int]:
        loop, clock, rang = asyncio.get_running_loop(), WallClock(), asyncio.Event()
        due_ns = clock.now_ns() + 10 * MINUTE_NS
        clock.call_at(due_ns, rang.set)
        await asyncio.sleep(MINUTE_NS / 1e9)
        machine_time.off_ns += step_ns
        await rang.wait()
        return loop.time(), clock.now_ns(), due_ns

    true_s, shown_ns, due_ns = run_virtual(play())
    assert shown_ns >= due_ns, "before its time"
    wanted_s = max(60.0, (10 * MINUTE_NS - step_ns) / 1e9)
    assert wanted_s <= true_s <= wanted_s + 31, "lost, or noticed late"


@pytest.mark.parametrize("step_ns", STEPS)
def test_a_probe_that_waits_for_a_time_follows_its_clock(machine_time: Time, step_ns: int) -> None:
    async def play(wait: Callable[[int], Coroutine[Any, Any, None]]) -> float:
        waiting = asyncio.create_task(wait(machine_time.time_ns() + 10 * MINUTE_NS))
        await asyncio.sleep(MINUTE_NS / 1e9)
        machine_time.off_ns += step_ns
        await waiting
        return asyncio.get_running_loop().time()

    for wait in (SystemClock().sleep_until, _until):
        machine_time.off_ns = 0
        true_s = run_virtual(play(wait))
        wanted_s = max(60.0, (10 * MINUTE_NS - step_ns) / 1e9)
        assert wanted_s <= true_s <= wanted_s + 1.001


class Shown:
    """A `Clock` that can be set, and a time that cannot."""

    def __init__(self) -> None:
        self.now, self.passed = EPOCH_NS, 0

    def now_ns(self) -> int:
        return self.now

    def monotonic_ns(self) -> int:
        return self.passed


@pytest.mark.parametrize("step_ns", STEPS)
def test_setting_the_clock_neither_kills_a_live_agent_nor_keeps_a_dead_one_alive(step_ns: int) -> None:
    shown = Shown()
    tree = CoordinatorSettings(fleet_file=Path("fleet.toml"))
    registry = Registry(a_fleet(), shown, tree, monotonic_ns=shown.monotonic_ns)  # type: ignore[arg-type]
    agent = registry.admit(hello_from_wire(hello("v01").hello), "s1")
    assert isinstance(agent, Agent)
    shown.now += step_ns
    assert registry.usable(Family.IPV4), "alive, and dropped because the clock was set"
    second = registry.admit(hello_from_wire(hello("v01", b"m" * 16).hello), "s2")
    assert isinstance(second, Ended)
    shown.passed += registry.silence_ns + 1
    assert not registry.usable(Family.IPV4), "dead, and gets jobs because the clock was set"
    assert isinstance(registry.admit(hello_from_wire(hello("v01", b"m" * 16).hello), "s3"), Agent)


def a_runner(tree: ProbeSettings, network: FakeTransport, journal: Journal) -> Runner:
    return Runner(
        tree,
        transport=network,
        journal=journal,
        guard=Guard(tree),
        clock=network.clock,
        entropy=seeded(7),
        tripwire=NoTripwire(),
    )


@pytest.mark.parametrize("step_ns", [5 * MINUTE_NS, -5 * MINUTE_NS, 30 * SECOND_NS, -30 * SECOND_NS])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("at_ms", [0, 700, 1_950, 2_500, 5_000, 9_000, 12_000])
def test_no_silence_is_believed_of_a_probe_whose_clock_was_set_while_it_worked(
    tmp_path: Path, step_ns: int, answers: bool, at_ms: int
) -> None:
    """Set before the control servers are asked, between them and the first step, or between two steps."""
    clock = VirtualClock()
    hosts = {address: Host() for address in (*CONTROL, *([TARGET] if answers else []))}
    network = FakeTransport(clock, hosts)
    truly_ns: list[int] = []
    network.on_send = lambda _: truly_ns.append(clock.now_ns() - clock.off_ns)
    tree = settings(tmp_path)

    async def play() -> tuple[Report, float]:
        with closing(Journal(tree.journal, encode=encode, decode=decode)) as journal:
            runner = a_runner(tree, network, journal)
            loop = asyncio.get_running_loop()
            loop.call_later(at_ms / 1e3, lambda: setattr(clock, "off_ns", step_ns))
            return await runner.run(job(offsets_s=(0, 8))), loop.time()

    report, took_s = run_virtual(play())
    assert len(report.exchanges) == 2, "each step is accounted for"
    assert took_s < 900, "and in bounded time"
    sent_ns = dict(zip(network.requests, truly_ns, strict=True))
    for seen, outcome in zip(report.exchanges, classify_report(report), strict=True):
        if outcome is Outcome.SILENT:
            assert not answers
            assert abs(sent_ns[seen.request] - seen.sent_at_ns) < S, "silent at another time than the report says"


@pytest.mark.parametrize("seed", range(6))
def test_a_probe_whose_clock_is_set_again_and_again_sends_no_more_than_its_budget(tmp_path: Path, seed: int) -> None:
    """In any minute of true time, whatever it is told to do, as long as its control servers tell it the time."""
    chance, clock = random.Random(seed), VirtualClock()
    network = FakeTransport(clock, {address: Host() for address in (*CONTROL, TARGET)})
    tree = settings(tmp_path)
    truly_ns: list[int] = []
    network.on_send = lambda to: truly_ns.append(clock.now_ns() - clock.off_ns) if to == TARGET else None

    async def play() -> None:
        with closing(Journal(tree.journal, encode=encode, decode=decode)) as journal:
            runner = a_runner(tree, network, journal)
            for number in range(60):
                if chance.random() < 0.3:
                    clock.off_ns = 0 if clock.off_ns else chance.choice(STEPS)
                # The coordinator's clock is as wrong: it asks for what the probe takes for two seconds from now.
                offsets = tuple(2.1 * n for n in range(8))
                asked = job(f"j{number}", offsets_s=offsets, start_at_ns=clock.now_ns() + 2 * S)
                await runner.run(asked)
                await asyncio.sleep(chance.choice((0, 20, 60)))

    run_virtual(play())
    assert len(truly_ns) > 20
    for first, beyond in zip(truly_ns, truly_ns[tree.guard.target_packets_per_minute :], strict=False):
        assert beyond - first >= MINUTE_NS
