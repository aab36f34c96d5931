"""What a probe counts, from what happened: reports, sessions, the size of its journal."""

from __future__ import annotations

from typing import Final

from poolproof import semconv
from poolproof.classify import classify_report
from poolproof.exchange import LocalFault
from poolproof.job import Job, Report
from poolproof.metering import Metering

METRICS: Final = (
    semconv.EXCHANGES,
    semconv.SEND_LATENESS,
    semconv.GUARD_REFUSALS,
    semconv.JOURNAL_REPORTS,
    semconv.SESSIONS,
)


class ProbeMetrics:
    """The probe's metrics."""

    def __init__(self, metering: Metering) -> None:
        """Args: metering: made for `METRICS`."""
        self._metering = metering

    def job_done(self, job: Job, report: Report) -> None:
        """A job was done for the first time; a report that is told again is not counted again."""
        family = str(job.target.family.value)
        for step, exchange, outcome in zip(job.steps, report.exchanges, classify_report(report), strict=True):
            fault = semconv.NONE if exchange.fault is None else exchange.fault.value
            labels = {"outcome": outcome.value, "fault": fault, "family": family}
            self._metering.record(semconv.EXCHANGES, 1, labels)
            if exchange.fault is None:
                late_ns = exchange.sent_at_ns - job.start_at_ns - step.offset_ns
                self._metering.record(semconv.SEND_LATENESS, max(0, late_ns) / 1e9)
        if all(exchange.fault is LocalFault.GUARD_REFUSED for exchange in report.exchanges):
            self._metering.record(semconv.GUARD_REFUSALS, 1)

    def journal(self, reports: int) -> None:
        """How many reports are not acknowledged."""
        self._metering.record(semconv.JOURNAL_REPORTS, reports)

    def session_ended(self, end: str) -> None:
        """A session, or the attempt to get one, ended; `end` is one of `semconv.SESSION_ENDS`."""
        self._metering.record(semconv.SESSIONS, 1, {"end": end})

    def close(self) -> None:
        """Send what is left."""
        self._metering.close()
