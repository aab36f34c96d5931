"""Streams that are reset in the middle of anything, and half-open ones: found by heartbeats, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

from coordinator.compose import STORE_FILE
from coordinator.records import load, load_standing, report_key
from coordinator.settings import load as load_settings
from coordinator.store.sqlite import SqliteStore
from poolproof.ids import VerificationId
from poolproof.target import Target
from poolproof.v1 import judgement_pb2, record_pb2
from poolproof.v1 import verification_pb2 as api
from poolproof.verdict import ControlProven, ControlRefuted
from poolproof.verification import Verification
from poolproof.wire import report_to_wire
from tests.coordinator.agents import OPTIONS, World, fleet_of
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import TARGET, coordinator, environment, eventually, stub
from tests.faults.proxy import Proxy, proxied
from tests.probe.coordinator_peer import MS, QUICK, Peer, job, probing, serving, settings, target


@dataclass
class Owner:
    """Asks, does as told or does nothing, and says ready; on a line of its own that nobody harms."""

    address: str
    world: World
    obeys: bool = True
    name: str = ""
    state: int = 0

    async def run(self) -> None:
        async with grpc.aio.insecure_channel(self.address, options=OPTIONS) as channel:
            service = stub(channel)
            created = await service.CreateVerification(
                api.CreateVerificationRequest(
                    target=TARGET,
                    method=judgement_pb2.METHOD_DIFFERENTIAL,
                    variant=judgement_pb2.VARIANT_BLOCK,
                    applicant="alice",
                )
            )
            self.name = created.verifications[0].id
            async for message in service.WatchVerification(api.WatchVerificationRequest(id=self.name)):
                view = message.verification
                self.state = view.state
                if view.state == record_pb2.VERIFICATION_STATE_CHALLENGED:
                    blocked = judgement_pb2.ROLE_MUST_BE_BLOCKED
                    self._obey({r.perspective.vantage_id for r in view.rows if r.perspective.role == blocked})
                    await service.MarkReady(api.MarkReadyRequest(id=self.name))

    def _obey(self, quiet: set[str]) -> None:
        if self.obeys:
            self.world.answered = lambda leased: leased.vantage not in quiet


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[tuple[str, Proxy, World]]:
    """A coordinator with its store on disk, and a fleet that reaches it through a proxy."""
    tree, world = load_settings(environment(folder)), World()
    async with (
        coordinator(tree) as address,
        proxied(int(address.rpartition(":")[2])) as (proxy, port),
        fleet_of(a_fleet(), f"127.0.0.1:{port}", world),
    ):
        await world.until(lambda: len(world.connected) == len(a_fleet()))
        yield address, proxy, world


async def connected(channel: grpc.aio.Channel) -> int:
    listed = await stub(channel).ListVantages(api.ListVantagesRequest())
    return sum(vantage.connected for vantage in listed.vantages)


async def dialled(proxy: Proxy) -> int:
    return proxy.connections


async def what_is_left(folder: Path, name: str, world: World) -> Verification:
    """The verification; each acknowledged report is stored as it was sent, and one attempt was spent."""
    store = await SqliteStore.open(folder / "state" / STORE_FILE)
    try:
        held = await load(store, VerificationId(name))
        assert held is not None
        standing = (await load_standing(store, Target(TARGET))).standing
        assert standing.attempts == len(held.verification.attempts) == 1
        assert world.refused == {}
        for leased, report in world.acknowledged.items():
            kept = await store.get(report_key(leased))
            assert kept is not None, f"{leased} was acknowledged and is not there"
            assert kept.value == report_to_wire(report).SerializeToString()
        return held.verification
    finally:
        await store.close()


async def _reset_from_now_on(owner: Owner, proxy: Proxy) -> None:
    """Once the verification is there: resets come while jobs are handed out, done and reported."""
    running = asyncio.create_task(owner.run())
    await owner.world.until(lambda: owner.state != 0)
    proxy.reset_after = (900, 6_000)
    proxy.reset_all()
    await asyncio.wait_for(running, 60)


async def test_streams_that_are_reset_in_the_middle_of_anything_cost_no_report(tmp_path: Path) -> None:
    async with house(tmp_path) as (address, proxy, world):
        owner = Owner(address, world)
        await _reset_from_now_on(owner, proxy)
    assert proxy.resets > 5
    verdict = (await what_is_left(tmp_path, owner.name, world)).verdict
    assert not isinstance(verdict, ControlRefuted)
    print(f"{proxy.resets} resets over {proxy.connections} connections: {type(verdict).__name__}")


async def test_streams_that_are_reset_never_prove_an_owner_who_did_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as (address, proxy, world):
        owner = Owner(address, world, obeys=False)
        await _reset_from_now_on(owner, proxy)
    assert not isinstance((await what_is_left(tmp_path, owner.name, world)).verdict, ControlProven)


async def test_half_open_streams_are_found_by_heartbeats_and_the_verification_is_proven_all_the_same(
    tmp_path: Path,
) -> None:
    """Everything is swallowed while the first round is under way, in both directions, and no end is told the other."""
    async with house(tmp_path) as (address, proxy, world):
        owner = Owner(address, world)
        running = asyncio.create_task(owner.run())
        await world.until(lambda: owner.state == record_pb2.VERIFICATION_STATE_MEASURING)
        proxy.swallows = True
        known = len(world.acknowledged)
        async with grpc.aio.insecure_channel(address) as channel:
            # By its own heartbeats the coordinator finds that nobody is there; nothing has told it so.
            # 0.6 s of silence are enough; gRPC's own pings would find it in 10 s, if no proxy answers them.
            await eventually(lambda: connected(channel), lambda count: count == 0, timeout_s=7)
        assert len(world.acknowledged) == known
        proxy.swallows = False
        proxy.reset_all()
        await asyncio.wait_for(running, 60)
    assert proxy.swallowed > 0
    assert isinstance((await what_is_left(tmp_path, owner.name, world)).verdict, ControlProven)


async def test_a_probe_does_each_job_once_and_reports_it_however_often_its_stream_is_reset(tmp_path: Path) -> None:
    peer = Peer(acknowledges=True)
    async with target() as ntp, serving(peer) as real, proxied(real) as (proxy, port):
        async with probing(settings(tmp_path, port, ntp)) as probe:
            proxy.reset_after = (400, 12_000)
            leased = [job(f"j{n}", ntp, ahead_ns=(400 + 2_100 * n) * MS) for n in range(3)]
            seen: set[int] = set()

            def reported() -> set[str]:
                return {m.report.report.job_id for s in peer.streams for m in s.all("report")}

            async def owed() -> set[str]:
                for number, stream in enumerate(peer.streams):
                    # Whoever connects is handed what it does not hold; a report that it holds is for it to send.
                    lost = [each for each in leased if each.id not in (*stream.hello.held_job_ids, *reported())]
                    if number not in seen and lost:
                        stream.lease(*lost)
                    seen.add(number)
                return {each.id for each in leased} - reported() | set(probe.journal.held())

            await eventually(owed, lambda left: not left, timeout_s=40)
        reports = [m.report.report for s in peer.streams for m in s.all("report")]
        assert {r.job_id: r for r in reports} == {r.job_id: r for r in reversed(reports)}, "a job has two stories"
        assert not any(r.exchanges[0].HasField("fault") for r in reports)
    assert ntp.answered == 9, "each job: one exchange, one control exchange before and one after"
    assert proxy.resets > 2


async def test_a_probe_finds_that_its_stream_is_half_open_and_dials_anew(tmp_path: Path) -> None:
    peer = Peer(heartbeat_ns=100 * MS)
    async with (
        target() as ntp,
        serving(peer) as real,
        proxied(real) as (proxy, port),
        probing(settings(tmp_path, port, ntp), timings=replace(QUICK, patience_s=0.4)),
    ):
        first = await peer.session(1)
        first.lease(job("j1", ntp, ahead_ns=300 * MS))
        await first.until(lambda: bool(first.all("job_accepted")))
        proxy.swallows = True
        # It works on, dials anew through the same hole, and gives that up as well.
        await eventually(lambda: dialled(proxy), lambda count: count >= 3)
        assert first.all("report") == []
        proxy.swallows = False
        peer.acknowledges = True
        second = await peer.session(2)
        assert list(second.hello.held_job_ids) == ["j1"]
        (delivery,) = await second.reports(1)
        assert delivery.report.exchanges[0].replies
