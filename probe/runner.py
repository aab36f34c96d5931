"""Does one job: guard, journal, control servers, the timed steps, control servers again, and a report of it all.

Theory of operation. A job is known by its id: a second lease of one that runs waits for the same report, one of a job
that the journal knows gets the stored report. Otherwise the guard judges it, the journal records that it is begun, and
from then on whatever happens ends in a report that accounts for every step; if the process dies, the journal has it.

                  start - lead          start        last step + timeout
    time  ---------|---------------------|--------------------|----------------->
    control        [ before: up to tries ]                    [ after: up to tries ]
    steps                                |  each at its own absolute time, all at once in flight  |  linger

Nothing that is slow stands in the way of a step: the disk is written off the event loop, the control servers are asked
ahead, and each step has its own task. The clock's check gates the steps only as far as it is known shortly before the
first; should a later answer show that the clock was wrong, or was set meanwhile, the exchanges are kept and marked.
Where the job asks for it, the tripwire is armed as soon as the job is begun, and what it caught so far goes into the
report.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec, TypeVar, assert_never

from poolproof.exchange import Exchange, ExchangeKind, LocalFault
from poolproof.ids import JobId
from poolproof.job import ClockCheck, Job, Report, Step
from poolproof.ntp import client_request
from probe.clock import Clock, ClockVerdict, check_clock, judge_clock
from probe.control import ControlCheck, Entropy, fresh_transmit
from probe.faulted import faulted_exchange, faulted_report
from probe.guard import Guard, Permit, Refusal
from probe.journal import EntryState, Journal, JournalFullError
from probe.settings import MILLISECOND_NS, ProbeSettings
from probe.sources import draw_sources
from probe.transport import Transport
from probe.tripwire import Tripwire

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

ARM_NS = 200 * MILLISECOND_NS
"""A step's socket is opened this long before it is sent."""
GATE_NS = 250 * MILLISECOND_NS
"""This long before the first step the clock's verdict must be in to hold the steps back."""
LATE_STEP_NS = 500 * MILLISECOND_NS
"""A step that could not be armed until this long after its time (a suspended machine) is not sent."""
_REPORT_NS = 10_000 * MILLISECOND_NS
"""Time for the control servers after the last step, and for a busy machine."""
_CONTROL_SLOT = -1


class Runner:
    """Runs the jobs of one probe."""

    def __init__(
        self,
        settings: ProbeSettings,
        *,
        transport: Transport,
        tripwire: Tripwire,
        journal: Journal,
        guard: Guard,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Args: settings: limits and control servers. The rest: the probe's ports; entropy gives that many bits."""
        self._settings = settings
        self._transport = transport
        self._tripwire = tripwire
        self._journal = journal
        self._guard = guard
        self._clock = clock
        self._entropy = entropy
        self._control = ControlCheck(settings.control, transport, clock, entropy)
        self._running: dict[JobId, asyncio.Future[Report]] = {}
        self._draining = False

    @property
    def running(self) -> frozenset[JobId]:
        """Jobs under way."""
        return frozenset(self._running)

    def drain(self) -> None:
        """Take no new work: jobs from now on are reported DRAINING, those under way are finished."""
        self._draining = True

    async def run(self, job: Job) -> Report:
        """Do a job, or tell what became of it. The report is in the journal, disk permitting, when this returns.

        If cancelled, the journal keeps the job as interrupted; the next `run` of it, or the next start of the process,
        brings that report out.

        Raises:
            JournalError: the journal cannot be read.
        """
        first = self._running.get(job.id)
        if first is not None:
            await asyncio.wait([first])
            return await self.run(job) if first.cancelled() else first.result()
        promise: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._running[job.id] = promise
        try:
            report = await self._account(job)
            promise.set_result(report)
        finally:
            del self._running[job.id]
            promise.cancel()
        return report

    async def _account(self, job: Job) -> Report:
        known = await self._on_disk(self._journal.find, job.id)
        if known is not None:
            return await self._stored(known.report) if known.state is EntryState.STARTED else known.report
        if self._draining:
            detail = "the probe is shutting down and takes no new jobs"
            return await self._told(job, faulted_report(job, LocalFault.DRAINING, detail, at_ns=self._clock.now_ns()))
        missed = self._missed(job)
        if missed is not None:
            return await self._told(job, missed)
        permit = self._guard.admit(job, self._clock.now_ns())
        if isinstance(permit, Refusal):
            detail = f"{permit.rule.value}: {permit.detail}"
            _log.warning("job refused by the guard", extra={"job": job.id, "detail": detail})
            return await self._stored(faulted_report(job, LocalFault.GUARD_REFUSED, detail, at_ns=self._clock.now_ns()))
        may_have_sent = True
        try:
            report = await self._begun(job, permit)
            may_have_sent = any(
                exchange.request or exchange.fault is LocalFault.INTERRUPTED for exchange in report.exchanges
            )
        finally:
            if may_have_sent:
                self._guard.finish(permit)
            else:
                self._guard.withdraw(permit)
        return report

    async def _begun(self, job: Job, permit: Permit) -> Report:
        try:
            await self._on_disk(self._journal.begin, job, self._clock.now_ns(), permit)
        except JournalFullError as error:
            # There is no room to store this report either: it is sent once, and asked for again if it is lost.
            _log.error("journal full, job refused", extra={"job": job.id, "detail": str(error)})
            return faulted_report(job, LocalFault.GUARD_REFUSED, str(error), at_ns=self._clock.now_ns())
        try:
            if job.watch_until_ns:
                self._tripwire.arm(job.verification, job.target, job.source, max(job.watch_until_ns, _over_at_ns(job)))
            report = self._missed(job) or await self._perform(job)
        except Exception as error:
            # A bug of ours costs this job, and must cost neither the others nor the account of this one.
            _log.exception("job failed", extra={"job": job.id})
            report = faulted_report(job, LocalFault.INTERRUPTED, f"internal error: {error!r}")
        return await self._told(job, report)

    async def _perform(self, job: Job) -> Report:
        slots = ((step.source_slot, step.source) for step in job.steps)
        sources = draw_sources(job.source, [(_CONTROL_SLOT, ""), *slots], self._entropy)
        asking = sources[_CONTROL_SLOT]
        first_at_ns = job.start_at_ns + job.steps[0].offset_ns
        await self._clock.sleep_until(first_at_ns - self._settings.control.lead_ns)
        seen: list[Exchange] = []
        async with asyncio.TaskGroup() as group:
            before = group.create_task(self._control.side(asking, send_before_ns=first_at_ns, seen=seen))
            await self._done_or_time(before, first_at_ns - GATE_NS)
            if self._verdict(check_clock(seen)) is ClockVerdict.WRONG:
                return self._clock_wrong(job, await before)
            steps = [group.create_task(self._step(job, step, sources[step.source_slot])) for step in job.steps]
            after = group.create_task(self._after(job, asking))
        clock = check_clock(before.result())
        exchanges = tuple(step.result() for step in steps)
        if self._verdict(check_clock(after.result())) is ClockVerdict.WRONG:
            # It was set while the job was under way: nobody knows when its packets really went out.
            clock = check_clock(after.result())
        if self._verdict(clock) is ClockVerdict.WRONG:
            detail = self._clock_detail(clock)
            exchanges = tuple(
                each if each.fault else replace(each, fault=LocalFault.CLOCK_WRONG, fault_detail=detail)
                for each in exchanges
            )
        return Report(
            job=job.id,
            vantage=job.vantage,
            exchanges=exchanges,
            control_before=before.result(),
            control_after=after.result(),
            clock=clock,
            ticket=job.ticket,
        )

    async def _step(self, job: Job, step: Step, source: str) -> Exchange:
        at_ns = job.start_at_ns + step.offset_ns
        await self._clock.sleep_until(at_ns - ARM_NS)
        now_ns = self._clock.now_ns()
        if now_ns - at_ns > LATE_STEP_NS:
            detail = f"ready to send {now_ns - at_ns} ns after the step's time; at most {LATE_STEP_NS}"
            return faulted_exchange(job, step, LocalFault.MISSED_START, detail, at_ns=now_ns)
        return await self._transport.exchange(
            kind=step.kind,
            request=request_for(step.kind, fresh_transmit(self._entropy)),
            source=source,
            target=job.target,
            send_at_ns=at_ns,
            timeout_ns=job.timeout_ns,
            linger_ns=job.linger_ns,
        )

    async def _after(self, job: Job, source: str) -> tuple[Exchange, ...]:
        await self._clock.sleep_until(job.start_at_ns + job.steps[-1].offset_ns + job.timeout_ns)
        return await self._control.side(source)

    async def _done_or_time(self, task: asyncio.Task[tuple[Exchange, ...]], at_ns: int) -> None:
        alarm = asyncio.ensure_future(self._clock.sleep_until(at_ns))
        try:
            await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()

    def _missed(self, job: Job) -> Report | None:
        now_ns, tolerance_ns = self._clock.now_ns(), self._settings.guard.start_tolerance_ns
        late_ns = now_ns - job.start_at_ns
        if late_ns <= tolerance_ns:
            return None
        detail = f"start_at_ns {job.start_at_ns} was {late_ns} ns ago; guard.start_tolerance_ns is {tolerance_ns}"
        return faulted_report(job, LocalFault.MISSED_START, detail, at_ns=now_ns)

    def _verdict(self, check: ClockCheck) -> ClockVerdict:
        return judge_clock(check, self._settings.control.max_clock_offset_ns)

    def _clock_wrong(self, job: Job, before: tuple[Exchange, ...]) -> Report:
        clock = check_clock(before)
        _log.error("clock wrong, job not done", extra={"job": job.id, "offset_ns": clock.offset_ns})
        return faulted_report(
            job, LocalFault.CLOCK_WRONG, self._clock_detail(clock), control_before=before, clock=clock
        )

    def _clock_detail(self, clock: ClockCheck) -> str:
        return (
            f"clock off by {clock.offset_ns} ns (error {clock.error_ns} ns, {clock.samples} samples);"
            f" control.max_clock_offset_ns is {self._settings.control.max_clock_offset_ns}"
        )

    async def _told(self, job: Job, report: Report) -> Report:
        """Stored with what the tripwire caught so far, if it was asked to watch."""
        if job.watch_until_ns:
            report = replace(report, capture=self._tripwire.harvest(job.verification, job.target, job.source))
        return await self._stored(report)

    async def _stored(self, report: Report) -> Report:
        try:
            await self._on_disk(self._journal.finish, report, self._clock.now_ns())
        except JournalFullError as error:
            # Better sent from memory than not at all; after a crash the journal says that the job was interrupted.
            _log.error("report not stored", extra={"job": report.job, "detail": str(error)})
        return report

    @staticmethod
    async def _on_disk(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Off the event loop: an fsync takes milliseconds, in which no packet of another job would go out."""
        return await asyncio.to_thread(work, *args, **kwargs)


def _over_at_ns(job: Job) -> int:
    """When a job's report is made at the latest, generously: its own watch must not end before that."""
    return job.start_at_ns + job.steps[-1].offset_ns + job.timeout_ns + job.linger_ns + _REPORT_NS


def request_for(kind: ExchangeKind, transmit: int) -> bytes:
    """The UDP payload that asks a kind of question, with that transmit timestamp."""
    match kind:
        case ExchangeKind.CLIENT_V4:
            return client_request(transmit, version=4)
        case _:
            assert_never(kind)
