"""What the coordinator counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from coordinator.attempt_spans import is_accounted_for, start_skew_ns, verdict_word
from poolproof import semconv
from poolproof.calibration import Stratum
from poolproof.conduct import Quarantine
from poolproof.decide import decide
from poolproof.metering import Metering
from poolproof.policy import Policy
from poolproof.verification import Attempt, Verification

METRICS: Final = (
    semconv.VERIFICATIONS,
    semconv.ROUNDS,
    semconv.START_SKEW,
    semconv.DISPATCH_DURATION,
    semconv.AGENTS_CONNECTED,
    semconv.REPORTS_REFUSED,
    semconv.SESSIONS_REFUSED,
    semconv.CALIBRATIONS,
    semconv.CALIBRATION_TRIALS,
    semconv.VANTAGES_QUARANTINED,
)


class CoordinatorMetrics:
    """The coordinator's metrics."""

    def __init__(self, metering: Metering) -> None:
        """Args: metering: made for `METRICS`."""
        self._metering = metering

    def advanced(self, before: Attempt | None, verification: Verification, after: Attempt, policy: Policy) -> None:
        """An attempt was saved anew; `before` is how it stood, None if it is new."""
        known = {} if before is None else {fired.number: is_accounted_for(before, fired) for fired in before.rounds}
        for fired in after.rounds:
            if is_accounted_for(after, fired) and not known.get(fired.number, False):
                skew_ns = start_skew_ns(after, fired)
                if skew_ns is not None:
                    self._metering.record(semconv.START_SKEW, skew_ns / 1e9)
        if after.concluded_at_ns and (before is None or not before.concluded_at_ns):
            self._concluded(verification, after, policy)

    def dispatched(self, duration_ns: int, *, delivered: bool) -> None:
        """A job was handed to a stream, or could not be."""
        labels = {"delivered": str(delivered).lower()}
        self._metering.record(semconv.DISPATCH_DURATION, max(0, duration_ns) / 1e9, labels)

    def agents(self, change: int) -> None:
        """Sessions began (1) or ended (-1)."""
        self._metering.record(semconv.AGENTS_CONNECTED, change)

    def report_refused(self, reason: str) -> None:
        """A report was not taken; `reason` is one of `semconv.REFUSED_REPORT_REASONS`."""
        self._metering.record(semconv.REPORTS_REFUSED, 1, {"reason": reason})

    def session_refused(self, reason: str) -> None:
        """An agent was not let in; `reason` is one of `semconv.REFUSED_SESSION_REASONS`."""
        self._metering.record(semconv.SESSIONS_REFUSED, 1, {"reason": reason})

    def calibrated(self, *, said: bool) -> None:
        """A calibration is over."""
        self._metering.record(semconv.CALIBRATIONS, 1, {"result": semconv.COUNTED if said else semconv.NONE})

    def tried(self, trials: Mapping[Stratum, bool]) -> None:
        """One vantage's trials in one calibration, and whether each failed."""
        for stratum, failed in trials.items():
            labels = {"stratum": stratum.value, "failed": str(failed).lower()}
            self._metering.record(semconv.CALIBRATION_TRIALS, 1, labels)

    def quarantined(self, why: Quarantine, change: int) -> None:
        """A vantage is quarantined from now on (1), or no longer (-1)."""
        self._metering.record(semconv.VANTAGES_QUARANTINED, change, {"reason": why.reason.value})

    def close(self) -> None:
        """Send what is left."""
        self._metering.close()

    def _concluded(self, verification: Verification, attempt: Attempt, policy: Policy) -> None:
        verdict = attempt.verdict
        labels = {
            "verdict": verdict_word(verdict),
            "reason": verdict.reason.value,
            "method": verification.method.value,
        }
        self._metering.record(semconv.VERIFICATIONS, 1, labels)
        if attempt.challenge is None or not attempt.rounds:
            return
        assessment = decide(attempt.challenge, attempt.rounds, attempt.observations, attempt.number, policy)
        for state in assessment.rounds:
            result = semconv.COUNTED if state.reason is None else state.reason.value
            self._metering.record(semconv.ROUNDS, 1, {"result": result})
