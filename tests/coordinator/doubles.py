"""Stand-ins for the conductor's world: a clock moved by hand, agents that answer from a script, no telemetry."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from coordinator.conductor import Conductor, Wanted
from coordinator.records import Held, load
from coordinator.store.memory import MemoryStore
from coordinator.store.port import Put, Store
from coordinator.tickets import Tickets
from poolproof.calibration import Stratum
from poolproof.capture import Capture
from poolproof.challenge import Method
from poolproof.conduct import Quarantine
from poolproof.exchange import Exchange, ExchangeKind, LocalFault, Reply
from poolproof.fleet import Rir, Role, Vantage
from poolproof.ids import JobId, PolicyId, VantageId, VerificationId
from poolproof.job import ClockCheck, Job, Report
from poolproof.ntp import client_request
from poolproof.policy import POLICY_2026_11, SECOND_NS, Policy
from poolproof.span import Span
from poolproof.target import Family, Target
from poolproof.variant import Variant
from poolproof.verification import Attempt, Verification
from poolproof.wire import report_to_wire

START_NS = 1_795_000_000_000_000_000
DRAW_KEY = bytes(range(32))
POLICY = replace(POLICY_2026_11, id=PolicyId("test"))
TARGET = Target("198.51.100.7")
ID = VerificationId("v0000000001x")
RIRS = (Rir.RIPE, Rir.ARIN, Rir.APNIC)


def a_fleet(size: int = 14) -> tuple[Vantage, ...]:
    """Vantages on networks of their own."""
    return tuple(
        Vantage(VantageId(f"v{n:02d}"), f"127.7.0.{n}", None, None, 64500 + n, RIRS[n % 3]) for n in range(1, size + 1)
    )


def wanted(
    applicant: str = "alice", variant: Variant = Variant.BLOCK, name: str = ID, target: Target = TARGET
) -> Wanted:
    return Wanted(VerificationId(name), target, str(target), applicant, Method.DIFFERENTIAL, variant)


def exchange(
    job: Job, at_ns: int, *, answered: bool, fault: LocalFault | None = None, control: bool = False
) -> Exchange:
    """One exchange of a job, or of its control server."""
    request = client_request(at_ns & 0xFFFF_FFFF | 1 << 40)
    reply = bytes((0o44, 2)) + bytes(22) + request[40:48] + bytes(16)
    return Exchange(
        ExchangeKind.CLIENT_V4,
        request if fault is None else b"",
        job.source,
        "127.9.9.9" if control else job.target.address,
        job.target.port,
        at_ns,
        job.timeout_ns,
        (Reply(reply, at_ns + 20_000_000),) if answered else (),
        fault=fault,
    )


def report_of(job: Job, answered: Callable[[Job], bool], fault: LocalFault | None = None) -> Report:
    """What a healthy probe reports when the target answers as the script says; or its own fault."""
    healthy = fault is None
    steps = tuple(
        exchange(job, job.start_at_ns + step.offset_ns, answered=healthy and answered(job), fault=fault)
        for step in job.steps
    )
    control = (exchange(job, job.start_at_ns, answered=True, control=True),) if healthy else ()
    # The tripwire was armed before any answer.
    capture = Capture(1, ends_ns(job)) if healthy else None
    return Report(job.id, job.vantage, steps, control, control, ClockCheck(0, 1_000_000, 2), capture, job.ticket)


def ends_ns(job: Job) -> int:
    return job.start_at_ns + job.steps[-1].offset_ns + job.timeout_ns


class ManualTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self._now_ns = now_ns
        self._timers: list[tuple[int, int, ManualTimer]] = []
        self._order = itertools.count()

    def now_ns(self) -> int:
        return self._now_ns

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(callback)
        heapq.heappush(self._timers, (when_ns, next(self._order), timer))
        return timer

    def next_ns(self) -> int | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def move_to(self, when_ns: int) -> None:
        self._now_ns = max(self._now_ns, when_ns)
        while (due := self.next_ns()) is not None and due <= self._now_ns:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            assert callback is not None
            callback()


class NoTelemetry:
    """Says nothing; counts refused reports."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.steps: list[tuple[Verification, Verification]] = []

    def begin_attempt(self) -> str:
        return ""

    def advanced(self, before: Verification, after: Verification, now_ns: int) -> None:
        self.steps.append((before, after))

    def with_context(self, verification: Verification, jobs: Iterable[Job]) -> tuple[Job, ...]:
        return tuple(jobs)

    def dispatched(self, verification: Verification, job: Job, *, began_ns: int, now_ns: int, delivered: bool) -> None:
        pass

    def spans_put(self, verification: Verification, job: JobId, spans: Iterable[Span]) -> tuple[Put, ...]:
        return ()

    def agent_connected(self, vantage: VantageId) -> None:
        pass

    def agent_gone(self, vantage: VantageId) -> None:
        pass

    def calibrated(self, *, said: bool) -> None:
        pass

    def tried(self, trials: Mapping[Stratum, bool]) -> None:
        pass

    def quarantined(self, why: Quarantine, change: int) -> None:
        pass

    def report_refused(self, reason: str) -> None:
        self.refused.append(reason)

    def session_refused(self, reason: str) -> None:
        self.refused.append(reason)


@dataclass
class Agents:
    """A fleet whose agents keep the jobs that they were handed."""

    fleet: tuple[Vantage, ...]
    away: set[VantageId] = field(default_factory=set)
    handed: list[Job] = field(default_factory=list)
    mute: set[VantageId] = field(default_factory=set)

    def usable(self, family: Family) -> tuple[Vantage, ...]:
        return tuple(v for v in self.fleet if v.id not in self.away and v.source(family) is not None)

    def hand_out(self, vantage: VantageId, jobs: Sequence[Job]) -> bool:
        if vantage in self.away:
            return False
        self.handed += jobs
        return True


class Play:
    """A conductor, its world, and what has happened to it."""

    def __init__(
        self, answered: Callable[[Job], bool] | None = None, store: Store | None = None, policy: Policy = POLICY
    ) -> None:
        self.store: Store = store or MemoryStore()
        self.clock = ManualClock()
        self.agents = Agents(a_fleet())
        self.telemetry = NoTelemetry()
        self.policy = policy
        self.answered = answered or (lambda job: True)
        self.conductor = self.another()
        self._done: set[JobId] = set()
        self._reports: dict[JobId, Report] = {}

    def another(self) -> Conductor:
        """A second coordinator on the same store, as after a crash."""
        policies = {POLICY_2026_11.id: POLICY_2026_11, self.policy.id: self.policy}
        tickets = Tickets(DRAW_KEY, 3600 * SECOND_NS)
        return Conductor(
            self.store, self.agents, self.clock, self.telemetry, policies, self.policy.id, DRAW_KEY, tickets
        )

    async def held(self, name: str = ID) -> Held:
        held = await load(self.store, VerificationId(name))
        assert held is not None
        return held

    async def report(self, job: Job, report: Report | None = None) -> Held:
        # A probe does a job once, and sends the report that it has.
        sent = report or self._reports.setdefault(job.id, report_of(job, self.answered))
        return await self.conductor.reported(sent, report_to_wire(sent).SerializeToString())

    async def step(self) -> bool:
        """The next thing that happens: a report comes in, or a timer rings. False if nothing will."""
        await self.conductor.settle()
        due = {
            job.id: job
            for job in self.agents.handed
            if job.id not in self._done and job.vantage not in self.agents.mute
        }
        times = [ends_ns(job) for job in due.values()]
        if (timer_ns := self.clock.next_ns()) is not None:
            times.append(timer_ns)
        if not times:
            return False
        self.clock.move_to(min(times))
        finished = [job for job in due.values() if ends_ns(job) <= self.clock.now_ns()]
        self._done |= {job.id for job in finished}
        await asyncio.gather(*(self.report(job) for job in finished))
        await self.conductor.settle()
        return True

    async def until(self, reached: Callable[[Verification], bool], name: str = ID) -> Verification:
        """Lets things happen until the verification is as wanted."""
        for _ in range(2_000):
            if reached((await self.held(name)).verification):
                return (await self.held(name)).verification
            assert await self.step(), f"nothing more will happen to {(await self.held(name)).verification}"
        raise AssertionError("never reached")

    def forget_acknowledgements(self) -> None:
        """Agents send every report again."""
        self._done.clear()

    def owner_does_as_told(self, attempt: Attempt) -> None:
        """From now on the target is silent where the challenge asks for it."""
        assert attempt.challenge is not None
        quiet = {
            row.perspective.vantage
            for row in attempt.challenge.rows
            if row.perspective.role is Role.MUST_BE_BLOCKED
            or (row.perspective.role is Role.WITNESS and attempt.challenge.variant is Variant.ALLOW_ONLY)
        }
        self.answered = lambda job: job.vantage not in quiet


def current(verification: Verification) -> Attempt:
    assert verification.attempt is not None
    return verification.attempt
