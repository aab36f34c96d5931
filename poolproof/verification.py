"""One verification, as a value: what was claimed, what was asked, what was seen; and the events that move it.

A verification is kept by the shell with compare-and-save. How it moves is `lifecycle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from poolproof.challenge import Challenge, Method, Observation, Path, Round
from poolproof.cohort import Candidate
from poolproof.fleet import Vantage
from poolproof.ids import JobId, PolicyId, VantageId, VerificationId
from poolproof.job import Job, Report
from poolproof.target import Target
from poolproof.variant import Variant
from poolproof.verdict import NOTHING, Inconclusive, Reason, Verdict

_UNTOUCHED = Inconclusive(Reason.NOT_STARTED, (), NOTHING)


class State(Enum):
    """Where a verification is."""

    REQUESTED = "requested"
    BASELINE = "baseline"
    CHALLENGED = "challenged"
    MEASURING = "measuring"
    CONCLUDED = "concluded"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"

    @property
    def is_open(self) -> bool:
        """Whether something will still happen by itself or by the owner's word."""
        return self in (State.REQUESTED, State.BASELINE, State.CHALLENGED, State.MEASURING)


class Purpose(Enum):
    """What a verification is for. Everything that a probe can see is the same for both."""

    APPLICATION = "application"
    """Somebody claims a target."""
    CALIBRATION = "calibration"
    """The target is the coordinator's own, and what the probes report is held against the truth."""


class NotNowError(ValueError):
    """An event that this state does not take; the message says what to do instead."""


class Foreign(Enum):
    """Why a report is not taken; the values are labels of metrics."""

    NO_SUCH_JOB = "no-such-job"
    OLD_ATTEMPT = "old-attempt"
    OTHER_VANTAGE = "other-vantage"
    """It comes from, or names, another vantage than the one that was asked."""
    OTHER_TARGET = "other-target"
    """Its exchanges are not those of the job: another target, another source, another number."""
    DUPLICATE = "duplicate"
    """The job has been reported, and otherwise."""


class ForeignReportError(ValueError):
    """A report that does not belong to this verification, its attempt, or the vantage that was asked."""

    def __init__(self, foreign: Foreign, message: str) -> None:
        super().__init__(message)
        self.foreign = foreign


@dataclass(frozen=True, slots=True)
class BaselinePath:
    """What became of one candidate's baseline job; `path` is None if its probe could not be asked."""

    vantage: VantageId
    path: Path | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One challenge and all that was seen for it.

    Attributes:
        number: over all verifications of the target, from 1; decides the share of the error budget.
        seed: what candidates and roles were drawn with.
        traceparent: W3C context of the attempt's root span, or empty.
        started_at_ns: when it began.
        candidates: vantages of the baseline.
        baseline_start_at_ns: when their first packets go out.
        paths: what is known of the candidates so far.
        challenge: None until the baseline is done.
        challenged_at_ns: when the owner was told, or 0.
        ready_at_ns: when the owner said "ready", or 0.
        rounds: rounds fired.
        observations: what they showed.
        verdict: as things stand.
        concluded_at_ns: when it became final, or 0.
        distrusted: vantages that were quarantined while it was open.
    """

    number: int
    seed: bytes
    traceparent: str
    started_at_ns: int
    candidates: tuple[Candidate, ...]
    baseline_start_at_ns: int
    paths: tuple[BaselinePath, ...] = ()
    challenge: Challenge | None = None
    challenged_at_ns: int = 0
    ready_at_ns: int = 0
    rounds: tuple[Round, ...] = ()
    observations: tuple[Observation, ...] = ()
    verdict: Verdict = _UNTOUCHED
    concluded_at_ns: int = 0
    distrusted: tuple[VantageId, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """One applicant's claim on one target.

    Attributes:
        id: unique.
        target: what is claimed; pinned.
        requested: what the applicant typed (a host name, perhaps).
        applicant: who claims it.
        method, variant: how it shall be proven.
        policy: by whose numbers.
        requested_at_ns: when.
        state: where it is.
        attempts: oldest first; the last one is the current one.
        purpose: an application, or a calibration of our own probes.
    """

    id: VerificationId
    target: Target
    requested: str
    applicant: str
    method: Method
    variant: Variant
    policy: PolicyId
    requested_at_ns: int
    state: State = State.REQUESTED
    attempts: tuple[Attempt, ...] = ()
    purpose: Purpose = Purpose.APPLICATION

    @property
    def attempt(self) -> Attempt | None:
        """The current attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def verdict(self) -> Verdict:
        """The current attempt's verdict, as things stand."""
        return self.attempts[-1].verdict if self.attempts else _UNTOUCHED


@dataclass(frozen=True, slots=True)
class Begin:
    """Start an attempt.

    Attributes:
        number: counted on the target, over all its verifications.
        seed: 32 secret bytes.
        fleet: the vantages that can work now.
        traceparent: W3C context of the attempt's root span, or empty.
    """

    number: int
    seed: bytes
    fleet: tuple[Vantage, ...]
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Reported:
    """A probe's report."""

    report: Report


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Jobs that were certainly never handed to their probes, because these are not connected."""

    jobs: tuple[JobId, ...]


@dataclass(frozen=True, slots=True)
class Distrusted:
    """A vantage is quarantined: what it has said in this attempt, and what it would say, counts as its own failure."""

    vantage: VantageId


@dataclass(frozen=True, slots=True)
class OwnerReady:
    """The owner says that the challenge is enacted."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The applicant takes the request back."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Time has passed."""


Event = Begin | Reported | Unreachable | Distrusted | OwnerReady | Withdraw | Wake


@dataclass(frozen=True, slots=True)
class Step:
    """What an event led to: the verification to save, then the jobs to hand out."""

    verification: Verification
    dispatch: tuple[Job, ...] = ()
