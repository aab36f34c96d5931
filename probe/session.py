"""One session with the coordinator: a stream that the agent opens, with one writer and one reader.

    agent                        coordinator
      Hello (held jobs)  ----->
                         <-----  Welcome | Reject
      every held report  ----->
                         <-----  Lease, ReportAck, HeartbeatEcho ... Drain
      JobAccepted, ReportDelivery, Heartbeat ... DrainNotice ----->

A coordinator that hangs still holds its sockets open, so the agent believes in it only while it is heard from: each
heartbeat is echoed, and three intervals without a word end the session. How a session ended is a value; what it leaves
undone is taken up by the next one (`agent`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, assert_never

import grpc
from google.protobuf.message import DecodeError

from poolproof.ids import JobId
from poolproof.job import Report
from poolproof.v1 import agent_pb2 as pb
from poolproof.v1 import agent_pb2_grpc as rpc
from poolproof.v1 import evidence_pb2
from poolproof.wire import (
    PROTOCOL_VERSION,
    Hello,
    WireError,
    checks,
    clock_to_wire,
    hello_to_wire,
    job_from_wire,
    job_ids_from_wire,
    report_from_wire,
    report_to_wire,
    welcome_from_wire,
)
from poolproof.wire.session import MAX_HELD_JOBS, MAX_LEASED_JOBS
from poolproof.wire.trace import MAX_SPANS, spans_to_wire
from probe.abilities import capabilities
from probe.clock import Clock
from probe.ending import LONGEST_RETRY_S, End, EndedError, EndKind, cut
from probe.outbox import Delivery, Outbox
from probe.settings import ProbeSettings
from probe.workload import Workload

_log = logging.getLogger(__name__)

QUEUE_MESSAGES: Final = 256
MAX_DELIVERY_BYTES: Final = 3_500_000
"""Under gRPC's own bound of 4 MiB: a report that nobody can receive would be sent for ever."""
SILENT_HEARTBEATS: Final = 3
_UNREAD: Final = "more jobs came in within a minute than guard.jobs_per_minute allows; this one was not read"

CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.enable_retries", 0),
    # A proxy that happens to stand in the environment would move the vantage.
    ("grpc.enable_http_proxy", 0),
    # Each attempt is a fresh one: how long to wait is `backoff`'s business alone.
    ("grpc.use_local_subchannel_pool", 1),
)

_Stream: TypeAlias = "grpc.aio.StreamStreamCall[pb.SessionRequest, pb.SessionResponse]"


def encode_report(report: Report) -> bytes:
    """A report as the journal keeps it."""
    return report_to_wire(report).SerializeToString()


def decode_report(record: bytes) -> Report:
    """The reverse of `encode_report`.

    Raises:
        ValueError: not what was written.
    """
    try:
        message = evidence_pb2.Report.FromString(record)
    except DecodeError as error:
        raise ValueError(f"no report ({error})") from None
    return report_from_wire(message)


class Session:
    """One stream, from Hello to its end."""

    def __init__(
        self,
        settings: ProbeSettings,
        *,
        workload: Workload,
        outbox: Outbox,
        clock: Clock,
        nonce: bytes,
        stopping: asyncio.Event,
        patience_s: float,
        can_watch: bool,
    ) -> None:
        """One session, not yet dialled.

        Args:
            settings, workload, outbox, clock: the probe's.
            nonce: 16 bytes of this process.
            stopping: set when the agent is going away.
            patience_s: for the welcome.
            can_watch: there is a tripwire here.
        """
        self._settings = settings
        self._workload = workload
        self._outbox = outbox
        self._clock = clock
        self._nonce = nonce
        self._stopping = stopping
        self._patience_s = patience_s
        self._can_watch = can_watch
        self._outgoing: asyncio.Queue[pb.SessionRequest] = asyncio.Queue(QUEUE_MESSAGES)
        self._leaving = asyncio.Event()
        self._stood = False

    async def run(self) -> End:
        """Dial, work until it ends, and say how it ended."""
        async with grpc.aio.insecure_channel(self._settings.coordinator, options=CHANNEL_OPTIONS) as channel:
            # Without an iterator of requests the call is written to; the generated types know only of the other way.
            call = rpc.AgentServiceStub(channel).Session()  # type: ignore[call-arg]
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._told(call, lambda: self._hold(call, group)))
            except* EndedError as ended:
                first = ended.exceptions[0]
                assert isinstance(first, EndedError)
                end = End(first.kind, first.detail, self._stood, first.retry_after_s, first.is_final)
            finally:
                call.cancel()
        return end

    async def _hold(self, call: _Stream, group: asyncio.TaskGroup) -> None:
        self._outbox.begin_session()
        try:
            # A write waits for a connection, and one to an address that swallows packets never comes about.
            async with asyncio.timeout(self._patience_s):
                await call.write(pb.SessionRequest(hello=self._hello()))
                first = await self._read(call, self._patience_s)
        except TimeoutError:
            raise EndedError(EndKind.UNREACHABLE, f"no welcome within {self._patience_s:g} s") from None
        interval_s = self._welcomed(first)
        for work in (
            lambda: self._write(call),
            lambda: self._beat(interval_s),
            self._deliver,
            lambda: self._leave(self._stopping, EndKind.DRAINED, drain=True),
            lambda: self._leave(self._leaving, EndKind.MOVED, drain=False),
            self._fail,
        ):
            group.create_task(self._told(call, work))
        while True:
            await self._heard(await self._read(call, SILENT_HEARTBEATS * interval_s))

    async def _told(self, call: _Stream, work: Callable[[], Awaitable[None]]) -> None:
        """Whatever breaks the stream, in whichever task it shows first, is one end of the session."""
        try:
            await work()
        except grpc.aio.AioRpcError as error:
            kind = EndKind.LOST if self._stood else EndKind.UNREACHABLE
            raise EndedError(kind, f"{error.code().name}: {error.details()}") from None
        except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            # A write on a stream that is over; its status says why.
            detail = f"{(await call.code()).name}: {await call.details()}"
            raise EndedError(EndKind.LOST if self._stood else EndKind.UNREACHABLE, detail) from error
        except WireError as error:
            raise EndedError(EndKind.INVALID, str(error)) from None

    def _hello(self) -> pb.Hello:
        settings = self._settings
        held = dict.fromkeys((*self._workload.running, *self._outbox.owed))
        return hello_to_wire(
            Hello(
                vantage=settings.vantage,
                agent_version=settings.version or "unknown",
                protocol_version=PROTOCOL_VERSION,
                session_nonce=self._nonce,
                capabilities=capabilities(settings, can_watch=self._can_watch),
                held_jobs=tuple(held)[:MAX_HELD_JOBS],
                ipv4=settings.ipv4,
                ipv6=settings.ipv6,
                ipv6_prefix=None if settings.ipv6_prefix is None else str(settings.ipv6_prefix),
            )
        )

    async def _read(self, call: _Stream, within_s: float) -> pb.SessionResponse:
        try:
            async with asyncio.timeout(within_s):
                message = await call.read()
        except TimeoutError:
            raise EndedError(EndKind.HUNG, f"nothing was heard from the coordinator for {within_s:g} s") from None
        if not isinstance(message, pb.SessionResponse):
            status = await call.code()
            if status is not grpc.StatusCode.OK:
                kind = EndKind.LOST if self._stood else EndKind.UNREACHABLE
                raise EndedError(kind, f"{status.name}: {await call.details()}")
            raise EndedError(EndKind.LOST, "the coordinator closed the stream")
        return message

    def _welcomed(self, message: pb.SessionResponse) -> float:
        match message.WhichOneof("message"):
            case "welcome":
                welcome = welcome_from_wire(message.welcome)
            case "reject":
                raise rejected(message.reject)
            case other:
                raise WireError("session", other, "the first message must be welcome or reject")
        self._stood = True
        ahead_s = (self._clock.now_ns() - welcome.server_time_ns) / 1e9
        _log.info(
            "session stands",
            extra={"session": welcome.session_id, "coordinator": self._settings.coordinator, "ahead_s": ahead_s},
        )
        return welcome.heartbeat_interval_ns / 1e9

    async def _heard(self, message: pb.SessionResponse) -> None:
        match message.WhichOneof("message"):
            case "lease":
                await self._leased(message.lease)
            case "report_ack":
                await self._acknowledged(message.report_ack)
            case "heartbeat_echo":
                pass  # being heard is all that it is for
            case "drain":
                if not self._leaving.is_set():
                    _log.info("the coordinator drains", extra={"reason": cut(message.drain.reason)})
                self._leaving.set()
            case "reject":
                raise rejected(message.reject)
            case "welcome":
                raise WireError("session", "welcome", "a session is welcomed once")
            case None:
                _log.warning("a message of a kind that this version does not know was passed over")
            case other:
                assert_never(other)

    async def _leased(self, lease: pb.Lease) -> None:
        checks.length("lease.jobs", lease.jobs, MAX_LEASED_JOBS, 1)
        accepted: list[JobId] = []
        unread = 0
        for index, message in enumerate(lease.jobs):
            if not self._workload.looks_at_another():
                unread += 1
                await self._refuse(message.id, pb.JOB_REFUSAL_CAPACITY, _UNREAD, log=unread == 1)
                continue
            try:
                job = job_from_wire(message, f"lease.jobs[{index}]")
            except WireError as error:
                await self._refuse(message.id, pb.JOB_REFUSAL_INVALID, str(error))
                continue
            no_room = self._workload.accept(job)
            if no_room is None:
                accepted.append(job.id)
            else:
                await self._refuse(job.id, pb.JOB_REFUSAL_CAPACITY, no_room)
        if accepted:
            await self._outgoing.put(pb.SessionRequest(job_accepted=pb.JobAccepted(job_ids=accepted)))

    async def _refuse(self, job: str, reason: pb.JobRefusal.ValueType, detail: str, *, log: bool = True) -> None:
        # An id that is none can be megabytes long, and hundreds of refusals can wait to be sent.
        job = job[: checks.MAX_ID_CHARACTERS]
        if log:
            _log.warning("job refused", extra={"job": job, "reason": pb.JobRefusal.Name(reason), "detail": detail})
        refused = pb.JobRefused(job_id=job, reason=reason, detail=detail)
        await self._outgoing.put(pb.SessionRequest(job_refused=refused))

    async def _acknowledged(self, ack: pb.ReportAck) -> None:
        for field, items in (("job_ids", ack.job_ids), ("refused", ack.refused)):
            checks.length(f"report_ack.{field}", items, MAX_HELD_JOBS)
        stored = job_ids_from_wire(ack.job_ids, "report_ack.job_ids")
        refused = job_ids_from_wire((each.job_id for each in ack.refused), "report_ack.refused")
        for each in ack.refused:
            _log.warning("report refused by the coordinator", extra={"job": each.job_id, "reason": cut(each.reason)})
        await self._outbox.acknowledge((*stored, *refused))

    async def _write(self, call: _Stream) -> None:
        # Two writers on one stream would kill it: this is the only one once the session stands.
        while True:
            await call.write(await self._outgoing.get())

    async def _beat(self, interval_s: float) -> None:
        sequence = 0
        while True:
            sequence += 1
            self._workload.measure_journal()
            heartbeat = pb.Heartbeat(
                sequence=sequence,
                sent_at_ns=self._clock.now_ns(),
                jobs_held=len(self._workload.running),
                reports_spooled=len(self._outbox.owed),
            )
            if self._workload.clock_check is not None:
                heartbeat.clock.CopyFrom(clock_to_wire(self._workload.clock_check))
            await self._outgoing.put(pb.SessionRequest(heartbeat=heartbeat))
            await asyncio.sleep(interval_s)

    async def _deliver(self) -> None:
        while True:
            delivery = await self._outbox.take()
            await self._outgoing.put(pb.SessionRequest(report=delivery_to_wire(delivery)))

    async def _leave(self, asked: asyncio.Event, kind: EndKind, *, drain: bool) -> None:
        """Once asked to, end the session as soon as nothing runs and nothing is owed."""
        await asked.wait()
        if drain:
            self._workload.drain()
            await self._outgoing.put(pb.SessionRequest(drain=pb.DrainNotice(reason="the agent is shutting down")))
        await self._workload.idle()
        await self._outbox.empty()
        raise EndedError(kind, "all jobs are done and all reports acknowledged")

    async def _fail(self) -> None:
        await asyncio.shield(self._workload.failure)


def delivery_to_wire(delivery: Delivery) -> pb.ReportDelivery:
    """A report with its spans, or with as few of them as fit."""
    message = pb.ReportDelivery(
        report=report_to_wire(delivery.report),
        spans=spans_to_wire(delivery.spans[:MAX_SPANS]),
        spans_dropped=delivery.spans_dropped + max(0, len(delivery.spans) - MAX_SPANS),
    )
    if message.ByteSize() > MAX_DELIVERY_BYTES:
        message.spans_dropped += len(message.spans)
        del message.spans[:]
    return message


_FINAL: Final = frozenset(
    {
        pb.REJECT_REASON_VERSION,
        pb.REJECT_REASON_IDENTITY,
        pb.REJECT_REASON_TAKEN_OVER,
        pb.REJECT_REASON_INVALID,
    }
)
"""Reasons that go away only when somebody changes something, unless the coordinator names a time."""


def rejected(reject: pb.Reject) -> EndedError:
    """The end that a rejection is."""
    known = reject.reason in pb.RejectReason.values()
    name = pb.RejectReason.Name(reject.reason).removeprefix("REJECT_REASON_") if known else str(reject.reason)
    return EndedError(
        EndKind.REJECTED,
        f"{name.lower().replace('_', '-')}: {cut(reject.detail) or 'no reason given'}",
        retry_after_s=min(reject.retry_after_ns / 1e9, LONGEST_RETRY_S),
        is_final=reject.reason in _FINAL and reject.retry_after_ns == 0,
    )
