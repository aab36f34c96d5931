"""What the conductor and the session server tell telemetry. `attempt_telemetry.AttemptTelemetry` is the real one.

One call per thing that happened; which spans, metrics and log lines follow from it is not the caller's business.
None of these calls waits, touches a disk or raises for what it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from coordinator.store.port import Put
from poolproof.calibration import Stratum
from poolproof.conduct import Quarantine
from poolproof.ids import JobId, VantageId
from poolproof.job import Job
from poolproof.span import Span
from poolproof.verification import Verification


class Telemetry(Protocol):
    """The coordinator's tracing and metrics."""

    def begin_attempt(self) -> str:
        """A fresh W3C context for an attempt's root span: put it into `Begin.traceparent`. Nothing is emitted yet."""
        ...

    def advanced(self, before: Verification, after: Verification, now_ns: int) -> None:
        """A new state was saved. Emits the spans and counts the rounds and verdicts that came to their end by it.

        Call it after a successful compare-and-save, once for each, never for a state that was not saved.
        """
        ...

    def with_context(self, verification: Verification, jobs: Iterable[Job]) -> tuple[Job, ...]:
        """The jobs with their `traceparent` set, that of their dispatch span. The same job always gets the same."""
        ...

    def dispatched(self, verification: Verification, job: Job, *, began_ns: int, now_ns: int, delivered: bool) -> None:
        """A job was handed to its agent's stream, or could not be.

        Args:
            verification: which one.
            job: as `with_context` gave it.
            began_ns: when the conductor set out to dispatch it.
            now_ns: when the stream's writer took it, or it became clear that there is no stream.
            delivered: whether it was taken.
        """
        ...

    def spans_put(self, verification: Verification, job: JobId, spans: Iterable[Span]) -> tuple[Put, ...]:
        """Writes for the report's own transaction: the spans that came with it, if they belong to this attempt."""
        ...

    def agent_connected(self, vantage: VantageId) -> None:
        """A session began."""
        ...

    def agent_gone(self, vantage: VantageId) -> None:
        """A session ended; once for each `agent_connected`."""
        ...

    def calibrated(self, *, said: bool) -> None:
        """A calibration is over; `said`: it had a trial for somebody."""
        ...

    def tried(self, trials: Mapping[Stratum, bool]) -> None:
        """One vantage's trials in one calibration, and whether each failed."""
        ...

    def quarantined(self, why: Quarantine, change: int) -> None:
        """A vantage is quarantined from now on (1), also when the coordinator starts; or no longer (-1)."""
        ...

    def report_refused(self, reason: str) -> None:
        """A report was not taken. `reason` is one of `semconv.REFUSED_REPORT_REASONS`."""
        ...

    def session_refused(self, reason: str) -> None:
        """An agent was not let in. `reason` is one of `semconv.REFUSED_SESSION_REASONS`."""
        ...
