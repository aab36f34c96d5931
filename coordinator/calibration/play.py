"""One calibration from its request to what it says of each probe: the owner's part, and the reckoning."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from coordinator.calibration.ledger import Ledger
from coordinator.calibration.server import CalibrationServer
from coordinator.calibration.sources import Sources
from coordinator.conductor import Conductor, Wanted
from coordinator.following import follow
from coordinator.ports import Clock, Timer
from coordinator.problems import CoordinatorError
from coordinator.records import report_key
from coordinator.store.errors import StoreError
from coordinator.store.port import Store
from poolproof.calibration import Stray
from poolproof.challenge import Challenge, Method
from poolproof.enactment import Enactment, sends_stray, serves
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import Report
from poolproof.lifecycle import retry_not_before_ns
from poolproof.plan import baseline_job_id, round_ends_ns, round_job_id
from poolproof.policy import SECOND_NS, Policy
from poolproof.reckoning import reckon
from poolproof.verdict import ControlProven
from poolproof.verification import NotNowError, Purpose, State, Verification
from poolproof.wire import WireError, report_from_stored

APPLICANT = "calibration"
_LOOK_NS = SECOND_NS // 4
"""How often reports that are still to come are looked for."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stage:
    """What all calibrations share."""

    store: Store
    conductor: Conductor
    clock: Clock
    ledger: Ledger
    sources: Sources
    policy: Policy


class Play:
    """One calibration.

    Args:
        stage: shared by all.
        name: its verification's id.
        server: its target.
        drawn: what its owner does in an attempt of this number.
    """

    def __init__(
        self, stage: Stage, name: VerificationId, server: CalibrationServer, drawn: Callable[[int], Enactment]
    ) -> None:
        self._stage = stage
        self._name = name
        self._server = server
        self._drawn = drawn
        self._enactment = drawn(1)
        self._challenge: Challenge | None = None
        self._enacted = False
        self._leaves = False
        self._timers: list[Timer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._reports: dict[JobId, Report] = {}
        self._strays: dict[VantageId, tuple[Stray, ...]] = {}

    async def run(self) -> bool:
        """Plays it to its end; whether it says anything of the probes.

        Raises:
            CoordinatorError, NotNowError, StoreError: it could not begin, or its outcome could not be saved.
        """
        self._server.play(self._serves, lambda source: self._stage.sources.vantage_of(source) is not None)
        wanted = Wanted(
            self._name,
            self._server.target,
            str(self._server.target),
            APPLICANT,
            Method.DIFFERENTIAL,
            self._enactment.variant,
            Purpose.CALIBRATION,
        )
        try:
            last = await self._attempt((await self._stage.conductor.request(wanted)).verification)
            said = await self._count(last)
            while (pause_ns := self._enactment.again_after_ns) is not None and _may_try_again(last):
                await self._until(retry_not_before_ns(last, self._stage.policy) + pause_ns)
                await self._begin_anew(len(last.attempts) + 1)
                last = await self._attempt((await self._stage.conductor.retry(self._name)).verification)
                said = await self._count(last) or said
            return said
        finally:
            await self._stop()
            self._server.rest()

    async def _attempt(self, last: Verification) -> Verification:
        """Plays the owner until the attempt is over; how it ended."""
        async with aclosing(follow(self._stage.store, self._name)) as states:
            async for held in states:
                last = held.verification
                self._owner(last)
                await self._look(last)
        await self._wait_for_reports(last)
        return last

    async def _begin_anew(self, number: int) -> None:
        """The owner has taken back what it did, and reads what is asked of it next."""
        await self._stop()
        self._enactment = self._drawn(number)
        self._challenge, self._enacted, self._leaves = None, False, False
        self._reports.clear()
        self._strays.clear()

    async def _stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serves(self, source: str) -> bool:
        vantage = self._stage.sources.vantage_of(source)
        return serves(self._enactment, self._challenge, vantage, source, enacted=self._enacted)

    def _owner(self, now: Verification) -> None:
        """What the owner does next, once, when its time comes."""
        attempt = now.attempt
        if attempt is None or attempt.challenge is None:
            return
        if self._challenge is None:
            self._challenge = attempt.challenge
            self._at(attempt.challenged_at_ns + self._enactment.ready_after_ns, self._ready)
        if now.state is State.MEASURING and not self._leaves:
            self._leaves = True
            self._at(attempt.ready_at_ns + self._enactment.gives_up_after_ns, self._withdraw)

    async def _ready(self) -> None:
        self._enacted = True
        for row in self._challenge.rows if self._challenge is not None else ():
            view = row.perspective
            if not view.is_prefix and sends_stray(self._enactment, view.vantage):
                stray = self._server.stray(view.source)
                self._strays[view.vantage] = (stray,) if stray is not None else ()
        await self._stage.conductor.ready(self._name)

    async def _withdraw(self) -> None:
        await self._stage.conductor.withdraw(self._name)

    def _at(self, when_ns: int, does: Callable[[], Coroutine[Any, Any, object]]) -> None:
        async def act() -> None:
            try:
                await does()
            except (NotNowError, CoordinatorError, StoreError) as error:
                # It is over already, or will be carried on by its windows.
                _log.debug("calibration %s: %s", self._name, error)

        def start() -> None:
            task = asyncio.create_task(act())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._timers.append(self._stage.clock.call_at(when_ns, start))

    async def _look(self, now: Verification) -> None:
        """What has come so far: what is impossible need not wait for the end."""
        await self._gather(now)
        truth = self._server.truth
        if truth is not None:
            for vantage, reckoned in reckon(now, self._reports, truth, self._enactment).items():
                await self._stage.ledger.look(self._name, vantage, reckoned.all_seen)

    async def _wait_for_reports(self, last: Verification) -> None:
        """A verdict need not wait for every report; what it says of the probes does, as long as one may come."""
        attempt = last.attempt
        if attempt is None or not attempt.rounds:
            return
        until_ns = round_ends_ns(attempt.rounds[-1].start_at_ns, self._stage.policy)
        while len(self._reports) < sum(1 for _ in _jobs(last)) and self._stage.clock.now_ns() < until_ns:
            await self._until(self._stage.clock.now_ns() + _LOOK_NS)
            await self._gather(last)

    async def _until(self, when_ns: int) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._stage.clock.call_at(when_ns, lambda: over.set_result(None))
        try:
            await over
        finally:
            timer.cancel()

    async def _gather(self, now: Verification) -> None:
        for job in _jobs(now):
            if job in self._reports or (entry := await self._stage.store.get(report_key(job))) is None:
                continue
            try:
                self._reports[job] = report_from_stored(entry.value)
            except WireError as error:  # cannot be: it was read before it was stored
                _log.error("calibration %s: report %s: %s", self._name, job, error)

    async def _count(self, last: Verification) -> bool:
        truth = self._server.truth
        if truth is None:
            _log.warning("calibration %s: more requests came than it remembers; it says nothing", self._name)
            return False
        reckoned = reckon(last, self._reports, truth, self._enactment, strays=self._strays)
        for vantage, each in reckoned.items():
            await self._stage.ledger.count(self._name, vantage, each.all_seen, each.trials)
        return any(each.trials for each in reckoned.values())


def _may_try_again(last: Verification) -> bool:
    return last.state in (State.CONCLUDED, State.EXPIRED) and not isinstance(last.verdict, ControlProven)


def _jobs(now: Verification) -> Iterator[JobId]:
    """All that was asked so far."""
    attempt = now.attempt
    if attempt is None:
        return
    for candidate in attempt.candidates:
        yield baseline_job_id(now.id, attempt.number, candidate.vantage.id)
    if attempt.challenge is not None:
        for fired in attempt.rounds:
            for row in fired.leased:
                yield round_job_id(
                    now.id, attempt.number, fired.number, attempt.challenge.rows[row].perspective.vantage
                )
