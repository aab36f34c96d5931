"""Messages where they arrive: both ends of the agents' stream, the state machine, spans that somebody else made."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError

from coordinator.disclosure import disclosed
from coordinator.problems import UnknownVerificationError
from coordinator.records import report_key
from coordinator.registry import Acknowledged, Agent, Registry
from coordinator.session import AgentSessions
from coordinator.settings import CoordinatorSettings
from coordinator.store.errors import InvalidRequestError
from coordinator.store.port import check_key
from coordinator.tickets import Tickets
from coordinator.trace_tree import draw_text
from coordinator.traces import report_spans
from coordinator.wall_clock import WallClock
from poolproof import semconv
from poolproof.ids import JobId, VantageId
from poolproof.job import Job, Report
from poolproof.lifecycle import handle, next_wake_ns
from poolproof.span import Span
from poolproof.v1 import agent_pb2, evidence_pb2, trace_pb2
from poolproof.verdict import ControlProven
from poolproof.verification import ForeignReportError, Reported, State, Step, Verification
from poolproof.wire import Hello, WireError, from_record, hello_from_wire, report_from_wire, to_record
from poolproof.wire.trace import spans_from_record, spans_from_wire
from probe.clock import SystemClock
from probe.ending import EndedError
from probe.session import Session
from probe.settings import ProbeSettings
from tests.coordinator.agents import hello
from tests.coordinator.doubles import NoTelemetry
from tests.fuzz.harness import NOISE, Harness
from tests.fuzz.messages import Words, message
from tests.fuzz.splitter import Splitter
from tests.fuzz.wire_messages import WORDS
from tests.kernel.fleets import POLICY, TARGET, attempt_of, begin, challenged, first_round, requested, vantage
from tests.kernel.fleets import START_NS as BEGAN_NS

_LOOP = asyncio.new_event_loop()
logging.getLogger("coordinator").addHandler(logging.NullHandler())
logging.getLogger("probe").addHandler(logging.NullHandler())


@cache
def _lives() -> tuple[Step, ...]:
    """A verification whose baseline is under way, and one whose first round is."""
    return handle(requested(), begin(), BEGAN_NS, POLICY), first_round(challenged())


@cache
def _jobs() -> tuple[Job, ...]:
    return tuple(job for life in _lives() for job in life.dispatch)


@cache
def _tickets() -> Tickets:
    return Tickets(bytes(32), 1 << 60)


@cache
def _words() -> Words:
    """Names that belong together: jobs, vantages and the target of the lives."""
    jobs = _jobs()
    ids = tuple(job.id for job in jobs[:2] + jobs[-2:])
    more = {
        "job_id": (*ids, "verify1/1/baseline/v00", "verify1/2/0/v00", "verify1//", "x"),
        "job_ids": (*ids, "x"),
        "vantage_id": tuple(job.vantage for job in jobs[:2] + jobs[-2:]),
        "destination": (TARGET.address,),
        "port": (TARGET.port,),
        "ticket": tuple(_tickets().issue(job) for job in jobs[:2] + jobs[-2:]),
        "sent_at_ns": (jobs[-1].start_at_ns,),
        "name": (semconv.JOB, semconv.EXCHANGE, semconv.CONTROL, semconv.ROUND, semconv.ATTEMPT),
        "trace_id": (bytes(range(16)),),
        "parent_span_id": (bytes(range(8)), bytes(range(1, 9)), bytes(range(2, 10)), b""),
        "span_id": (bytes(range(8)), bytes(range(1, 9)), bytes(range(2, 10))),
    }
    return Words({**WORDS.values, **more})


def _reported(data: bytes) -> str:
    """One report, whatever it says, is taken into a record that can be read again, or refused; and proves nothing."""
    split = Splitter(data)
    life = split.pick(_lives())
    asked, now_ns = split.pick(life.dispatch[:3]), BEGAN_NS + split.number(6)
    try:
        wanted = message(evidence_pb2.Report, split, _words())
        if split.below(4) != 3:
            wanted.job_id, wanted.vantage_id = asked.id, asked.vantage
            del wanted.exchanges[len(asked.steps) :]
            while wanted.exchanges and len(wanted.exchanges) < len(asked.steps):
                wanted.exchanges.append(wanted.exchanges[0])
            for each in wanted.exchanges if split.below(4) != 3 else ():
                each.source = asked.source
        report = report_from_wire(wanted)
    except (DecodeError, WireError):
        return "invalid"
    try:
        check_key(report_key(report.job))
        step = handle(life.verification, Reported(report), now_ns, POLICY)
    except (ForeignReportError, InvalidRequestError):
        return "foreign"
    assert report.vantage == report.job.rpartition("/")[2], "a probe speaks for another"
    assert {(each.destination, each.port) for each in report.exchanges} == {(TARGET.address, TARGET.port)}
    assert not isinstance(step.verification.verdict, ControlProven), "one report proves nothing"
    assert from_record(to_record(step.verification)) == step.verification
    due_ns = next_wake_ns(step.verification, POLICY)
    assert (due_ns is None) == (step.verification.state is State.CONCLUDED)
    again = handle(step.verification, Reported(report), now_ns, POLICY)
    assert again.verification == step.verification
    assert not again.dispatch, "a report counts twice"
    return "nothing new" if step.verification == life.verification else "taken"


class _Conductor:
    """Takes whatever the session passes on."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.gone: list[JobId] = []

    async def reported(self, report: Report, raw: bytes, spans: tuple[Span, ...]) -> None:
        assert report_from_wire(evidence_pb2.Report.FromString(raw)) == report
        if report.job.startswith("x"):
            raise UnknownVerificationError(_lives()[0].verification.id)
        self.reports.append(report)

    async def unreachable(self, job: JobId) -> None:
        self.gone.append(job)


@cache
def _hello() -> Hello:
    return hello_from_wire(hello(_jobs()[0].vantage).hello)


def _heard(data: bytes) -> str:
    """No message of an agent makes the coordinator fail; what is passed on is its own, and each report is answered."""
    split = Splitter(data)
    messages: list[agent_pb2.SessionRequest] = []
    for _ in range(1 + split.below(3)):
        part = Splitter(split.octets(250))
        try:
            messages.append(message(agent_pb2.SessionRequest, part, _words()))
        except DecodeError:
            continue

    async def stream() -> AsyncIterator[agent_pb2.SessionRequest]:
        for each in messages:
            yield each

    async def listen() -> tuple[Agent, Any, _Conductor]:
        settings = CoordinatorSettings(fleet_file=Path("fleet.toml"), send_queue=1_000)
        fleet = [vantage(int(_jobs()[0].vantage[1:]))]
        registry, conductor = Registry(fleet, WallClock(), settings), _Conductor()
        agent = registry.admit(_hello(), "s1")
        assert isinstance(agent, Agent)
        sessions = AgentSessions(
            registry, cast(Any, conductor), WallClock(), NoTelemetry(), _tickets(), settings, lambda: "s1"
        )
        over: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await sessions._listen(agent, stream(), over)
        return agent, over.result(), conductor

    agent, end, conductor = _LOOP.run_until_complete(listen())
    assert end.code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), end
    mine = agent.vantage.id
    assert all(report.vantage == mine for report in conductor.reports), "an agent speaks for another"
    assert all(job.rpartition("/")[2] == mine for job in conductor.gone), "an agent gives up another's job"
    answered = [item.job for item in agent.queue._queue if isinstance(item, Acknowledged)]  # type: ignore[attr-defined]
    assert len(answered) >= len(conductor.reports)
    return "ended" if end.code is not grpc.StatusCode.OK else "passed on" if conductor.reports else "heard"


class _Workload:
    capacity = 2
    running = ()

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def looks_at_another(self) -> bool:
        return True

    def accept(self, job: Job) -> str | None:
        if len(self.jobs) < self.capacity:
            self.jobs.append(job)
        return None if job in self.jobs else "no room"


class _Outbox:
    def __init__(self) -> None:
        self.acknowledged: list[JobId] = []

    async def acknowledge(self, jobs: tuple[JobId, ...]) -> None:
        self.acknowledged += jobs


def _told(data: bytes) -> str:
    """No message of a coordinator makes a probe fail; each job of a lease is accepted or refused by its id."""
    split = Splitter(data)
    try:
        said = message(agent_pb2.SessionResponse, split, _words())
    except DecodeError:
        return "no message"
    workload, outbox = _Workload(), _Outbox()
    settings = ProbeSettings(vantage=VantageId("v00"), coordinator="127.0.0.1:1", ipv4="192.0.2.1")

    async def hear() -> tuple[Session, str]:
        session = Session(
            settings,
            workload=cast(Any, workload),
            outbox=cast(Any, outbox),
            clock=SystemClock(),
            nonce=bytes(16),
            stopping=asyncio.Event(),
            patience_s=1,
            can_watch=True,
        )
        try:
            if split.flag():
                assert 0.1 <= session._welcomed(said) <= 600
                return session, "welcomed"
            await session._heard(said)
        except (WireError, EndedError) as error:
            assert str(error)
            return session, "ended"
        return session, "heard"

    session, end = _LOOP.run_until_complete(hear())
    if end != "heard" or said.WhichOneof("message") != "lease":
        return end
    answers = [session._outgoing.get_nowait() for _ in range(session._outgoing.qsize())]
    accepted = [job for answer in answers for job in answer.job_accepted.job_ids]
    refused = [answer.job_refused.job_id for answer in answers if answer.HasField("job_refused")]
    assert sorted([*accepted, *refused]) == sorted(job.id[:256] for job in said.lease.jobs)
    assert {job.id for job in workload.jobs} == set(accepted)
    return "leased" if accepted else end


def _drawn(data: bytes) -> str:
    """Spans of a probe, whatever they say, are kept as they are, and can be drawn without harm to a terminal."""
    split = Splitter(data)
    life = _lives()[1].verification
    try:
        batch = message(trace_pb2.SpanBatch, split, _words())
        for each in batch.spans:
            for _ in range(split.below(4)):
                each.attributes[split.pick(_ATTRIBUTES)] = split.pick(_SAID) if split.below(4) != 3 else split.text(30)
        spans = spans_from_wire(batch.spans)
    except (DecodeError, WireError):
        return "refused"
    began = time.monotonic()
    text = draw_text(spans)
    assert time.monotonic() - began < 10, "a few spans must not take long to draw"
    assert all(letter.isprintable() or letter == "\n" for letter in text), "a terminal would obey"
    attempt = attempt_of(life)
    assert all(span in spans for span in disclosed(spans, attempt))
    for put in report_spans(_traced(), JobId("verify1/1/0/v00"), spans):
        check_key(put.key)
        assert all(span in spans for span in spans_from_record(put.value))
    if not spans:
        return "none"
    odd = any(not letter.isprintable() for span in spans for said in span.attributes.values() for letter in said)
    return "drawn without harm" if odd else "drawn"


@cache
def _traced() -> Verification:
    life = _lives()[1].verification
    trace = f"00-{bytes(range(16)).hex()}-{bytes(range(8)).hex()}-01"
    return replace(life, attempts=(replace(attempt_of(life), traceparent=trace),))


_ATTRIBUTES = tuple(
    value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str) and "\n" not in value
)
_SAID = ("1", "9" * 400, "-1", "²", "true", "v00", "\x1b[31m", "[red]", "replied")
HARNESSES = (
    Harness("report-arrives", "poolproof.lifecycle: a report", _reported, frozenset({"invalid", "foreign", "taken"})),
    Harness(
        "agent-speaks", "coordinator.session: an agent's messages", _heard, frozenset({"ended", "passed on", "heard"})
    ),
    Harness(
        "coordinator-speaks",
        "probe.session: a coordinator's messages",
        _told,
        frozenset({"welcomed", "ended", "heard", "leased"}),
    ),
    Harness(
        "spans",
        "coordinator.traces, trace_tree, disclosure: a probe's spans",
        _drawn,
        frozenset({"refused", "drawn", "drawn without harm"}),
        (bytes(1), *NOISE),
    ),
)
