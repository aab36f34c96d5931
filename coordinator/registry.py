"""Which agents are connected, what each can do, and the queue of messages that waits for each one's stream.

There is at most one session per vantage. A session of the same agent process replaces the earlier one; another process
with the same identity gets in only once the earlier session is dead, so that nobody takes a live probe's place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from coordinator.ports import Clock
from coordinator.settings import CoordinatorSettings
from poolproof.conduct import Quarantine
from poolproof.exchange import ExchangeKind
from poolproof.fleet import Vantage
from poolproof.ids import JobId, VantageId
from poolproof.job import ClockCheck, Job
from poolproof.policy import SECOND_NS
from poolproof.target import Family
from poolproof.wire import MAX_LEASED_JOBS, PROTOCOL_VERSION, Hello

_MAX_DETAIL = 300
_EARLY_NS = SECOND_NS
_LATE_NS = 5 * SECOND_NS
"""Heartbeats show an agent's clock only roughly, because they take their time: such a clock is plainly wrong."""


class EndReason(Enum):
    """Why there is no session, or no longer; names as in agent.proto's RejectReason."""

    VERSION = "version"
    IDENTITY = "identity"
    TAKEN_OVER = "taken-over"
    INVALID = "invalid"
    CAPACITY = "capacity"


@dataclass(frozen=True, slots=True)
class Lease:
    """Jobs to do."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """This report need not be kept: it is stored, or with a reason, it will never be taken."""

    job: JobId
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Echo:
    """Answer to one heartbeat."""

    sequence: int
    sent_at_ns: int
    server_time_ns: int


@dataclass(frozen=True, slots=True)
class Leaving:
    """The coordinator is going away."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The session ends with this message.

    Attributes:
        reason: which.
        detail: what is wrong and what to do about it.
        retry_after_ns: the agent may try again by itself after this; 0: somebody has to change something.
        cause: which of the causes that share a reason, one of `semconv.REFUSED_SESSION_REASONS`.
    """

    reason: EndReason
    detail: str
    retry_after_ns: int = 0
    cause: str = ""

    @property
    def word(self) -> str:
        """What is counted: the cause, or else the reason."""
        return self.cause or self.reason.value


@dataclass(frozen=True, slots=True)
class Woken:
    """Nothing to be said: the session has ended elsewhere, and its writer should look."""


Message = Lease | Acknowledged | Echo | Leaving | Ended | Woken


@dataclass(slots=True, eq=False)
class Agent:
    """One connected agent.

    Attributes:
        vantage: as the fleet file has it.
        hello: what it said first.
        session_id: for logs on both sides.
        connected_at_ns: when.
        last_heard_ns: when anything came from it, Unix ns, for people.
        heard_at_ns: the same by a clock that nobody sets.
        queue: what waits for its stream.
        outstanding: jobs handed to it and not accounted for in this session.
        draining: it is going away.
        clock: its latest clock check, if it has made one.
        skew_ns: when its last heartbeat came, less when it says that it sent it.
        reports_spooled, jobs_held: as its last heartbeat says.
    """

    vantage: Vantage
    hello: Hello
    session_id: str
    connected_at_ns: int
    last_heard_ns: int
    heard_at_ns: int
    queue: asyncio.Queue[Message]
    outstanding: set[JobId] = field(default_factory=set)
    draining: bool = False
    clock: ClockCheck | None = None
    skew_ns: int = 0
    reports_spooled: int = 0
    jobs_held: int = 0

    def clock_is_good(self, max_offset_ns: int) -> bool:
        """Whether nothing shows that its clock is off by more."""
        if not -_EARLY_NS <= self.skew_ns <= _LATE_NS:
            return False
        check = self.clock
        return check is None or check.samples == 0 or abs(check.offset_ns) - check.error_ns <= max_offset_ns


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that a vantage's agent, or somebody in its name, tried and was refused.

    Attributes:
        what: in words of `semconv`.
        count: how often since this coordinator started.
        last_at_ns: when last.
        detail: of the last one, for people.
    """

    what: str
    count: int
    last_at_ns: int
    detail: str


@dataclass(frozen=True, slots=True)
class VantageState:
    """One vantage of the fleet, its agent if it is connected, what was refused in its name, and why it gets no work."""

    vantage: Vantage
    agent: Agent | None
    last_heard_ns: int
    incidents: tuple[Incident, ...] = ()
    quarantine: Quarantine | None = None


class Registry:
    """The fleet and who of it is connected; a `Dispatcher`.

    Args:
        fleet: all vantages.
        clock: Unix time.
        settings: heartbeats, queues and clock limits.
        monotonic_ns: a clock that nobody sets.
    """

    def __init__(
        self,
        fleet: Iterable[Vantage],
        clock: Clock,
        settings: CoordinatorSettings,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._fleet = {vantage.id: vantage for vantage in fleet}
        self._clock = clock
        self._settings = settings
        self._monotonic_ns = monotonic_ns
        self._agents: dict[VantageId, Agent] = {}
        self._last_heard: dict[VantageId, int] = {}
        self._incidents: dict[VantageId, dict[str, Incident]] = {}
        self._quarantined: dict[VantageId, Quarantine] = {}
        self._leaving = ""

    @property
    def silence_ns(self) -> int:
        """An agent that says nothing for this long is dead."""
        return self._settings.heartbeat_interval_ns * self._settings.missed_heartbeats

    def admit(self, hello: Hello, session_id: str) -> Agent | Ended:
        """A new session, or why there is none."""
        vantage = self._fleet.get(hello.vantage)
        if vantage is None:
            return Ended(
                EndReason.IDENTITY,
                f"hello.vantage_id: {hello.vantage!r} is not in the fleet file; add it there and restart the"
                " coordinator, or mend the probe's setting",
                cause="unknown-vantage",
            )
        if (differing := _other_address(hello, vantage)) is not None:
            refused = Ended(EndReason.IDENTITY, differing, cause="other-address")
            self.incident(vantage.id, f"session refused: {refused.word}", differing)
            return refused
        if hello.protocol_version < PROTOCOL_VERSION:
            return Ended(
                EndReason.VERSION,
                f"hello.protocol_version: {hello.protocol_version}: this coordinator speaks {PROTOCOL_VERSION};"
                " update the probe",
            )
        now_ns = self._clock.now_ns()
        held = self._agents.get(hello.vantage)
        if held is not None and held.hello.session_nonce != hello.session_nonce and self._alive(held):
            refused = Ended(
                EndReason.IDENTITY,
                f"hello.vantage_id: another agent process is connected as {hello.vantage}; stop that one, or give"
                " this one an identity of its own",
                self.silence_ns,
                cause="second-process",
            )
            self.incident(vantage.id, f"session refused: {refused.word}", refused.detail)
            return refused
        if held is not None:
            self._evict(held)
        queue: asyncio.Queue[Message] = asyncio.Queue(self._settings.send_queue)
        agent = Agent(vantage, hello, session_id, now_ns, now_ns, self._monotonic_ns(), queue)
        self._agents[hello.vantage] = agent
        if self._leaving:
            agent.queue.put_nowait(Leaving(self._leaving))
        return agent

    def gone(self, agent: Agent) -> None:
        """A session has ended."""
        if self._agents.get(agent.vantage.id) is agent:
            del self._agents[agent.vantage.id]
            self._last_heard[agent.vantage.id] = agent.last_heard_ns

    def heard(self, agent: Agent) -> None:
        """Something came from it."""
        agent.last_heard_ns = self._clock.now_ns()
        agent.heard_at_ns = self._monotonic_ns()

    def silence_left_ns(self, agent: Agent) -> int:
        """How much longer it may say nothing. Setting the clock neither kills a live agent nor keeps a dead one."""
        return agent.heard_at_ns + self.silence_ns - self._monotonic_ns()

    def incident(self, vantage: VantageId, what: str, detail: str) -> None:
        """Something was refused; operators see it beside the vantage."""
        known = self._incidents.setdefault(vantage, {})
        count = known[what].count + 1 if what in known else 1
        known[what] = Incident(what, count, self._clock.now_ns(), detail[:_MAX_DETAIL])

    def leave(self, reason: str) -> None:
        """Tells every agent, and everyone who connects from now on, that the coordinator is going away."""
        self._leaving = reason
        for agent in self._agents.values():
            if not agent.queue.full():
                agent.queue.put_nowait(Leaving(reason))

    def quarantine(self, vantage: VantageId, why: Quarantine) -> None:
        """From now on the vantage is given no work. It may stay connected, and what it holds it may still report."""
        self._quarantined[vantage] = why

    def release(self, vantage: VantageId) -> None:
        """It may work again."""
        self._quarantined.pop(vantage, None)

    def usable(self, family: Family) -> tuple[Vantage, ...]:
        """See `Dispatcher.usable`; in the fleet's order."""
        found: list[Vantage] = []
        for vantage in self._fleet.values():
            agent = self._agents.get(vantage.id)
            if agent is None or agent.draining or not self._alive(agent) or vantage.id in self._quarantined:
                continue
            able = agent.hello.capabilities
            if family not in able.families or ExchangeKind.CLIENT_V4 not in able.kinds:
                continue
            if len(agent.outstanding) >= able.capacity or not agent.clock_is_good(self._settings.max_clock_offset_ns):
                continue
            if vantage.source(family) is None and not (able.ipv6_prefix and vantage.source(family, prefix=True)):
                continue
            drop_prefix = vantage.ipv6_prefix is not None and not able.ipv6_prefix
            found.append(replace(vantage, ipv6_prefix=None) if drop_prefix else vantage)
        return tuple(found)

    def hand_out(self, vantage: VantageId, jobs: Sequence[Job]) -> bool:
        """See `Dispatcher.hand_out`."""
        agent = self._agents.get(vantage)
        if agent is None or vantage in self._quarantined or not jobs:
            return agent is not None and vantage not in self._quarantined
        wanted = agent.outstanding | {job.id for job in jobs}
        chunks = [tuple(jobs[at : at + MAX_LEASED_JOBS]) for at in range(0, len(jobs), MAX_LEASED_JOBS)]
        room = self._settings.send_queue - agent.queue.qsize()
        if len(wanted) > agent.hello.capabilities.capacity or len(chunks) > room:
            return False
        for chunk in chunks:
            agent.queue.put_nowait(Lease(chunk))
        agent.outstanding = wanted
        return True

    def states(self) -> tuple[VantageState, ...]:
        """The whole fleet, in order of id."""
        return tuple(
            VantageState(
                self._fleet[name],
                agent := self._agents.get(name),
                agent.last_heard_ns if agent else self._last_heard.get(name, 0),
                tuple(known for _, known in sorted(self._incidents.get(name, {}).items())),
                self._quarantined.get(name),
            )
            for name in sorted(self._fleet)
        )

    def _alive(self, agent: Agent) -> bool:
        return self.silence_left_ns(agent) >= 0

    def _evict(self, agent: Agent) -> None:
        """The earlier session hears why, even if its queue is full."""
        self.gone(agent)
        while agent.queue.full():
            agent.queue.get_nowait()
        detail = f"{agent.vantage.id}: a newer session has taken over"
        agent.queue.put_nowait(Ended(EndReason.TAKEN_OVER, detail, self.silence_ns))


def _other_address(hello: Hello, vantage: Vantage) -> str | None:
    """What the agent is set up to send from that is not its vantage's: then it looks from elsewhere than it says."""
    for name in ("ipv4", "ipv6", "ipv6_prefix"):
        claimed, enrolled = getattr(hello, name), getattr(vantage, name)
        if claimed is not None and claimed != enrolled:
            return (
                f"hello.{name}: {claimed}: the fleet file has {enrolled or 'none'} for {vantage.id}; mend the probe's"
                " setting, or the fleet file and restart the coordinator"
            )
    return None
