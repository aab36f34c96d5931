"""Agents that speak the real contract to a real coordinator, and see what a script says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import grpc

from poolproof.exchange import ExchangeKind, LocalFault
from poolproof.fleet import Vantage
from poolproof.ids import JobId, VantageId
from poolproof.job import Job, Report
from poolproof.target import Family
from poolproof.v1 import agent_pb2 as pb
from poolproof.v1 import agent_pb2_grpc as rpc
from poolproof.wire import Capabilities, Hello, hello_to_wire, lease_from_wire, report_to_wire
from tests.coordinator.doubles import ends_ns, report_of

ABLE = Capabilities(frozenset({Family.IPV4}), False, True, True, frozenset({ExchangeKind.CLIENT_V4}), 512)
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


def hello(vantage: str, nonce: bytes = b"n" * 16, version: int = 1) -> pb.SessionRequest:
    return pb.SessionRequest(hello=hello_to_wire(Hello(VantageId(vantage), "test", version, nonce, ABLE)))


@dataclass
class World:
    """What all agents see, and what the coordinator has told them.

    `does`, where there is one, does a job and says what it saw, in place of the script `answered`.
    """

    answered: Callable[[Job], bool] = lambda job: True
    does: Callable[[Job], Awaitable[Report]] | None = None
    leased: list[Job] = field(default_factory=list)
    acknowledged: dict[JobId, Report] = field(default_factory=dict)
    refused: dict[JobId, str] = field(default_factory=dict)
    connected: set[VantageId] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        self.changed.set()

    async def until(self, reached: Callable[[], bool], timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not reached():
                self.changed.clear()
                await self.changed.wait()


class Agent:
    """One probe's agent: does each job once, keeps each report until it is acknowledged, connects again and again."""

    def __init__(self, vantage: Vantage, address: str, world: World) -> None:
        self._vantage = vantage
        self._address = address
        self._world = world
        self._known: dict[JobId, Report] = {}
        self._running: dict[JobId, asyncio.Task[None]] = {}
        self._out: asyncio.Queue[pb.SessionRequest] = asyncio.Queue()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self._session()
                self._world.connected.discard(self._vantage.id)
                self._world.tell()
                await asyncio.sleep(0.05)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _session(self) -> None:
        async with grpc.aio.insecure_channel(self._address, options=OPTIONS) as channel:
            self._out = asyncio.Queue()
            self._out.put_nowait(hello(self._vantage.id, self._vantage.id.encode().ljust(16, b".")))
            for report in self._known.values():
                if report.job not in self._world.acknowledged:
                    self._deliver(report)
            beating: asyncio.Task[None] | None = None
            try:
                async for message in rpc.AgentServiceStub(channel).Session(self._requests()):
                    match message.WhichOneof("message"):
                        case "welcome":
                            beating = asyncio.create_task(self._beat(message.welcome.heartbeat_interval_ns / 1e9))
                            self._world.connected.add(self._vantage.id)
                        case "lease":
                            for job in lease_from_wire(message.lease):
                                self._take(job)
                        case "report_ack":
                            self._acknowledged(message.report_ack)
                    self._world.tell()
            finally:
                if beating is not None:
                    beating.cancel()
                    await asyncio.gather(beating, return_exceptions=True)

    async def _requests(self) -> AsyncIterator[pb.SessionRequest]:
        out = self._out
        while True:
            yield await out.get()

    async def _beat(self, interval_s: float) -> None:
        sequence = 0
        while True:
            sequence += 1
            beat = pb.Heartbeat(sequence=sequence, sent_at_ns=time.time_ns(), jobs_held=len(self._running))
            self._out.put_nowait(pb.SessionRequest(heartbeat=beat))
            await asyncio.sleep(interval_s)

    def _take(self, job: Job) -> None:
        self._out.put_nowait(pb.SessionRequest(job_accepted=pb.JobAccepted(job_ids=[job.id])))
        if job.id in self._known:
            self._deliver(self._known[job.id])
        elif job.id not in self._running:
            self._world.leased.append(job)
            self._running[job.id] = asyncio.create_task(self._do(job))

    async def _do(self, job: Job) -> None:
        fault = LocalFault.MISSED_START if time.time_ns() > job.start_at_ns else None
        if fault is None and self._world.does is not None:
            report = replace(await self._world.does(job), ticket=job.ticket)
        else:
            if fault is None:
                await asyncio.sleep(max(0, ends_ns(job) - time.time_ns()) / 1e9)
            report = report_of(job, self._world.answered, fault)
        self._known[job.id] = report
        del self._running[job.id]
        self._deliver(report)

    def _deliver(self, report: Report) -> None:
        self._out.put_nowait(pb.SessionRequest(report=pb.ReportDelivery(report=report_to_wire(report))))

    def _acknowledged(self, ack: pb.ReportAck) -> None:
        self._world.acknowledged.update((JobId(job), self._known[JobId(job)]) for job in ack.job_ids)
        self._world.refused.update((JobId(each.job_id), each.reason) for each in ack.refused)


@contextlib.asynccontextmanager
async def fleet_of(fleet: tuple[Vantage, ...], address: str, world: World) -> AsyncIterator[None]:
    """A whole fleet's agents for as long as the block lasts."""
    tasks = [asyncio.create_task(Agent(vantage, address, world).run()) for vantage in fleet]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
