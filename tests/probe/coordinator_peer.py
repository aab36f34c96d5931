"""A coordinator's end of the agent's stream, played by the test; and agents to dial it."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.metrics import NoOpMeterProvider

from poolproof import semconv
from poolproof.exchange import ExchangeKind
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import Job, Step
from poolproof.metering import Metering
from poolproof.semconv import Metric
from poolproof.special_purpose import Network
from poolproof.target import Target
from poolproof.tracing import NoSink
from poolproof.v1 import agent_pb2 as pb
from poolproof.v1 import agent_pb2_grpc as rpc
from poolproof.wire import job_to_wire, lease_to_wire
from probe.agent import Agent, AgentTimings
from probe.clock import SystemClock
from probe.compose import build_agent
from probe.guard import Guard
from probe.journal import Journal
from probe.metrics import METRICS, ProbeMetrics
from probe.outbox import Outbox
from probe.responder import Responder
from probe.runner import Runner
from probe.session import decode_report, encode_report
from probe.settings import ControlSettings, GuardSettings, JournalSettings, ProbeSettings
from probe.tripwire import NoTripwire
from probe.udp import UdpEngine
from probe.workload import Workload

MS = 1_000_000
PATIENCE_S = 15.0
HOUSE_TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
QUICK = AgentTimings(
    backoff_floor_s=0.01, backoff_first_s=0.02, backoff_cap_s=0.1, patience_s=2.0, steady_s=0.5, drain_s=5.0
)


@dataclass(slots=True, eq=False)
class Stream:
    """One session as the coordinator sees it."""

    hello: pb.Hello
    inbox: list[pb.SessionRequest] = field(default_factory=list)
    outgoing: asyncio.Queue[pb.SessionResponse | None] = field(default_factory=asyncio.Queue)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    over: bool = False
    patience_s: float = PATIENCE_S

    def lease(self, *jobs: Job) -> None:
        self.outgoing.put_nowait(pb.SessionResponse(lease=lease_to_wire(jobs)))

    def send(self, **message: Any) -> None:
        """Anything that the contract has a name for, however wrong."""
        self.outgoing.put_nowait(pb.SessionResponse(**message))

    def ack(self, *jobs: str) -> None:
        self.outgoing.put_nowait(pb.SessionResponse(report_ack=pb.ReportAck(job_ids=jobs)))

    def break_off(self) -> None:
        """End the stream from the coordinator's side."""
        self.outgoing.put_nowait(None)

    def all(self, kind: str) -> list[pb.SessionRequest]:
        return [message for message in self.inbox if message.WhichOneof("message") == kind]

    async def until(self, true: Callable[[], bool]) -> None:
        async with self.changed, asyncio.timeout(self.patience_s):
            await self.changed.wait_for(true)

    async def nothing_owed(self) -> None:
        """The agent says, after its last report, that it has none left."""
        await self.until(self._says_nothing_owed)

    def _says_nothing_owed(self) -> bool:
        last = max((n for n, each in enumerate(self.inbox) if each.WhichOneof("message") == "report"), default=-1)
        later = [each.heartbeat for each in self.inbox[last + 1 :] if each.WhichOneof("message") == "heartbeat"]
        return bool(later) and later[-1].reports_spooled == 0

    async def reports(self, count: int) -> list[pb.ReportDelivery]:
        """The first reports of the session, once so many are here."""
        await self.until(lambda: len(self.all("report")) >= count)
        return [message.report for message in self.all("report")]


@dataclass(slots=True, eq=False)
class Peer(rpc.AgentServiceServicer):
    """Answers as it is told; counts sessions."""

    heartbeat_ns: int = 200 * MS
    echoes: bool = True
    acknowledges: bool = False
    reject: pb.Reject | None = None
    streams: list[Stream] = field(default_factory=list)
    dialled: int = 0
    patience_s: float = PATIENCE_S
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def session(self, number: int) -> Stream:
        """The session of that number, counted from 1, once it is there."""
        async with self._changed, asyncio.timeout(self.patience_s):
            await self._changed.wait_for(lambda: len(self.streams) >= number)
        return self.streams[number - 1]

    async def dials(self, number: int) -> None:
        async with self._changed, asyncio.timeout(PATIENCE_S):
            await self._changed.wait_for(lambda: self.dialled >= number)

    async def Session(  # type: ignore[override]  # noqa: N802
        self, _: object, context: grpc.aio.ServicerContext[pb.SessionRequest, pb.SessionResponse]
    ) -> None:
        first = await context.read()
        assert isinstance(first, pb.SessionRequest)
        async with self._changed:
            self.dialled += 1
            self._changed.notify_all()
        if self.reject is not None:
            await context.write(pb.SessionResponse(reject=self.reject))
            return
        welcome = pb.Welcome(
            session_id=f"s{self.dialled}",
            heartbeat_interval_ns=self.heartbeat_ns,
            protocol_version=1,
            server_time_ns=time.time_ns(),
        )
        await context.write(pb.SessionResponse(welcome=welcome))
        stream = Stream(first.hello, patience_s=self.patience_s)
        async with self._changed:
            self.streams.append(stream)
            self._changed.notify_all()
        reading = asyncio.create_task(self._read(stream, context))
        try:
            while (message := await stream.outgoing.get()) is not None:
                await context.write(message)
        finally:
            # Left alone, a pending read keeps the server from ever stopping.
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(
        self, stream: Stream, context: grpc.aio.ServicerContext[pb.SessionRequest, pb.SessionResponse]
    ) -> None:
        while isinstance(message := await context.read(), pb.SessionRequest):
            async with stream.changed:
                stream.inbox.append(message)
                stream.changed.notify_all()
            if message.WhichOneof("message") == "heartbeat" and self.echoes:
                echo = pb.HeartbeatEcho(
                    sequence=message.heartbeat.sequence,
                    sent_at_ns=message.heartbeat.sent_at_ns,
                    server_time_ns=time.time_ns(),
                )
                stream.outgoing.put_nowait(pb.SessionResponse(heartbeat_echo=echo))
            if message.WhichOneof("message") == "report" and self.acknowledges:
                stream.ack(message.report.report.job_id)
        stream.over = True
        async with stream.changed:
            stream.changed.notify_all()
        stream.outgoing.put_nowait(None)


@asynccontextmanager
async def serving(peer: Peer, port: int = 0, *, path: Path | None = None) -> AsyncIterator[int]:
    """Listen on a port of the loopback, or on a Unix socket, which agents in every namespace reach."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0), ("grpc.http2.max_ping_strikes", 0)))
    rpc.add_AgentServiceServicer_to_server(peer, server)
    bound = server.add_insecure_port(f"unix:{path}" if path else f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


@asynccontextmanager
async def target() -> AsyncIterator[Responder]:
    """An NTP server that is its own control server."""
    responder = Responder([("127.0.0.1", 0)])
    await responder.start()
    try:
        yield responder
    finally:
        await responder.stop()


def settings(directory: Path, port: int, responder: Responder) -> ProbeSettings:
    where = Target("127.0.0.1", responder.listen[0][1])
    loopback: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"),)
    return ProbeSettings(
        vantage=VantageId("ams1"),
        coordinator=f"127.0.0.1:{port}",
        ipv4="127.0.0.1",
        guard=GuardSettings(allow_networks=loopback, allow_ports=frozenset({where.port})),
        control=ControlSettings(servers=(where,), timeout_ns=200 * MS, lead_ns=100 * MS),
        journal=JournalSettings(directory=directory),
        version="test",
    )


def job(name: str, responder: Responder, *, ahead_ns: int = 400 * MS, traceparent: str = HOUSE_TRACE) -> Job:
    return Job(
        id=JobId(name),
        verification=VerificationId("w1"),
        vantage=VantageId("ams1"),
        target=Target("127.0.0.1", responder.listen[0][1]),
        source="127.0.0.1",
        start_at_ns=time.time_ns() + ahead_ns,
        steps=(Step(ExchangeKind.CLIENT_V4, 0),),
        timeout_ns=100 * MS,
        linger_ns=50 * MS,
        traceparent=traceparent,
    )


class Counted(Metering):
    """Metrics that somebody can wait for."""

    def __init__(self) -> None:
        super().__init__(NoOpMeterProvider(), METRICS)
        self.ends: list[str] = []
        self._changed = asyncio.Event()

    def record(self, metric: Metric, amount: float, labels: Mapping[str, str] = semconv.NO_LABELS) -> None:
        super().record(metric, amount, labels)
        if metric is semconv.SESSIONS:
            self.ends.append(labels["end"])
            self._changed.set()

    async def ended(self, count: int) -> list[str]:
        """How the first sessions ended, once there were so many."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.ends) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.ends


@dataclass(slots=True)
class Probe:
    """An agent at work in this process."""

    agent: Agent
    journal: Journal
    task: asyncio.Task[None]

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(self.task)


@asynccontextmanager
async def probing(
    settings: ProbeSettings, *, metering: Metering | None = None, timings: AgentTimings = QUICK
) -> AsyncIterator[Probe]:
    """All of a probe but its command line."""
    clock = SystemClock()
    metrics = ProbeMetrics(metering or Metering(NoOpMeterProvider(), METRICS))
    journal = Journal(settings.journal, encode=encode_report, decode=decode_report)
    bits = iter(range(1, 1 << 30))
    runner = Runner(
        settings,
        transport=UdpEngine(),
        tripwire=NoTripwire(),
        journal=journal,
        guard=Guard(settings),
        clock=clock,
        entropy=lambda wanted: next(bits) % (1 << wanted) or 1,
    )
    outbox = Outbox(journal, clock)
    workload = Workload(
        runner=runner,
        journal=journal,
        outbox=outbox,
        clock=clock,
        entropy=lambda wanted: next(bits) % (1 << wanted) or 1,
        metrics=metrics,
        sink=NoSink(),
        resource={"service.name": "poolproof-probe"},
        capacity=settings.guard.max_jobs,
        jobs_per_minute=settings.guard.jobs_per_minute,
    )
    agent = build_agent(
        settings,
        workload=workload,
        outbox=outbox,
        clock=clock,
        metrics=metrics,
        timings=timings,
        can_watch=False,
    )
    task = asyncio.create_task(agent.run())
    try:
        yield Probe(agent, journal, task)
    finally:
        task.cancel()
        await asyncio.wait([task])
        journal.close()


def raw_lease(jobs: Iterable[Job]) -> pb.Lease:
    """A lease to be spoilt."""
    return pb.Lease(jobs=map(job_to_wire, jobs))
