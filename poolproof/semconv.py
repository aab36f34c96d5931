"""Every name that telemetry uses: spans, their attributes, metrics and the labels that each metric may have.

Nothing is measured under a name that does not stand here, and no metric has a label that is not listed with its
values: labels with open sets of values (ids, addresses) are how metric stores die.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from poolproof.calibration import Stratum
from poolproof.challenge import Method
from poolproof.conduct import QuarantineReason
from poolproof.exchange import LocalFault
from poolproof.outcome import Outcome
from poolproof.target import Family
from poolproof.verdict import Reason
from poolproof.verification import Foreign

COORDINATOR: Final = "poolproof-coordinator"
PROBE: Final = "poolproof-probe"

# --- spans, from request to packet ---

ATTEMPT: Final = "verification.attempt"
BASELINE: Final = "verification.baseline"
ROUND: Final = "verification.round"
DISPATCH: Final = "job.dispatch"
JOB: Final = "probe.job"
CONTROL: Final = "probe.control"
EXCHANGE: Final = "ntp.exchange"

SPANS: Final = (ATTEMPT, BASELINE, ROUND, DISPATCH, JOB, CONTROL, EXCHANGE)

# --- attributes of spans ---

VERIFICATION_ID: Final = "poolproof.verification.id"
ATTEMPT_NUMBER: Final = "poolproof.attempt.number"
METHOD: Final = "poolproof.method"
VARIANT: Final = "poolproof.variant"
TARGET: Final = "poolproof.target"
STATE: Final = "poolproof.state"
VERDICT: Final = "poolproof.verdict"
REASON: Final = "poolproof.reason"
ASSURANCE: Final = "poolproof.assurance"
ROUND_NUMBER: Final = "poolproof.round.number"
START_SKEW_NS: Final = "poolproof.round.start_skew_ns"
PERSPECTIVES: Final = "poolproof.perspectives"
REPORTED: Final = "poolproof.reported"
JOB_ID: Final = "poolproof.job.id"
VANTAGE: Final = "poolproof.vantage"
DELIVERED: Final = "poolproof.delivered"
CLOCK_OFFSET_NS: Final = "poolproof.clock.offset_ns"
CLOCK_ERROR_NS: Final = "poolproof.clock.error_ns"
SIDE: Final = "poolproof.control.side"
KIND: Final = "poolproof.exchange.kind"
OUTCOME: Final = "poolproof.exchange.outcome"
FAULT: Final = "poolproof.exchange.fault"
FAULT_DETAIL: Final = "poolproof.exchange.fault_detail"
SOURCE_ADDRESS: Final = "source.address"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ICMP_TYPE: Final = "poolproof.icmp.type"
ICMP_CODE: Final = "poolproof.icmp.code"
ICMP_OFFENDER: Final = "poolproof.icmp.offender"
BYTES: Final = "poolproof.bytes"

REPLY_EVENT: Final = "reply"
ICMP_EVENT: Final = "icmp-error"
CHALLENGED_EVENT: Final = "challenged"
READY_EVENT: Final = "owner-ready"

# --- metrics ---


NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


class Instrument(Enum):
    """How a metric is counted."""

    COUNTER = "counter"
    UP_DOWN_COUNTER = "up-down-counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as exported.
        instrument: how it is counted.
        unit: UCUM.
        description: for people.
        labels: the values that each label may have.
        buckets: upper bounds of a histogram, in its unit.
    """

    name: str
    instrument: Instrument
    unit: str
    description: str
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()

    def check(self, labels: Mapping[str, str]) -> None:
        """Refuse labels that are not listed.

        Raises:
            ValueError: a label is missing, too much, or has a value that is not listed.
        """
        if labels.keys() != self.labels.keys():
            raise ValueError(f"metric {self.name}: labels {sorted(labels)}; it has {sorted(self.labels)}")
        for name, value in labels.items():
            if value not in self.labels[name]:
                raise ValueError(f"metric {self.name}: {name}={value!r}; give one of {sorted(self.labels[name])}")


NONE: Final = "none"
"""Value of a label that says nothing in this case."""
COUNTED: Final = "counted"

VERDICTS: Final = ("proven", "refuted", "inconclusive")
REFUSED_REPORT_REASONS: Final = (
    *("unknown-verification", "invalid", "too-large", "bad-ticket", "expired-ticket"),
    *(str(each.value) for each in Foreign),
)
REFUSED_SESSION_REASONS: Final = ("unknown-vantage", "other-address", "second-process", "version", "invalid")
SESSION_ENDS: Final = ("drained", "moved", "lost", "hung", "unreachable", "invalid", "rejected")

_SECONDS_FINE: Final = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def _words(values: Iterable[Enum]) -> frozenset[str]:
    return frozenset(str(each.value) for each in values)


VERIFICATIONS: Final = Metric(
    "poolproof.verifications",
    Instrument.COUNTER,
    "{attempt}",
    "Attempts that came to their end, by verdict and its reason.",
    {"verdict": frozenset(VERDICTS), "reason": _words(Reason), "method": _words(Method)},
)
ROUNDS: Final = Metric(
    "poolproof.rounds",
    Instrument.COUNTER,
    "{round}",
    "Rounds of ended attempts: counted, or the reason why not.",
    {"result": _words(Reason) | {COUNTED}},
)
START_SKEW: Final = Metric(
    "poolproof.round.start_skew",
    Instrument.HISTOGRAM,
    "s",
    "Between the first and the last packet that one round's perspectives sent.",
    buckets=_SECONDS_FINE,
)
DISPATCH_DURATION: Final = Metric(
    "poolproof.dispatch.duration",
    Instrument.HISTOGRAM,
    "s",
    "From the saved decision to the job on its agent's stream.",
    {"delivered": frozenset({"true", "false"})},
    _SECONDS_FINE,
)
AGENTS_CONNECTED: Final = Metric(
    "poolproof.agents.connected", Instrument.UP_DOWN_COUNTER, "{agent}", "Agents with a session now."
)
REPORTS_REFUSED: Final = Metric(
    "poolproof.reports.refused",
    Instrument.COUNTER,
    "{report}",
    "Reports that the coordinator did not take, or not a second time.",
    {"reason": frozenset(REFUSED_REPORT_REASONS)},
)
SESSIONS_REFUSED: Final = Metric(
    "poolproof.sessions.refused",
    Instrument.COUNTER,
    "{session}",
    "Agents that the coordinator did not let in.",
    {"reason": frozenset(REFUSED_SESSION_REASONS)},
)
CALIBRATIONS: Final = Metric(
    "poolproof.calibrations",
    Instrument.COUNTER,
    "{calibration}",
    "Calibrations that came to their end: counted, or none if they say nothing of any probe.",
    {"result": frozenset({COUNTED, NONE})},
)
CALIBRATION_TRIALS: Final = Metric(
    "poolproof.calibration.trials",
    Instrument.COUNTER,
    "{trial}",
    "Answers of calibration targets that a vantage's report should have had, and whether it had not.",
    {"stratum": _words(Stratum), "failed": frozenset({"true", "false"})},
)
VANTAGES_QUARANTINED: Final = Metric(
    "poolproof.vantages.quarantined",
    Instrument.UP_DOWN_COUNTER,
    "{vantage}",
    "Vantages that are given no work because of what calibrations show.",
    {"reason": _words(QuarantineReason)},
)
EXCHANGES: Final = Metric(
    "poolproof.probe.exchanges",
    Instrument.COUNTER,
    "{exchange}",
    "Exchanges with targets, by what each amounts to and the probe's own fault.",
    {"outcome": _words(Outcome), "fault": _words(LocalFault) | {NONE}, "family": _words(Family)},
)
SEND_LATENESS: Final = Metric(
    "poolproof.probe.send_lateness",
    Instrument.HISTOGRAM,
    "s",
    "How long after its planned time an exchange's packet was sent.",
    buckets=_SECONDS_FINE,
)
GUARD_REFUSALS: Final = Metric(
    "poolproof.probe.guard_refusals", Instrument.COUNTER, "{job}", "Jobs that the probe's own guard did not do."
)
JOURNAL_REPORTS: Final = Metric(
    "poolproof.probe.journal.reports",
    Instrument.GAUGE,
    "{report}",
    "Reports that the coordinator has not acknowledged.",
)
SESSIONS: Final = Metric(
    "poolproof.probe.sessions",
    Instrument.COUNTER,
    "{session}",
    "Sessions with the coordinator, by how they ended.",
    {"end": frozenset(SESSION_ENDS)},
)

METRICS: Final = (
    VERIFICATIONS,
    ROUNDS,
    START_SKEW,
    DISPATCH_DURATION,
    AGENTS_CONNECTED,
    REPORTS_REFUSED,
    SESSIONS_REFUSED,
    CALIBRATIONS,
    CALIBRATION_TRIALS,
    VANTAGES_QUARANTINED,
    EXCHANGES,
    SEND_LATENESS,
    GUARD_REFUSALS,
    JOURNAL_REPORTS,
    SESSIONS,
)
