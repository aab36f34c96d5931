"""The jobs of this probe: each is run once, and its report goes into the outbox.

A job may be leased many times: while it runs that changes nothing; when it is done its stored report goes out again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from poolproof.ids import JobId
from poolproof.job import ClockCheck, Job, Report
from poolproof.tracing import SpanSink, current
from probe.clock import Clock
from probe.journal import Journal, JournalError
from probe.metrics import ProbeMetrics
from probe.outbox import Delivery, Outbox
from probe.pace import SECOND_NS, WindowBudget
from probe.spans import job_spans

_log = logging.getLogger(__name__)

_MINUTE_NS = 60 * SECOND_NS
Entropy = Callable[[int], int]
"""That many random bits, as `secrets.randbits`."""


class JobRunner(Protocol):
    """What a workload needs of `runner.Runner`."""

    async def run(self, job: Job) -> Report:
        """Do a job once; a known one is answered with its stored report."""
        ...

    def drain(self) -> None:
        """Take no new work: jobs from now on are reported DRAINING."""
        ...


class Workload:
    """Runs jobs in tasks of its own; to be used as a context, which cancels what is left at its end."""

    def __init__(
        self,
        *,
        runner: JobRunner,
        journal: Journal,
        outbox: Outbox,
        clock: Clock,
        entropy: Entropy,
        metrics: ProbeMetrics,
        sink: SpanSink,
        resource: Mapping[str, str],
        capacity: int,
        jobs_per_minute: int,
    ) -> None:
        """Args: capacity: jobs at one time. resource: who makes the spans. The rest: the probe's ports, and a limit."""
        self._runner = runner
        self._journal = journal
        self._outbox = outbox
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._sink = sink
        self._resource = resource
        self.capacity = capacity
        self._looked_at = WindowBudget(jobs_per_minute, _MINUTE_NS)
        self._tasks: dict[JobId, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None
        self.clock_check: ClockCheck | None = None
        """The latest check that told something."""

    @property
    def running(self) -> tuple[JobId, ...]:
        """Jobs under way."""
        return tuple(self._tasks)

    @property
    def failure(self) -> asyncio.Future[None]:
        """Raises what no job can go on from: the journal cannot be read."""
        if self._failed is None:
            self._failed = asyncio.get_running_loop().create_future()
        return self._failed

    def looks_at_another(self) -> bool:
        """Count a job that came in, good or bad; False: no more this minute. Sessions come and go, this stays."""
        now_ns = int(asyncio.get_running_loop().time() * 1e9)
        self._looked_at.forget(now_ns)
        fits = self._looked_at.fits(None, [now_ns])
        if fits:
            self._looked_at.plan(None, [now_ns])
        return fits

    def accept(self, job: Job) -> str | None:
        """Start a job, unless it runs already. The answer is why not, for people: there is no room for it."""
        if job.id in self._tasks:
            return None
        if len(self._tasks) >= self.capacity:
            return f"{self.capacity} jobs are under way, as many as guard.max_jobs allows"
        if self._outbox.full:
            return "as many reports as journal.max_reports allows wait to be acknowledged"
        task = asyncio.create_task(self._work(job, self._clock.now_ns()))
        self._tasks[job.id] = task
        task.add_done_callback(lambda done: self._over(job.id, done))
        return None

    def measure_journal(self) -> None:
        """Tells the metrics how many reports are owed now."""
        self._metrics.journal(len(self._outbox.owed))

    def drain(self) -> None:
        """Finish what runs; anything new is reported DRAINING."""
        self._runner.drain()

    async def idle(self) -> None:
        """Returns when no job runs and each report is in the outbox."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())
            await asyncio.sleep(0)  # the tasks' callbacks take them out

    async def close(self) -> None:
        """Cancel what runs: the journal says that it was interrupted."""
        for task in self._tasks.values():
            task.cancel()
        await self.idle()
        if self._failed is not None and self._failed.done() and not self._failed.cancelled():
            self._failed.exception()

    async def _work(self, job: Job, accepted_at_ns: int) -> None:
        with current(job.traceparent):
            known = await asyncio.to_thread(self._journal.find, job.id)
            _log.debug("job accepted", extra={"job": job.id, "target": str(job.target), "known": known is not None})
            report = await self._runner.run(job)
            spans = job_spans(
                job,
                report,
                accepted_at_ns=accepted_at_ns,
                done_at_ns=self._clock.now_ns(),
                entropy=self._entropy,
                resource=self._resource,
            )
            if report.clock.samples:
                self.clock_check = report.clock
            if known is None:
                self._metrics.job_done(job, report)
                self._sink.emit(spans)
            await self._outbox.put(Delivery(report, spans))
            self.measure_journal()
            _log.info("job done", extra={"job": job.id, "target": str(job.target), "known": known is not None})

    def _over(self, job: JobId, task: asyncio.Task[None]) -> None:
        del self._tasks[job]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, JournalError) and not self.failure.done():
            self.failure.set_exception(error)
        elif error is not None:
            # A bug of ours that some job brings out must not end the probe, and every other job with it.
            _log.error("job failed outside of its account", extra={"job": job}, exc_info=error)
