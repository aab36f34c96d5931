"""A conductor in trouble: a store that fails in every way, a clock that is set by minutes, agents that come late.

Virtual throughout. There are two clocks, of which only the true one passes by itself; the coordinator's is off by what
the test says. Agents work by the true one, as probes do whose control servers are right, and send each report until it
is acknowledged.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from coordinator.problems import BusyError
from coordinator.records import Held, load, load_standing, report_key
from coordinator.store.errors import StoreUnavailableError
from coordinator.store.memory import MemoryStore
from coordinator.store.port import MAX_PAGE_ENTRIES, CommitResult, Entry, Page, Transaction
from poolproof.exchange import LocalFault
from poolproof.ids import JobId, VantageId
from poolproof.job import Job
from poolproof.policy import SECOND_NS
from poolproof.verification import Attempt, NotNowError, State, Verification
from poolproof.wire import report_to_wire
from tests.coordinator.doubles import (
    ID,
    POLICY,
    TARGET,
    Agents,
    ManualClock,
    Play,
    ends_ns,
    report_of,
    wanted,
)

T = TypeVar("T")
AHEAD_NS = 600 * SECOND_NS
MOST_STEPS = 5_000
_PASSING = (StoreUnavailableError, BusyError)


class FaultyStore(MemoryStore):
    """Refuses, takes effect and says that it failed, or is slow; each as often as the test says."""

    def __init__(self, seed: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.faults = Counter[str]()
        self._chance = random.Random(seed)

    async def commit(self, transaction: Transaction) -> CommitResult:
        kind = self._draw("commit refused", "commit unheard", "commit unheard", "commit slow", times=6)
        if kind == "commit refused":
            raise StoreUnavailableError("no room")
        if kind == "commit slow":
            await self._while()
        result = await super().commit(transaction)
        if kind == "commit unheard":
            raise StoreUnavailableError("nobody knows")
        return result

    async def get(self, key: str) -> Entry | None:
        if (kind := self._draw("get refused", "get slow")) == "get refused":
            raise StoreUnavailableError("not now")
        if kind:
            await self._while()
        return await super().get(key)

    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_PAGE_ENTRIES) -> Page:
        if self._draw("scan refused"):
            raise StoreUnavailableError("not now")
        return await super().scan(prefix, after=after, limit=limit)

    def _draw(self, *kinds: str, times: int = 1) -> str:
        if self._chance.random() >= self.rate * times:
            return ""
        kind = self._chance.choice(kinds)
        self.faults[kind] += 1
        return kind

    async def _while(self) -> None:
        for _ in range(self._chance.randrange(1, 40)):
            await asyncio.sleep(0)


class SetClock(ManualClock):
    """May be set by any amount; timers are for the time that it shows."""

    def set_by(self, ns: int) -> None:
        self._now_ns += ns
        self.move_to(self._now_ns)


class LateAgents(Agents):
    """Remembers when, by the true time, each job was first handed over."""

    def __init__(self, fleet: Sequence[object], true_ns: Callable[[], int]) -> None:
        super().__init__(fleet)  # type: ignore[arg-type]
        self._true_ns = true_ns
        self.first_ns: dict[JobId, int] = {}

    def hand_out(self, vantage: VantageId, jobs: Sequence[Job]) -> bool:
        taken = super().hand_out(vantage, jobs)
        if taken:
            for job in jobs:
                self.first_ns.setdefault(job.id, self._true_ns())
        return taken


class Troubled(Play):
    """One verification through all of it."""

    def __init__(self, store: FaultyStore, *, obeys: bool) -> None:
        super().__init__(store=store)
        self.clock = self.set_clock = SetClock()
        self.true_ns = self.clock.now_ns()
        self.agents = self.late_agents = LateAgents(self.agents.fleet, lambda: self.true_ns)
        self.faulty, self.obeys = store, obeys
        self.conductor = self.another()
        self.acknowledged: dict[JobId, bytes] = {}
        self.delivered = Counter[JobId]()
        self._again_ns: dict[JobId, int] = {}

    @property
    def skew_ns(self) -> int:
        return self.clock.now_ns() - self.true_ns

    async def live(self, between: Callable[[], None] = lambda: None) -> Verification:
        """From the request to the verdict; `between` may do harm at each step."""
        await self._insist(lambda: self.conductor.request(wanted()))
        for _ in range(MOST_STEPS):
            between()
            verification = (await self._insist(self._look)).verification
            if not verification.state.is_open:
                await self.conductor.close()
                return verification
            if verification.state is State.CHALLENGED:
                await self._enact(verification)
            await self._happen()
        raise AssertionError("the verification never ends")

    async def _enact(self, verification: Verification) -> None:
        attempt = verification.attempt
        assert isinstance(attempt, Attempt)
        if self.obeys:
            self.owner_does_as_told(attempt)
        try:
            await self._insist(lambda: self.conductor.ready(ID))
        except NotNowError:
            assert self.faulty.faults["commit unheard"], "it was said once and taken, and nobody heard so"

    async def _look(self) -> Held:
        held = await load(self.store, ID)
        assert held is not None
        return held

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """As a client does whose call failed."""
        for _ in range(200):
            try:
                return await ask()
            except _PASSING:
                await self._pass(SECOND_NS // 4)
        raise AssertionError("refused 200 times")

    async def _happen(self) -> None:
        """The next thing: a report is due, or a timer is."""
        await self.conductor.settle()
        due = {job.id: self._due_ns(job) for job in self.agents.handed if job.id not in self.acknowledged}
        times = list(due.values())
        if (timer_ns := self.clock.next_ns()) is not None:
            times.append(timer_ns - self.skew_ns)
        assert times, "nothing will ever happen again"
        await self._pass(max(0, min(times) - self.true_ns))
        ready = {job.id: job for job in self.agents.handed if due.get(job.id, self.true_ns + 1) <= self.true_ns}
        await asyncio.gather(*(self._send(job) for job in ready.values()))

    def _due_ns(self, job: Job) -> int:
        if (again_ns := self._again_ns.get(job.id)) is not None:
            return again_ns
        first_ns = self.late_agents.first_ns[job.id]
        return first_ns if self._fault(job) is not None else max(first_ns, ends_ns(job))

    def _fault(self, job: Job) -> LocalFault | None:
        ahead_ns = job.start_at_ns - self.late_agents.first_ns[job.id]
        if ahead_ns < 0:
            return LocalFault.MISSED_START
        return LocalFault.GUARD_REFUSED if ahead_ns > AHEAD_NS else None

    async def _send(self, job: Job) -> None:
        report = self._reports.setdefault(job.id, report_of(job, self.answered, self._fault(job)))
        raw = report_to_wire(report).SerializeToString()
        self.delivered[job.id] += 1
        try:
            await self.conductor.reported(report, raw)
        except _PASSING:
            # The session ends without an acknowledgement; the agent connects anew and sends it again.
            self._again_ns[job.id] = self.true_ns + SECOND_NS
            self.conductor.joined(job.vantage)
        else:
            self.acknowledged[job.id] = raw

    async def _pass(self, ns: int) -> None:
        self.true_ns += ns
        self.set_clock.set_by(ns)
        for _ in range(3):
            await asyncio.sleep(0)

    async def check_nothing_lost(self, verification: Verification) -> None:
        """Each acknowledged report is stored as it came; one attempt was spent, and at most one proof is kept."""
        self.faulty.rate = 0.0
        for job, raw in self.acknowledged.items():
            kept = await self.store.get(report_key(job))
            assert kept is not None, f"{job} was acknowledged and is not there"
            assert kept.value == raw
        standing = (await load_standing(self.store, TARGET)).standing
        assert standing.attempts == len(verification.attempts) == 1
        for attempt in verification.attempts:
            cells = [(seen.round, seen.row) for seen in attempt.observations]
            assert len(cells) == len(set(cells)), "a report counts twice"
        assert POLICY.id == verification.policy
