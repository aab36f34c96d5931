"""A hostile coordinator drives a real probe: whatever it asks for, what leaves the probe's host stays within bounds.

One attack, begun when the first test asks for it, and what it came to: every packet, every answer, every log line.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from poolproof.special_purpose import forbidden_target
from poolproof.v1 import agent_pb2 as pb
from poolproof.v1 import evidence_pb2
from probe.budgets import network_of
from probe.guard import GuardRule
from tests.lab import hostile_jobs as jobs
from tests.lab.hostile import UDP, Packet, ProbeProcess, Wire, most_within
from tests.lab.hostile_jobs import INVALID, MS, Ask, S
from tests.lab.net import Network
from tests.probe.coordinator_peer import Peer, Stream, serving

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("weapon"), pytest.mark.timeout(180)]

PER_TARGET, PER_NETWORK, PER_SECOND, CONTROL_PER_SECOND, JOBS = 24, 120, 100, 50, 2_000
"""The guard's defaults, but for the network's and the jobs' limits: nobody wants to wait for theirs."""
HONEST = ("45.21.1.1", "45.22.1.1")
ALL_AT_NS = 5 * S
"""After the beginning of the floods: more than all targets together may get."""
_PATIENCE_S = 60.0
_MAX_GROWTH_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Aftermath:
    """What an attack came to."""

    asks: tuple[Ask, ...]
    refused: dict[str, pb.JobRefused]
    reports: dict[str, evidence_pb2.Report]
    packets: tuple[Packet, ...]
    log: Sequence[dict[str, Any]]
    log_bytes: int
    rss: tuple[int, int]
    exit_code: int

    def faults(self, prefix: str) -> Counter[str]:
        """How the jobs whose ids begin so were refused, by rule; "" counts those that were done."""
        return Counter(
            report.exchanges[0].fault_detail.partition(":")[0]
            for name, report in self.reports.items()
            if name.startswith(prefix)
        )


class Attack:
    """The coordinator's orders, in their order."""

    def __init__(self, peer: Peer, probe: ProbeProcess) -> None:
        self._peer, self._probe = peer, probe
        self.refused: dict[str, pb.JobRefused] = {}
        self.reports: dict[str, evidence_pb2.Report] = {}
        self.rss: list[int] = []
        self.exit_code = 0
        self._sessions = 0
        self._read = Counter[int]()
        self._accepted = set[str]()
        self.asks = tuple[Ask, ...]()

    async def run(self) -> None:
        """All of it."""
        self._probe.start()
        stream = await self._session()
        self._lease(stream, [jobs.job("warm-up", HONEST[0], time.time_ns() + 2 * S)])
        await self._heard(stream, lambda: "warm-up" in self.reports)
        self.rss.append(self._probe.rss_bytes())
        self.asks = jobs.forbidden()
        self._lease(stream, [ask.job for ask in self.asks])
        await self._heard(stream, self._all_refused)
        await self._floods(stream)
        self.rss.append(self._probe.rss_bytes())
        self._probe.kill()
        await self._again("killed")
        self._peer.streams[-1].send(reject=pb.Reject(reason=pb.REJECT_REASON_IDENTITY, detail="go away"))
        self.exit_code = await asyncio.to_thread(self._probe.ended, _PATIENCE_S)
        await self._again("ended")
        stream = self._peer.streams[-1]
        self._lease(stream, [jobs.job("../../honest", HONEST[1], time.time_ns() + 2 * S)])
        await self._heard(stream, lambda: "../../honest" in self.reports)
        assert self._probe.alive()

    async def _floods(self, stream: Stream) -> None:
        start = time.time_ns() + 3 * S
        flood, twin = _flood("a", start), _flood("A", start)
        self._lease(stream, flood)
        await self._heard(stream, lambda: self._answered(flood))
        stall = asyncio.create_task(self._stalled(start + ALL_AT_NS))
        stream.break_off()
        stream = await self._session()
        # The same ids, and the same jobs under ids that differ by a little.
        self._lease(stream, [*flood, *twin])
        # What a session has not said when it ends is never said, but for reports.
        await self._heard(stream, lambda: self._answered(twin))
        stream.send(lease=pb.Lease(jobs=[jobs.job(f"many{n}", "45.61.1.1", start) for n in range(5_000)]))
        stream = await self._session()
        crowd = [jobs.job(f"crowd{n}", "45.62.1.1", start) for n in range(2_500)]
        for each in crowd:
            each.target.port = 53
        self._lease(stream, crowd)
        for odd in (
            {"welcome": pb.Welcome(session_id="again", heartbeat_interval_ns=S, protocol_version=1)},
            {"report_ack": pb.ReportAck(job_ids=["no id"])},
        ):
            await self._heard(stream, lambda: self._unread() > 0)
            stream.send(drain=pb.Drain(reason="x" * 3_000_000))
            stream.send(**odd)
            stream = await self._session()
        await stall
        wanted = {each.id for each in (*flood, *twin)}
        await self._heard(stream, lambda: wanted <= self.reports.keys() | self.refused.keys())

    async def _stalled(self, burst_at_ns: int) -> None:
        """Held up in the midst of the bursts: packets that were planned apart become due together."""
        for act, at_ns in ((self._probe.freeze, burst_at_ns + 380 * MS), (self._probe.thaw, burst_at_ns + 850 * MS)):
            while (left_ns := at_ns - time.time_ns()) > 0:  # noqa: ASYNC110 (a time is no event)
                await asyncio.sleep(left_ns / 1e9)
            act()

    async def _again(self, name: str) -> None:
        """A new process, and the same orders under new ids at once: what the last one sent is not forgotten."""
        self._probe.start()
        stream = await self._session()
        start = time.time_ns() + 2 * S
        orders = [
            *(jobs.burst(f"{name}-burst{n}", jobs.TARGET_V6, start + n * 100 * MS) for n in range(5)),
            *(jobs.job(f"{name}-one{n}", jobs.TARGET, start + n * 100 * MS) for n in range(10)),
            *(jobs.burst(f"{name}-site{n}", f"2a00:2020:1:7::{n + 1:x}", start) for n in range(5)),
        ]
        self._lease(stream, orders)
        await self._heard(stream, lambda: {each.id for each in orders} <= self.reports.keys())

    async def _session(self) -> Stream:
        self._sessions += 1
        return await self._peer.session(self._sessions)

    @staticmethod
    def _lease(stream: Stream, wanted: Sequence[evidence_pb2.Job]) -> None:
        for at in range(0, len(wanted), 128):
            stream.send(lease=pb.Lease(jobs=wanted[at : at + 128]))

    async def _heard(self, stream: Stream, done: Callable[[], bool]) -> None:
        def look() -> bool:
            for number, each in enumerate(self._peer.streams):
                for message in each.inbox[self._read[number] :]:
                    if message.HasField("report"):
                        self.reports[message.report.report.job_id] = message.report.report
                    elif message.HasField("job_refused"):
                        self.refused[message.job_refused.job_id] = message.job_refused
                    elif message.HasField("job_accepted"):
                        self._accepted.update(message.job_accepted.job_ids)
                self._read[number] = len(each.inbox)
            return done()

        await stream.until(look)

    def _answered(self, asked: Sequence[evidence_pb2.Job]) -> bool:
        return {each.id for each in asked} <= self._accepted | self.refused.keys()

    def _unread(self) -> int:
        return sum("not read" in each.detail for each in self.refused.values())

    def _all_refused(self) -> bool:
        return all(ask.job.id[:256] in self.refused or ask.job.id in self.reports for ask in self.asks)


def _flood(name: str, start: int) -> list[evidence_pb2.Job]:
    """More than may be, of everything; each order breaks one budget, and all want to be watched for."""
    orders = [
        *(jobs.job(f"{name}-one{n}", jobs.TARGET, start + n * 100 * MS) for n in range(40)),
        *(jobs.burst(f"{name}-forms{n}", jobs.TARGET_V6, start + n * 500 * MS) for n in range(6)),
        *(jobs.burst(f"{name}-site{n}", f"2a00:2020:1:{n:x}::1", start + n * 250 * MS) for n in range(1, 17)),
        *(
            jobs.job(f"{name}-net{n}", f"45.40.7.{n + 1}", start + n * 40 * MS, offsets_ns=(0, 2 * S, 4 * S))
            for n in range(50)
        ),
        *(jobs.burst(f"{name}-all{n}", f"2a00:50{n:02x}::1", start + ALL_AT_NS) for n in range(20)),
        *(jobs.job(f"{name}-tiny{n}", f"45.50.{n}.1", start + 7 * S) for n in range(120)),
        jobs.job(f"{name}-past", "45.63.1.1", start - 3600 * S),
        jobs.job(f"{name}-lan", jobs.LAN_BROADCAST, start),
        *(jobs.job(f"{name}-control{n}", jobs.CONTROL[0], start + n * 50 * MS) for n in range(20)),
    ]
    for each in orders:
        each.watch_until_ns = start + 60 * S
    return orders


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """The attack, played once."""
    folder = tmp_path_factory.mktemp("weapon")
    with Network() as net:
        yield asyncio.run(_played(net, folder))


async def _played(net: Network, folder: Path) -> Aftermath:
    host = net.host("probe", ipv4=jobs.OWN, ipv6=jobs.OWN_V6, prefix=jobs.PREFIX)
    host.ip(f"address add {jobs.OWN_LAN}/24 broadcast {jobs.LAN_BROADCAST} dev eth0\n")
    target = net.host("target", ipv4=(jobs.TARGET, *HONEST), ipv6=jobs.TARGET_V6)
    control = net.host("control", ipv4=jobs.CONTROL, ipv6=jobs.CONTROL_V6)
    for each in (target, control):
        listen = [f"--listen=[{a}]:123" if ":" in a else f"--listen={a}:123" for a in each.addresses]
        each.popen([sys.executable, "-m", "probe.responder", *listen])
    probe = ProbeProcess(
        host,
        folder,
        folder / "coordinator",
        {
            "VANTAGE": jobs.VANTAGE,
            "IPV4": jobs.OWN,
            "IPV6": jobs.OWN_V6,
            "IPV6_PREFIX": jobs.PREFIX,
            "CONTROL_SERVERS": ",".join((*jobs.CONTROL, *(f"[{a}]" for a in jobs.CONTROL_V6))),
            "GUARD_NETWORK_PACKETS_PER_MINUTE": str(PER_NETWORK),
            "GUARD_JOBS_PER_MINUTE": str(JOBS),
        },
    )
    peer = Peer(heartbeat_ns=2 * S, acknowledges=True, patience_s=_PATIENCE_S)
    attack = Attack(peer, probe)
    with Wire(host) as wire:
        async with serving(peer, path=folder / "coordinator"):
            await attack.run()
        packets = wire.packets()
    first, last = attack.rss
    return Aftermath(
        attack.asks,
        attack.refused,
        attack.reports,
        packets,
        probe.log(),
        probe.log_bytes(),
        (first, last),
        attack.exit_code,
    )


def test_whatever_is_forbidden_is_refused_by_its_rule_and_logged(aftermath: Aftermath) -> None:
    logged = {line["job"]: line["detail"] for line in aftermath.log if line["message"].startswith("job refused")}
    for ask in aftermath.asks:
        name = ask.job.id[:256]
        if ask.rule == INVALID:
            assert aftermath.refused[name].reason == pb.JOB_REFUSAL_INVALID, name
            assert logged[name], name
        else:
            assert isinstance(ask.rule, GuardRule)
            report = aftermath.reports[name]
            assert {each.fault for each in report.exchanges} == {evidence_pb2.LOCAL_FAULT_GUARD_REFUSED}, name
            assert not (report.control_before or report.control_after)
            assert report.exchanges[0].fault_detail.startswith(f"{ask.rule.value}: "), report.exchanges[0].fault_detail
            assert logged[name] == report.exchanges[0].fault_detail


def test_each_flood_is_stopped_by_the_budget_that_it_is_about(aftermath: Aftermath) -> None:
    for prefix, rule in (
        ("a-one", GuardRule.PACE),
        ("a-forms", GuardRule.TARGET_BUDGET),
        ("a-site", GuardRule.NETWORK_BUDGET),
        ("a-net", GuardRule.NETWORK_BUDGET),
        ("a-all", GuardRule.BUDGET),
        ("a-tiny", GuardRule.CONTROL_BUDGET),
        ("a-control", GuardRule.PACE),
        ("killed-burst", GuardRule.TARGET_BUDGET),
        ("killed-one", GuardRule.PACE),
        ("killed-site", GuardRule.NETWORK_BUDGET),
        ("ended-burst", GuardRule.TARGET_BUDGET),
        ("ended-site", GuardRule.NETWORK_BUDGET),
    ):
        seen = aftermath.faults(prefix)
        assert seen[rule.value] > 0, (prefix, seen)
        assert seen.keys() <= {"", rule.value, GuardRule.PACE.value, GuardRule.BUDGET.value}, (prefix, seen)


def test_what_the_past_or_the_kernel_forbids_is_a_fault(aftermath: Aftermath) -> None:
    for name, fault in (
        ("past", evidence_pb2.LOCAL_FAULT_MISSED_START),
        # The netmask is the kernel's to know: it sends no broadcast to a socket that did not ask to.
        ("lan", evidence_pb2.LOCAL_FAULT_SEND_FAILED),
    ):
        assert aftermath.reports[f"a-{name}"].exchanges[0].fault == fault


def test_no_packet_goes_where_none_may_go(aftermath: Aftermath) -> None:
    assert len(aftermath.packets) > 500
    never = {ask.job.target.address for ask in aftermath.asks} | {
        "45.61.1.1",
        "45.62.1.1",
        "45.63.1.1",
        jobs.LAN_BROADCAST,
    }
    for packet in aftermath.packets:
        if packet.source.startswith(("fe80:", "::")):
            continue  # the kernel's own housekeeping on the link
        assert packet.protocol == UDP, packet
        assert packet.port == 123, packet
        assert packet.destination not in never, packet
        assert forbidden_target(packet.destination) is None, packet
        own = ipaddress.ip_address(packet.source)
        assert packet.source in (jobs.OWN, jobs.OWN_V6) or own in ipaddress.ip_network(jobs.PREFIX), packet
        assert len(packet.payload) == 48, packet
        assert packet.payload[0] == 4 << 3 | 3, "NTPv4, mode 3, and nothing that is answered with more"


def test_no_budget_is_exceeded_in_any_window_over_sessions_and_restarts(aftermath: Aftermath) -> None:
    control = {*jobs.CONTROL, *jobs.CONTROL_V6}
    by_target, by_network, by_control = (defaultdict[object, list[int]](list) for _ in range(3))
    for packet in (each for each in aftermath.packets if each.protocol == UDP):
        if packet.destination in control:
            by_control[packet.destination].append(packet.at_ns)
        else:
            by_target[packet.destination].append(packet.at_ns)
            by_network[network_of(packet.destination)].append(packet.at_ns)
    assert all(most_within(times, 60 * S) <= PER_TARGET for times in by_target.values())
    assert all(most_within(times, 60 * S) <= PER_NETWORK for times in by_network.values())
    assert most_within([at for times in by_target.values() for at in times], S) <= PER_SECOND
    assert all(most_within(times, S) <= CONTROL_PER_SECOND for times in by_control.values())
    # They were all tried: what was let through comes near to what may be.
    assert most_within(by_target[jobs.TARGET_V6], 60 * S) >= 20
    assert max(most_within(times, 60 * S) for times in by_network.values()) >= 110
    assert by_control.keys() == control


def test_the_probe_lives_on_in_bounds_and_does_honest_work(aftermath: Aftermath) -> None:
    before, after = aftermath.rss
    assert after - before < _MAX_GROWTH_BYTES
    assert aftermath.log_bytes < 4_000_000
    assert aftermath.exit_code == 3
    for name in ("warm-up", "../../honest"):
        report = aftermath.reports[name]
        assert not report.exchanges[0].HasField("fault"), name
        assert report.exchanges[0].replies, name
        assert report.control_before[0].replies, name
        assert report.control_after[0].replies, name


def test_more_jobs_than_anybody_needs_are_not_even_read(aftermath: Aftermath) -> None:
    unread = [each for each in aftermath.refused.values() if "guard.jobs_per_minute" in each.detail]
    assert unread
    assert {each.reason for each in unread} == {pb.JOB_REFUSAL_CAPACITY}
    invalid = [line["detail"] for line in aftermath.log if line.get("end") == "invalid"]
    assert any("lease.jobs" in detail and "5000 entries" in detail for detail in invalid), invalid
    assert not any(name.startswith("many") for name in aftermath.reports.keys() | aftermath.refused.keys())
