"""A job ends in a report that accounts for every step, made at the right time, from the right address, once."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from poolproof.classify import classify_report
from poolproof.exchange import Exchange, LocalFault
from poolproof.job import Report
from poolproof.ntp import decode as decode_header
from poolproof.outcome import Outcome
from poolproof.target import Target
from probe.clock import SystemClock
from probe.guard import Guard
from probe.journal import Journal
from probe.responder import Responder
from probe.runner import Runner
from probe.settings import ControlSettings
from probe.tripwire import NoTripwire
from probe.udp import UdpEngine
from tests.probe.jobs import (
    CONTROL,
    OWN,
    PREFIX,
    TARGET,
    TARGET_V6,
    decode,
    encode,
    job,
    prefix_job,
    settings,
)
from tests.probe.virtual import EPOCH_NS, MS, Host, S, by_destination, run_virtual, seeded
from tests.probe.world import World, faults

T = TypeVar("T")


def test_each_step_goes_out_at_its_absolute_time_with_controls_around(make: Callable[..., World]) -> None:
    world = make({TARGET: Host()})
    asked = job(offsets_s=(0, 2.1, 4.2))
    report = world.run(asked)
    assert [each.sent_at_ns - asked.start_at_ns for each in report.exchanges] == [0, 2_100 * MS, 4_200 * MS]
    assert classify_report(report) == (Outcome.REPLIED,) * 3
    assert max(each.sent_at_ns for each in report.control_before) == asked.start_at_ns - 1_500 * MS
    assert min(each.sent_at_ns for each in report.control_after) == asked.start_at_ns + 4_200 * MS + asked.timeout_ns
    assert {each.source for each in (*report.control_before, *report.control_after)} == {OWN}
    assert report.clock.samples == 2
    assert abs(report.clock.offset_ns) <= 3


def test_every_request_carries_its_own_random_timestamp(make: Callable[..., World]) -> None:
    world = make({TARGET: Host()})
    report = world.run(job(offsets_s=(0, 2.1, 4.2)))
    drawn = {decode_header(each.request).transmit for each in report.exchanges}
    assert len(drawn) == 3
    assert len(set(world.network.requests)) == len(world.network.requests)


def test_lingering_for_late_answers_delays_no_later_step(make: Callable[..., World]) -> None:
    world = make()
    asked = job(offsets_s=(0, 2.1, 4.2), linger_ns=30 * S)
    report = world.run(asked)
    assert [each.sent_at_ns - asked.start_at_ns for each in report.exchanges] == [0, 2_100 * MS, 4_200 * MS]
    assert classify_report(report) == (Outcome.SILENT,) * 3


def test_slow_control_servers_delay_no_step(make: Callable[..., World]) -> None:
    world = make({TARGET: Host()}, controls={})
    asked = job(start_at_ns=EPOCH_NS + 100 * MS)
    report = world.run(asked)
    assert report.exchanges[0].sent_at_ns == asked.start_at_ns
    assert report.control_before[0].sent_at_ns == EPOCH_NS


def test_without_any_control_answer_the_work_is_done_and_silence_means_nothing(make: Callable[..., World]) -> None:
    silent = make(controls={}).run(job())
    assert faults(silent) == {None}
    assert silent.clock.samples == 0
    assert classify_report(silent) == (Outcome.PROBE_FAILED,)
    answered = make({TARGET: Host()}, controls={}).run(job())
    assert classify_report(answered) == (Outcome.REPLIED,)


@pytest.mark.parametrize("off_ns", [-150 * MS, 150 * MS])
def test_a_probe_whose_clock_is_wrong_sends_nothing_to_the_target(make: Callable[..., World], off_ns: int) -> None:
    world = make({TARGET: Host()}, off_ns=off_ns)
    report = world.run(job(offsets_s=(0, 2.1)))
    assert faults(report) == {LocalFault.CLOCK_WRONG}
    assert "control.max_clock_offset_ns is 100000000" in report.exchanges[0].fault_detail
    assert report.clock.offset_ns == pytest.approx(-off_ns, abs=3)
    assert by_destination(world.network.sent, TARGET) == []
    assert report.control_before


def test_a_clock_found_wrong_too_late_marks_what_was_seen_and_keeps_it(make: Callable[..., World]) -> None:
    world = make({TARGET: Host()}, controls={CONTROL[0]: Host(300 * MS)}, off_ns=S)
    report = world.run(job(start_at_ns=EPOCH_NS + S + 100 * MS))
    assert faults(report) == {LocalFault.CLOCK_WRONG}
    assert len(report.exchanges[0].replies) == 1


def test_a_job_that_comes_after_its_start_is_missed(make: Callable[..., World]) -> None:
    world = make({TARGET: Host()})
    report = world.run(job(offsets_s=(0, 8), start_at_ns=EPOCH_NS - 21 * MS))
    assert faults(report) == {LocalFault.MISSED_START}
    assert "was 21000000 ns ago; guard.start_tolerance_ns is 20000000" in report.exchanges[1].fault_detail
    assert world.network.sent == []
    assert world.journal.unacknowledged(1) == (report,)


def test_a_job_that_comes_just_in_time_is_done_at_once(make: Callable[..., World]) -> None:
    report = make({TARGET: Host()}).run(job(start_at_ns=EPOCH_NS - 10 * MS))
    assert report.exchanges[0].sent_at_ns == EPOCH_NS
    assert classify_report(report) == (Outcome.REPLIED,)
    assert report.control_before


def test_a_step_whose_time_was_slept_through_is_missed_and_the_others_are_made(make: Callable[..., World]) -> None:
    world = make({TARGET: Host()})

    def suspend(destination: str) -> None:
        if destination == TARGET and len(by_destination(world.network.sent, TARGET)) == 0:
            world.clock.suspended_ns += 5 * S

    world.network.on_send = suspend
    report = world.run(job(offsets_s=(0, 2.1, 10)))
    assert [each.fault for each in report.exchanges] == [None, LocalFault.MISSED_START, None]


def test_what_the_guard_refuses_is_reported_for_every_step_and_nothing_is_sent(make: Callable[..., World]) -> None:
    world = make()
    report = world.run(job(offsets_s=(0, 8), target=Target("127.0.0.1")))
    assert faults(report) == {LocalFault.GUARD_REFUSED}
    assert len(report.exchanges) == 2
    assert "target: target 127.0.0.1: special-purpose address" in report.exchanges[0].fault_detail
    assert world.network.sent == []
    assert world.journal.unacknowledged(1) == (report,)


def test_a_job_that_sent_nothing_costs_no_budget(make: Callable[..., World]) -> None:
    world = make({TARGET: Host()}, off_ns=150 * MS)

    async def twice() -> tuple[Report, Report]:
        first = await world.runner.run(job("a", start_at_ns=EPOCH_NS + 2 * S))
        world.clock.off_ns = 0
        return first, await world.runner.run(job("b", start_at_ns=EPOCH_NS + 3 * S))

    first, second = run_virtual(twice())
    assert faults(first) == {LocalFault.CLOCK_WRONG}
    assert faults(second) == {None}


def test_each_slot_of_a_prefix_has_an_address_and_control_has_one_of_the_prefix(make: Callable[..., World]) -> None:
    world = make({TARGET_V6: Host()})
    report = world.run(prefix_job(offsets_s=(0, 0.25, 0.5, 2.6), slots=(0, 0, 1, 2)))
    sources = [each.source for each in report.exchanges]
    assert sources[0] == sources[1]
    assert len(set(sources)) == 3
    used = {*sources, *(each.source for each in (*report.control_before, *report.control_after))}
    assert all(ipaddress.IPv6Address(each) in ipaddress.IPv6Network(PREFIX) for each in used)


def test_the_journal_knows_the_job_before_the_first_packet_and_the_report_before_it_is_returned(
    make: Callable[..., World],
) -> None:
    world = make({TARGET: Host()})
    known: list[bool] = []
    world.network.on_send = lambda _: known.append(world.journal.find(job().id) is not None)
    report = world.run(job())
    assert known
    assert all(known)
    assert world.journal.unacknowledged(1) == (report,)


def test_a_second_lease_of_a_running_job_gets_the_same_report(make: Callable[..., World]) -> None:
    world = make({TARGET: Host()})

    async def both() -> tuple[Report, Report]:
        return await asyncio.gather(world.runner.run(job()), world.runner.run(job()))

    first, second = run_virtual(both())
    assert first == second
    assert len(by_destination(world.network.sent, TARGET)) == 1
    assert world.runner.running == frozenset()


def test_a_second_lease_of_a_finished_job_gets_the_stored_report_also_after_a_restart(
    make: Callable[..., World], tmp_path: Path
) -> None:
    world = make({TARGET: Host()})
    report = world.run(job())
    world.journal.acknowledge(job().id, EPOCH_NS)
    assert world.run(job()) == report
    world.journal.close()
    with closing(Journal(world.tree.journal, encode=encode, decode=decode)) as reopened:
        runner = Runner(
            world.tree,
            transport=world.network,
            tripwire=world.tripwire,
            journal=reopened,
            guard=Guard(world.tree),
            clock=world.clock,
            entropy=seeded(8),
        )
        assert run_virtual(runner.run(job())) == report
    assert len(by_destination(world.network.sent, TARGET)) == 1


def test_a_job_that_is_cancelled_comes_back_interrupted_and_is_not_run_again(make: Callable[..., World]) -> None:
    world = make({TARGET: Host()})
    asked = job(offsets_s=(0, 8))

    async def cancel_midway() -> Report:
        running = asyncio.ensure_future(world.runner.run(asked))
        await world.clock.sleep_until(asked.start_at_ns + S)
        running.cancel()
        await asyncio.wait([running])
        return await world.runner.run(asked)

    report = run_virtual(cancel_midway())
    assert faults(report) == {LocalFault.INTERRUPTED}
    assert len(by_destination(world.network.sent, TARGET)) == 1
    assert world.journal.unacknowledged(1) == (report,)


def test_draining_takes_nothing_new_and_finishes_what_runs(make: Callable[..., World]) -> None:
    world = make({TARGET: Host()})

    async def drain_midway() -> tuple[Report, Report]:
        running = asyncio.ensure_future(world.runner.run(job("a")))
        await world.clock.sleep_until(EPOCH_NS + S)
        world.runner.drain()
        return await world.runner.run(job("b", target=Target("9.9.9.10"))), await running

    refused, finished = run_virtual(drain_midway())
    assert faults(refused) == {LocalFault.DRAINING}
    assert faults(finished) == {None}


def test_a_full_journal_takes_no_new_work_and_says_so(make: Callable[..., World], tmp_path: Path) -> None:
    world = make({TARGET: Host()})
    world.journal._settings = replace(world.tree.journal, max_reports=1)
    world.run(job("a"))
    report = world.run(job("b", target=Target("9.9.9.10")))
    assert faults(report) == {LocalFault.GUARD_REFUSED}
    assert "journal.max_reports is 1" in report.exchanges[0].fault_detail
    assert by_destination(world.network.sent, "9.9.9.10") == []
    assert [each.job for each in world.journal.unacknowledged(5)] == ["a"]


def test_a_bug_costs_one_job_and_not_its_account(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = make()

    async def broken(**_: object) -> Exchange:
        raise ZeroDivisionError

    monkeypatch.setattr(world.runner, "_step", lambda *_: broken())
    report = world.run(job(offsets_s=(0, 8)))
    assert faults(report) == {LocalFault.INTERRUPTED}
    assert "internal error" in report.exchanges[0].fault_detail
    assert "job failed" in caplog.text
    assert world.journal.unacknowledged(1) == (report,)


async def test_on_the_real_engine_disk_and_clock_the_parts_fit_together(tmp_path: Path) -> None:
    target, control = Responder([("127.0.0.1", 0)]), Responder([("127.0.0.1", 0)])
    (asked_of,), (controlled_by,) = await target.start(), await control.start()
    tree = replace(
        settings(tmp_path, allow_networks=(ipaddress.ip_network("127.0.0.0/8"),), allow_ports={asked_of.port}),
        ipv4="127.0.0.7",
        control=ControlSettings(servers=(controlled_by, Target("::1"))),
    )
    clock = SystemClock()
    asked = job(
        target=asked_of,
        source="127.0.0.7",
        start_at_ns=clock.now_ns() + S,
        timeout_ns=S,
        linger_ns=0,
    )
    with closing(Journal(tree.journal, encode=encode, decode=decode)) as journal:
        runner = Runner(
            tree,
            transport=UdpEngine(),
            tripwire=NoTripwire(),
            journal=journal,
            guard=Guard(tree),
            clock=clock,
            entropy=secrets.randbits,
        )
        try:
            report = await runner.run(asked)
        finally:
            await target.stop()
            await control.stop()
        assert journal.unacknowledged(1) == (report,)
    assert classify_report(report) == (Outcome.REPLIED,)
    assert report.exchanges[0].source == "127.0.0.7"
    assert report.exchanges[0].sent_at_ns >= asked.start_at_ns
    assert report.clock.samples == 1
    assert abs(report.clock.offset_ns) - report.clock.error_ns < 50 * MS
    assert [len(report.control_before), len(report.control_after)] == [1, 1]


def test_hundreds_of_jobs_at_one_time_all_start_together(make: Callable[..., World]) -> None:
    targets = [f"9.9.{n // 250}.{n % 250 + 1}" for n in range(300)]
    world = make({address: Host() for address in targets}, packets_per_second=1_000, control_packets_per_second=300)

    async def together(*waiting: Awaitable[Report]) -> list[Report]:
        return await asyncio.gather(*waiting)

    jobs = [job(f"j{n}", target=Target(address)) for n, address in enumerate(targets)]
    reports = run_virtual(together(*(world.runner.run(each) for each in jobs)))
    assert [report.job for report in reports] == [each.id for each in jobs]
    assert {report.exchanges[0].sent_at_ns for report in reports} == {EPOCH_NS + 2 * S}
