"""The coordinator's end of an agent's stream (proto/poolproof/v1/agent.proto).

The handler itself is the stream's one writer and serves the agent's bounded queue; a listener beside it takes what
comes. A report is acknowledged only once it is stored. When storing fails, the session ends without an acknowledgement:
the agent connects anew and sends the report again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass

import grpc

from coordinator.conductor import Conductor
from coordinator.ports import Clock
from coordinator.problems import CoordinatorError, UnknownVerificationError
from coordinator.registry import Acknowledged, Agent, Echo, Ended, EndReason, Lease, Leaving, Message, Registry, Woken
from coordinator.settings import CoordinatorSettings
from coordinator.store.errors import InvalidRequestError, StoreError
from coordinator.tickets import TicketError, Tickets
from coordinator.tracing_port import Telemetry
from coordinator.turns import MAX_REPORT_BYTES
from poolproof.ids import JobId, VantageId
from poolproof.job import Report
from poolproof.policy import SECOND_NS
from poolproof.span import Span
from poolproof.v1 import agent_pb2 as pb
from poolproof.v1 import agent_pb2_grpc
from poolproof.v1 import evidence_pb2 as evidence
from poolproof.verification import Foreign, ForeignReportError
from poolproof.wire import (
    PROTOCOL_VERSION,
    Hello,
    Welcome,
    WireError,
    clock_from_wire,
    hello_from_wire,
    job_ids_from_wire,
    lease_to_wire,
    report_from_wire,
    welcome_to_wire,
)
from poolproof.wire.trace import spans_from_wire

HELLO_TIMEOUT_S = 10.0
MAX_REPORTS_AT_ONCE = 64
"""Reports of one session that are being stored; further ones wait in the stream."""
_MERGED = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Over:
    """Nothing more will come, or matter."""

    code: grpc.StatusCode
    detail: str


class AgentSessions(agent_pb2_grpc.AgentServiceServicer):
    """Serves `AgentService`.

    Args:
        registry: who is connected.
        conductor: takes reports.
        clock: Unix time.
        telemetry: told of sessions and refused reports.
        tickets: says whether a report is the one that was asked for.
        settings: heartbeat interval.
        new_session_id: gives each session an id.
    """

    def __init__(
        self,
        registry: Registry,
        conductor: Conductor,
        clock: Clock,
        telemetry: Telemetry,
        tickets: Tickets,
        settings: CoordinatorSettings,
        new_session_id: Callable[[], str],
    ) -> None:
        self._registry = registry
        self._conductor = conductor
        self._clock = clock
        self._telemetry = telemetry
        self._tickets = tickets
        self._settings = settings
        self._new_session_id = new_session_id

    async def Session(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.SessionRequest],
        context: grpc.aio.ServicerContext[pb.SessionRequest, pb.SessionResponse],
    ) -> AsyncIterator[pb.SessionResponse]:
        """See agent.proto."""
        hello = await self._hello(request_iterator)
        agent = hello if isinstance(hello, Ended) else self._registry.admit(hello, self._new_session_id())
        if isinstance(agent, Ended):
            _log.warning("session of %s refused (%s): %s", context.peer(), agent.word, agent.detail)
            self._telemetry.session_refused(agent.word)
            yield _message(agent)
            return
        _log.debug("session %s: %s is connected", agent.session_id, agent.vantage.id)
        self._telemetry.agent_connected(agent.vantage.id)
        over: asyncio.Future[_Over] = asyncio.get_running_loop().create_future()
        listener = asyncio.create_task(self._listen(agent, request_iterator, over))
        try:
            yield self._welcome(agent)
            self._conductor.joined(agent.vantage.id)
            async for message in _served(agent.queue, over):
                yield message
            if over.done() and over.result().code is not grpc.StatusCode.OK:
                await context.abort(over.result().code, over.result().detail)
        finally:
            self._registry.gone(agent)
            self._telemetry.agent_gone(agent.vantage.id)
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            _log.debug("session %s: %s is gone", agent.session_id, agent.vantage.id)

    async def _hello(self, stream: AsyncIterator[pb.SessionRequest]) -> Hello | Ended:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await anext(stream)
            if first.WhichOneof("message") != "hello":
                return Ended(EndReason.INVALID, "message: the first one of a session is hello; send that")
            return hello_from_wire(first.hello)
        except (TimeoutError, StopAsyncIteration):
            return Ended(EndReason.INVALID, f"hello: none came within {HELLO_TIMEOUT_S:g} s; send it first")
        except WireError as error:
            return Ended(EndReason.INVALID, str(error))

    def _welcome(self, agent: Agent) -> pb.SessionResponse:
        welcome = Welcome(
            agent.session_id, self._settings.heartbeat_interval_ns, PROTOCOL_VERSION, self._clock.now_ns()
        )
        return pb.SessionResponse(welcome=welcome_to_wire(welcome))

    async def _listen(
        self, agent: Agent, stream: AsyncIterator[pb.SessionRequest], over: asyncio.Future[_Over]
    ) -> None:
        """Takes what comes until the stream ends, the agent falls silent, or something cannot be stored."""
        end = _Over(grpc.StatusCode.OK, "")
        room = asyncio.Semaphore(MAX_REPORTS_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as tasks:
                watchdog = tasks.create_task(self._watch(agent))
                async for message in stream:
                    self._registry.heard(agent)
                    await self._take(agent, message, tasks, room)
                watchdog.cancel()
        except* WireError as errors:
            detail = str(errors.exceptions[0])
            end = _Over(grpc.StatusCode.INVALID_ARGUMENT, detail)
            _log.warning("session %s: %s: %s", agent.session_id, agent.vantage.id, detail)
        except* _SilentError:
            seconds = self._registry.silence_ns / SECOND_NS
            end = _Over(grpc.StatusCode.DEADLINE_EXCEEDED, f"nothing came from the agent for {seconds:g} s")
            _log.warning("session %s: %s: %s", agent.session_id, agent.vantage.id, end.detail)
        except* (StoreError, CoordinatorError) as errors:
            end = _Over(grpc.StatusCode.UNAVAILABLE, f"a report could not be stored: {errors.exceptions[0]}")
        except* Exception as errors:
            _log.exception("session %s: %s", agent.session_id, agent.vantage.id, exc_info=errors)
            end = _Over(grpc.StatusCode.INTERNAL, "the coordinator failed; its log says how")
        finally:
            # From now on nothing is handed to it, even while its stream is still being torn down.
            self._registry.gone(agent)
            if not over.done():
                over.set_result(end)

    async def _watch(self, agent: Agent) -> None:
        while True:
            left_ns = self._registry.silence_left_ns(agent)
            if left_ns <= 0:
                raise _SilentError
            await asyncio.sleep(left_ns / SECOND_NS)

    async def _take(
        self, agent: Agent, message: pb.SessionRequest, tasks: asyncio.TaskGroup, room: asyncio.Semaphore
    ) -> None:
        match message.WhichOneof("message"):
            case "report":
                await room.acquire()
                task = tasks.create_task(self._report(agent, message.report))
                task.add_done_callback(lambda _: room.release())
            case "job_refused":
                (job,) = job_ids_from_wire([message.job_refused.job_id], "job_refused.job_id")
                _log.warning("%s refuses job %s: %s", agent.vantage.id, job, message.job_refused.detail[:300])
                agent.outstanding.discard(job)
                await room.acquire()
                task = tasks.create_task(self._unreachable(agent.vantage.id, job))
                task.add_done_callback(lambda _: room.release())
            case "heartbeat":
                await self._heartbeat(agent, message.heartbeat)
            case "drain":
                _log.info("%s is going away: %s", agent.vantage.id, message.drain.reason[:300])
                agent.draining = True
            case "job_accepted" | "progress":
                pass  # informative: nothing rests on them
            case "hello":
                raise WireError("message", "hello", "a session has one hello; open another stream")
            case None:
                pass  # of a newer version of the contract

    async def _heartbeat(self, agent: Agent, heartbeat: pb.Heartbeat) -> None:
        now_ns = self._clock.now_ns()
        if heartbeat.HasField("clock"):
            agent.clock = clock_from_wire(heartbeat.clock, "heartbeat.clock")
        agent.skew_ns = now_ns - heartbeat.sent_at_ns
        agent.jobs_held, agent.reports_spooled = heartbeat.jobs_held, heartbeat.reports_spooled
        await agent.queue.put(Echo(heartbeat.sequence, heartbeat.sent_at_ns, now_ns))

    async def _report(self, agent: Agent, delivery: pb.ReportDelivery) -> None:
        (job,) = job_ids_from_wire([delivery.report.job_id], "report.job_id")
        refusal = await self._store(agent, job, delivery)
        agent.outstanding.discard(job)
        await agent.queue.put(Acknowledged(job, refusal))

    async def _store(self, agent: Agent, job: JobId, delivery: pb.ReportDelivery) -> str:
        """Why the report will never be taken; empty once it is stored."""
        raw = delivery.report.SerializeToString()
        try:
            report = _checked(agent, delivery.report, len(raw))
            self._tickets.check(report, agent.vantage.id, self._clock.now_ns())
            await self._conductor.reported(report, raw, _spans(delivery))
        except TicketError as error:
            # Who made it up can neither answer the job nor spoil it.
            self._refused(agent, job, error.fault.value, error)
            return str(error)
        except WireError as error:
            self._refused(agent, job, "too-large" if len(raw) > MAX_REPORT_BYTES else "invalid", error)
            await self._unreachable(agent.vantage.id, job)  # it never comes in a form that says anything
            return str(error)
        except UnknownVerificationError as error:
            self._refused(agent, job, "unknown-verification", error)
            return str(error)
        except ForeignReportError as error:
            self._refused(agent, job, error.foreign.value, error)
            return str(error)
        except InvalidRequestError as error:
            self._refused(agent, job, "invalid", error)
            return str(error)
        return ""

    def _refused(self, agent: Agent, job: JobId, reason: str, error: Exception) -> None:
        _log.warning("report %s of %s refused (%s): %s", job, agent.vantage.id, reason, error)
        self._telemetry.report_refused(reason)
        self._registry.incident(agent.vantage.id, f"report refused: {reason}", str(error))

    async def _unreachable(self, vantage: VantageId, job: JobId) -> None:
        """The job says nothing about the target. An agent can say so of its own jobs only."""
        if job.rpartition("/")[2] != vantage:
            return
        try:
            await self._conductor.unreachable(job)
        except (UnknownVerificationError, InvalidRequestError) as error:
            _log.warning("%s speaks of job %s: %s", vantage, job, error)


class _SilentError(Exception):
    """Nothing came for too long."""


def _checked(agent: Agent, message: evidence.Report, size: int) -> Report:
    if size > MAX_REPORT_BYTES:
        raise WireError("report", f"{size} bytes", f"give at most {MAX_REPORT_BYTES}; keep fewer replies")
    report = report_from_wire(message)
    if report.vantage != agent.vantage.id:
        raise ForeignReportError(
            Foreign.OTHER_VANTAGE,
            f"report.vantage_id: {report.vantage}: this session is {agent.vantage.id}'s; send only your own",
        )
    return report


def _spans(delivery: pb.ReportDelivery) -> tuple[Span, ...]:
    """The delivery's spans; none if they are not valid, because a report is worth more than its spans."""
    try:
        return spans_from_wire(delivery.spans)
    except WireError as error:
        _log.warning("spans of report %s left out: %s", delivery.report.job_id[:200], error)
        return ()


async def _served(queue: asyncio.Queue[Message], over: asyncio.Future[_Over]) -> AsyncIterator[pb.SessionResponse]:
    """What waits in the queue, until the session is over. Acknowledgements that wait together go out as one.

    The end of the session is a message like any other, so that each wait is for one thing and needs no task of its own.
    """

    def wake(_: asyncio.Future[_Over]) -> None:
        # A full queue wakes the reader by itself.
        with contextlib.suppress(asyncio.QueueFull):
            queue.put_nowait(Woken())

    over.add_done_callback(wake)
    try:
        while not (over.done() and queue.empty()):
            batch = [await queue.get()]
            while len(batch) < _MERGED and not queue.empty():
                batch.append(queue.get_nowait())
            for message in _merged(batch):
                yield message
            if any(isinstance(message, Ended) for message in batch):
                return
    finally:
        over.remove_done_callback(wake)


def _merged(batch: Iterable[Message]) -> Iterator[pb.SessionResponse]:
    acknowledged: list[Acknowledged] = []
    for message in batch:
        if isinstance(message, Acknowledged):
            acknowledged.append(message)
        elif not isinstance(message, Woken):
            yield _message(message)
    if acknowledged:
        yield pb.SessionResponse(
            report_ack=pb.ReportAck(
                job_ids=[each.job for each in acknowledged if not each.refusal],
                refused=[
                    pb.RefusedReport(job_id=each.job, reason=each.refusal) for each in acknowledged if each.refusal
                ],
            )
        )


def _message(message: Lease | Echo | Leaving | Ended) -> pb.SessionResponse:
    match message:
        case Lease(jobs):
            return pb.SessionResponse(lease=lease_to_wire(jobs))
        case Echo():
            echo = pb.HeartbeatEcho(
                sequence=message.sequence, sent_at_ns=message.sent_at_ns, server_time_ns=message.server_time_ns
            )
            return pb.SessionResponse(heartbeat_echo=echo)
        case Leaving(reason):
            return pb.SessionResponse(drain=pb.Drain(reason=reason))
        case Ended():
            reject = pb.Reject(
                reason=pb.RejectReason.Value(f"REJECT_REASON_{message.reason.name}"),
                detail=message.detail,
                retry_after_ns=message.retry_after_ns,
            )
            return pb.SessionResponse(reject=reject)
