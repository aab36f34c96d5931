"""One verification's turns: its events are taken in order, a batch at a time, and never two batches at once.

A turn loads the record, lets the state machine handle the batch, saves what came out with compare-and-save, and only
then hands out jobs and answers those who wait. Whatever is lost on the way (a crash at any await) is found again: what
was saved says what is outstanding, and what was not saved was answered to nobody, so whoever said it says it again.

All reports of a round arrive together; taking them as one batch makes that one write instead of ten.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from coordinator.claims import Claims
from coordinator.handing import Handing
from coordinator.ports import Clock, Dispatcher, Timer
from coordinator.problems import BusyError, CoordinatorError, UnknownVerificationError
from coordinator.records import Held, change, load, report_key, verification_key
from coordinator.store.errors import InvalidRequestError, StoreUnavailableError
from coordinator.store.port import Compare, Conflict, Put, Store, Transaction
from coordinator.tickets import Tickets
from coordinator.tracing_port import Telemetry
from poolproof.ids import JobId, PolicyId, VantageId, VerificationId
from poolproof.job import Job, Report
from poolproof.lifecycle import handle, next_wake_ns, outstanding
from poolproof.policy import SECOND_NS, Policy
from poolproof.span import Span
from poolproof.verification import (
    Event,
    Foreign,
    ForeignReportError,
    NotNowError,
    Reported,
    Unreachable,
    Verification,
    Wake,
)

MAX_WAITING = 1_024
"""Events that may wait for one verification."""
MAX_TRIES = 16
"""How often a turn is taken anew because somebody else saved first."""
MAX_REPORT_BYTES = 600_000
"""A larger report is not taken: with its spans and the record it must fit one transaction."""
_BATCH_EVENTS = 32
_BATCH_BYTES = 400_000
_SPAN_BYTES = 200_000
_RETRY_NS = SECOND_NS
_LEAST_PAUSE_NS = SECOND_NS // 100
_log = logging.getLogger(__name__)


class NextAttempt:
    """The applicant wants another attempt; becomes a `Begin` in its turn."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A vantage's agent has connected: it is handed again what it has not accounted for."""

    vantage: VantageId


@dataclass(slots=True, eq=False)
class Wish:
    """One event on its way.

    Attributes:
        event: what happened.
        raw: for a report, its bytes as they came.
        spans: for a report, the probe's spans.
        done: who waits; None: nobody, so it is tried until it has been taken.
    """

    event: Event | NextAttempt | Joined
    raw: bytes = b""
    spans: tuple[Span, ...] = ()
    done: asyncio.Future[Held] | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """What all verifications' turns share."""

    store: Store
    dispatcher: Dispatcher
    clock: Clock
    telemetry: Telemetry
    claims: Claims
    tickets: Tickets
    policies: dict[PolicyId, Policy]


@dataclass(slots=True)
class _Draft:
    """What a turn is going to save and do."""

    verification: Verification
    jobs: list[Job] = field(default_factory=list)
    puts: dict[str, Put] = field(default_factory=dict)
    compares: dict[str, Compare] = field(default_factory=dict)
    failures: dict[Wish, Exception] = field(default_factory=dict)


class Turns:
    """The turns of one verification.

    Args:
        verification: which.
        stage: shared by all.
        idle: called when nothing is left to do and the verification is closed, or does not exist.
    """

    def __init__(self, verification: VerificationId, stage: Stage, idle: Callable[[], None]) -> None:
        self._id = verification
        self._stage = stage
        self._idle = idle
        self._waiting: deque[Wish] = deque()
        self._task: asyncio.Task[None] | None = None
        self._wake: Timer | None = None
        self._others: set[Timer] = set()
        self._handing = Handing(
            stage.dispatcher, stage.clock, stage.telemetry, stage.tickets, self._later, self._never_handed
        )
        self._closing = False
        self._in_doubt = False
        """A save failed and may have taken effect all the same: what it led to was never handed out."""

    def put(self, wish: Wish) -> None:
        """Queues an event.

        Raises:
            BusyError: too many wait.
        """
        if wish.done is not None and len(self._waiting) >= MAX_WAITING:
            raise BusyError(f"verification {self._id}: {MAX_WAITING} events wait already; try again in a second")
        self._waiting.append(wish)
        if self._task is None and not self._closing:
            self._task = asyncio.create_task(self._run())

    def arm(self, held: Held) -> None:
        """Sees to it that the verification is looked at again when that can change something."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        when_ns = next_wake_ns(held.verification, self._policy(held.verification))
        if when_ns is not None and not self._closing:
            when_ns = max(when_ns, self._stage.clock.now_ns() + _LEAST_PAUSE_NS)
            self._wake = self._stage.clock.call_at(when_ns, lambda: self.put(Wish(Wake())))

    def begun(self, held: Held, jobs: Iterable[Job]) -> None:
        """A verification was just saved for the first time: its first jobs go out."""
        self.arm(held)
        self._handing.hand_out(held.verification, jobs)

    def doubt(self) -> None:
        """A save of this verification failed and may have taken effect all the same: look again in a moment."""
        self._in_doubt = True
        self._later(self._stage.clock.now_ns() + _RETRY_NS, lambda: self.put(Wish(Wake())))

    async def close(self) -> None:
        """Ends the turn under way, if any, and takes no further one."""
        self._closing = True
        self._cancel_timers()
        if self._task is not None:
            await asyncio.wait([self._task])
        for wish in self._waiting:
            if wish.done is not None and not wish.done.done():
                wish.done.set_exception(BusyError("the coordinator is stopping; ask again in a moment"))

    def _cancel_timers(self) -> None:
        for timer in (self._wake, *self._others):
            if timer is not None:
                timer.cancel()
        self._others.clear()

    @property
    def working(self) -> asyncio.Task[None] | None:
        """The task that takes turns now, if there is anything to take."""
        return self._task

    async def _run(self) -> None:
        keep = True
        while self._waiting and not self._closing:
            keep = await self._try(self._next_batch())
        self._task = None
        if not keep and not self._waiting:
            self._cancel_timers()
            self._idle()

    async def _try(self, batch: list[Wish]) -> bool:
        """One turn, whatever it comes to; whether there will be more of this verification."""
        try:
            return await self._take(batch)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreUnavailableError | BusyError):
                # One of them is at fault: the others must not share its fate.
                return all([await self._try([wish]) for wish in batch])
            self._failed(batch, error)
            return True

    def _next_batch(self) -> list[Wish]:
        batch = [self._waiting.popleft()]
        size = len(batch[0].raw)
        while self._waiting and len(batch) < _BATCH_EVENTS and not isinstance(batch[0].event, NextAttempt):
            size += len(self._waiting[0].raw)
            if size > _BATCH_BYTES or isinstance(self._waiting[0].event, NextAttempt):
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _take(self, batch: list[Wish]) -> bool:
        """One turn; whether the verification is still open."""
        for _ in range(MAX_TRIES):
            held = await load(self._stage.store, self._id)
            if held is None:
                self._answer(batch, {}, UnknownVerificationError(self._id))
                return False
            now_ns = self._stage.clock.now_ns()
            draft = await self._draft(held.verification, batch, now_ns)
            saved = await self._save(held, draft, now_ns)
            if saved is None:
                continue
            if saved is not held:
                self._stage.telemetry.advanced(held.verification, saved.verification, now_ns)
            self.arm(saved)
            if self._in_doubt:
                self._in_doubt = False
                draft.jobs = list(self._outstanding(saved))
            self._handing.hand_out(saved.verification, draft.jobs)
            for wish in batch:
                if isinstance(wish.event, Joined):
                    self._handing.hand_again(saved.verification, self._outstanding(saved), wish.event.vantage)
            self._answer(batch, draft.failures, saved)
            return saved.verification.state.is_open
        raise BusyError(f"verification {self._id}: others saved first {MAX_TRIES} times; try again in a second")

    async def _draft(self, verification: Verification, batch: list[Wish], now_ns: int) -> _Draft:
        policy = self._policy(verification)
        draft = _Draft(verification)
        for wish in batch:
            try:
                match wish.event:
                    case Joined():
                        continue
                    case NextAttempt():
                        counted = await self._stage.claims.begin(draft.verification, now_ns, policy)
                        step = handle(draft.verification, counted.event, now_ns, policy)
                        draft.compares.update((compare.key, compare) for compare in counted.compares)
                        draft.puts.update((put.key, put) for put in counted.puts)
                    case Reported(report):
                        step = handle(draft.verification, wish.event, now_ns, policy)
                        await self._keep(draft, wish, report)
                    case event:
                        step = handle(draft.verification, event, now_ns, policy)
            except (NotNowError, ForeignReportError, CoordinatorError, InvalidRequestError) as error:
                draft.failures[wish] = error
                continue
            draft.verification = step.verification
            draft.jobs += step.dispatch
        return draft

    async def _keep(self, draft: _Draft, wish: Wish, report: Report) -> None:
        """Adds the raw report and its spans to what is saved. The first report of a job is the one that is kept.

        The same bytes again are what an agent sends that has not heard our acknowledgement: it is told once more.

        Raises:
            ForeignReportError: the job has been reported otherwise.
        """
        key = report_key(report.job)
        known = draft.puts.get(key) or await self._stage.store.get(key)
        if known is not None:
            if known.value != wish.raw:
                raise ForeignReportError(
                    Foreign.DUPLICATE,
                    f"report {report.job}: this job has been reported before, and otherwise; the first report is kept",
                )
            self._stage.telemetry.report_refused(Foreign.DUPLICATE.value)
            return
        draft.compares[key] = Compare(key, 0)
        draft.puts[key] = Put(key, wish.raw)
        spans = self._stage.telemetry.spans_put(draft.verification, report.job, wish.spans)
        if sum(len(put.value) for put in spans) <= _SPAN_BYTES and len(spans) <= 2:
            draft.puts.update((put.key, put) for put in spans)

    async def _save(self, held: Held, draft: _Draft, now_ns: int) -> Held | None:
        """What stands then; None if somebody else saved first."""
        changed = draft.verification != held.verification
        if not changed and not draft.puts:
            return held
        puts, deletes = change(held.verification, draft.verification) if changed else ((), ())
        proof = await self._stage.claims.proof(held.verification, draft.verification, now_ns)
        if proof is not None:
            draft.compares[proof[0].key] = proof[0]
            draft.puts[proof[1].key] = proof[1]
        compares = (Compare(verification_key(self._id), held.revision), *draft.compares.values())
        result = await self._stage.store.commit(Transaction(compares, (*puts, *draft.puts.values()), deletes))
        if isinstance(result, Conflict):
            return None
        return Held(draft.verification, result.revision) if changed else held

    def _answer(self, batch: list[Wish], failures: dict[Wish, Exception], outcome: Held | Exception) -> None:
        for wish in batch:
            result = failures.get(wish, outcome)
            if wish.done is None:
                if isinstance(result, Exception):
                    _log.warning("verification %s: %s was not taken: %s", self._id, wish.event, result)
            elif not wish.done.done():
                if isinstance(result, Exception):
                    wish.done.set_exception(result)
                else:
                    wish.done.set_result(result)

    def _failed(self, batch: list[Wish], error: Exception) -> None:
        """The turn came to nothing. Who waits is told; what nobody waits for is tried again."""
        _log.error("verification %s: a turn failed: %s", self._id, error, exc_info=error)
        self._answer([wish for wish in batch if wish.done is not None], {}, error)
        self.doubt()
        for wish in batch:
            if wish.done is None and not isinstance(wish.event, Wake):
                self._later(self._stage.clock.now_ns() + _RETRY_NS, partial(self.put, wish))

    def _later(self, when_ns: int, callback: Callable[[], None]) -> None:
        timer: Timer | None = None

        def fire() -> None:
            if timer is not None:
                self._others.discard(timer)
            callback()

        if not self._closing:
            timer = self._stage.clock.call_at(when_ns, fire)
            self._others.add(timer)

    def _never_handed(self, jobs: tuple[JobId, ...]) -> None:
        self.put(Wish(Unreachable(jobs)))

    def _outstanding(self, held: Held) -> tuple[Job, ...]:
        return outstanding(held.verification, self._policy(held.verification))

    def _policy(self, verification: Verification) -> Policy:
        return self._stage.policies[verification.policy]
