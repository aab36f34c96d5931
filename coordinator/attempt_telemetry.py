"""The real `tracing_port.Telemetry`: spans to the store and, where asked, to OTLP; metrics; nothing that waits.

Dispatches are the only spans of the coordinator that have to be kept: they are written a moment later, together. Those
of the last moment before a crash are lost, and nothing else is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import groupby
from types import MappingProxyType
from typing import Final

from coordinator.attempt_spans import attempt_spans, parent_of
from coordinator.metrics import CoordinatorMetrics
from coordinator.store.errors import StoreError
from coordinator.store.port import Put
from coordinator.traces import TraceStore, report_spans
from poolproof import semconv
from poolproof.calibration import Stratum
from poolproof.conduct import Quarantine
from poolproof.ids import JobId, PolicyId, VantageId, VerificationId
from poolproof.job import Job
from poolproof.policy import Policy
from poolproof.span import Span, SpanKind, SpanStatus, read_traceparent
from poolproof.tracing import SpanSink, fresh_context
from poolproof.verification import Attempt, Purpose, Verification

_log = logging.getLogger(__name__)

MAX_WAITING: Final = 32_768
"""Dispatch spans not yet stored; beyond that the oldest are dropped."""
BATCH: Final = 64
GATHER_S: Final = 0.2

Entropy = Callable[[int], int]
"""That many random bits, as `secrets.randbits`."""


class AttemptTelemetry:
    """The coordinator's tracing and metrics."""

    def __init__(
        self,
        *,
        traces: TraceStore,
        sink: SpanSink,
        metrics: CoordinatorMetrics,
        entropy: Entropy,
        resource: Mapping[str, str],
        policies: Mapping[PolicyId, Policy],
    ) -> None:
        """Args: traces: for dispatches. sink: OTLP or nothing. entropy: for trace ids. resource: who speaks."""
        self._traces = traces
        self._sink = sink
        self._metrics = metrics
        self._entropy = entropy
        self._resource = resource
        self._policies = policies
        self._waiting: deque[tuple[VerificationId, int, Span]] = deque(maxlen=MAX_WAITING)
        self._some = asyncio.Event()

    def begin_attempt(self) -> str:
        """A fresh W3C context for an attempt's root span."""
        return fresh_context(self._entropy).traceparent

    def advanced(self, before: Verification, after: Verification, now_ns: int) -> None:
        """A new state was saved: emits what is finished now and was not, and counts it."""
        known = {attempt.number: attempt for attempt in before.attempts}
        for attempt in after.attempts:
            earlier = known.get(attempt.number)
            if attempt is earlier or attempt == earlier:
                continue
            if after.purpose is Purpose.APPLICATION:
                self._metrics.advanced(earlier, after, attempt, self._policies[after.policy])
            said = set() if earlier is None else self._finished(before, earlier, now_ns).keys()
            finished = self._finished(after, attempt, now_ns)
            self._sink.emit(span for span_id, span in finished.items() if span_id not in said)

    def with_context(self, verification: Verification, jobs: Iterable[Job]) -> tuple[Job, ...]:
        """The jobs with their `traceparent` set, that of their dispatch span."""
        attempt = verification.attempt
        root = read_traceparent(attempt.traceparent) if attempt is not None else None
        if attempt is None or root is None:
            return tuple(jobs)
        return tuple(
            replace(job, traceparent=parent_of(attempt, root, job.id).child(job.id).traceparent) for job in jobs
        )

    def dispatched(self, verification: Verification, job: Job, *, began_ns: int, now_ns: int, delivered: bool) -> None:
        """A job was handed to its agent's stream, or could not be."""
        self._metrics.dispatched(now_ns - began_ns, delivered=delivered)
        attempt, context = verification.attempt, read_traceparent(job.traceparent)
        root = read_traceparent(attempt.traceparent) if attempt is not None else None
        if attempt is None or root is None or context is None:
            return
        span = Span(
            context=context,
            parent=parent_of(attempt, root, job.id).span_id,
            name=semconv.DISPATCH,
            kind=SpanKind.PRODUCER,
            start_ns=began_ns,
            end_ns=max(began_ns, now_ns),
            attributes=MappingProxyType(
                {
                    semconv.JOB_ID: job.id,
                    semconv.VANTAGE: job.vantage,
                    semconv.DELIVERED: str(delivered).lower(),
                }
            ),
            status=SpanStatus.UNSET if delivered else SpanStatus.ERROR,
            status_detail="" if delivered else "the vantage's agent is not connected",
            resource=self._resource,
        )
        self._sink.emit((span,))
        self._waiting.append((verification.id, attempt.number, span))
        self._some.set()

    def spans_put(self, verification: Verification, job: JobId, spans: Iterable[Span]) -> tuple[Put, ...]:
        """Writes for the report's own transaction."""
        return report_spans(verification, job, spans)

    def agent_connected(self, vantage: VantageId) -> None:
        """A session began."""
        self._metrics.agents(1)
        _log.info("agent connected", extra={"vantage": vantage})

    def agent_gone(self, vantage: VantageId) -> None:
        """A session ended."""
        self._metrics.agents(-1)
        _log.info("agent gone", extra={"vantage": vantage})

    def calibrated(self, *, said: bool) -> None:
        """A calibration is over."""
        self._metrics.calibrated(said=said)

    def tried(self, trials: Mapping[Stratum, bool]) -> None:
        """One vantage's trials in one calibration."""
        self._metrics.tried(trials)

    def quarantined(self, why: Quarantine, change: int) -> None:
        """A vantage is quarantined from now on, or no longer."""
        self._metrics.quarantined(why, change)

    def report_refused(self, reason: str) -> None:
        """A report was not taken."""
        self._metrics.report_refused(reason)

    def session_refused(self, reason: str) -> None:
        """See `Telemetry.session_refused`."""
        self._metrics.session_refused(reason)

    async def run(self) -> None:
        """Stores dispatch spans until cancelled; then call `flush` once more."""
        while True:
            await self._some.wait()
            await asyncio.sleep(GATHER_S)
            await self.flush()

    async def flush(self) -> None:
        """Stores what waits. A store that is not there loses some dispatch spans, and nothing else."""
        self._some.clear()
        waiting, self._waiting = self._waiting, deque(maxlen=MAX_WAITING)
        in_order = sorted(waiting, key=lambda each: each[:2])
        for (verification, number), group in groupby(in_order, key=lambda each: each[:2]):
            spans = [span for _, _, span in group]
            for start in range(0, len(spans), BATCH):
                try:
                    await self._traces.keep_dispatches(verification, number, spans[start : start + BATCH])
                except StoreError as error:
                    _log.warning("dispatch spans not stored", extra={"verification": verification, "error": str(error)})

    def close(self) -> None:
        """Sends what is left to OTLP; waits some seconds if nobody takes it."""
        self._sink.close()
        self._metrics.close()

    def _finished(self, verification: Verification, attempt: Attempt, now_ns: int) -> dict[bytes, Span]:
        spans = attempt_spans(verification, attempt.number, now_ns, self._resource)
        return {each.span.context.span_id: each.span for each in spans if each.finished}
