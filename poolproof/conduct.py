"""A vantage's conduct over all calibrations: how its trials went, whether it is quarantined, and who let it go again.

A quarantined vantage gets no work, and what it said in attempts that are still open counts as its own failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

from poolproof.calibration import Examined, Finding, Stratum, evidence, needed
from poolproof.ids import VantageId, VerificationId
from poolproof.policy import Policy

MAX_RELEASES = 16
"""The last ones are kept."""
MAX_NOTE = 400
"""Characters of evidence or of an operator's reason."""


class QuarantineReason(Enum):
    """Why a vantage is quarantined."""

    INVENTED_ANSWER = "invented-answer"
    INVENTED_REFUSAL = "invented-refusal"
    OTHER_SOURCE = "other-source"
    MISSING_ANSWERS = "missing-answers"
    """More answers are missing than an honest path loses."""


_REASONS: Mapping[Finding, QuarantineReason] = MappingProxyType(
    {
        Finding.INVENTED_ANSWER: QuarantineReason.INVENTED_ANSWER,
        Finding.INVENTED_REFUSAL: QuarantineReason.INVENTED_REFUSAL,
        Finding.OTHER_SOURCE: QuarantineReason.OTHER_SOURCE,
    }
)


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why and since when a vantage is given no work.

    Attributes:
        reason: of the closed list.
        since_ns: when it began.
        calibration: the verification that led to it.
        evidence: what was seen, for people.
    """

    reason: QuarantineReason
    since_ns: int
    calibration: VerificationId
    evidence: str


@dataclass(frozen=True, slots=True)
class Release:
    """An operator ended a quarantine.

    Attributes:
        released_at_ns: when.
        reason: the operator's words.
        quarantine: which one.
    """

    released_at_ns: int
    reason: str
    quarantine: Quarantine


@dataclass(frozen=True, slots=True)
class Counts:
    """Trials of one stratum, and how many of them failed."""

    trials: int = 0
    failures: int = 0


_NOTHING: Mapping[Stratum, Counts] = MappingProxyType(dict.fromkeys(Stratum, Counts()))


@dataclass(frozen=True, slots=True)
class Conduct:
    """What calibrations say of one vantage, since it was last released.

    Attributes:
        vantage: which.
        calibrations: in which it took part.
        counts: by stratum.
        quarantine: None: it may work.
        releases: the latest last.
    """

    vantage: VantageId
    calibrations: int = 0
    counts: Mapping[Stratum, Counts] = field(default_factory=lambda: _NOTHING)
    quarantine: Quarantine | None = None
    releases: tuple[Release, ...] = ()

    def evidence(self, stratum: Stratum, policy: Policy) -> float:
        """The test of one stratum as it stands, in nats."""
        counts = self.counts[stratum]
        return evidence(counts.trials, counts.failures, policy.calibration_loss)


def after_calibration(
    conduct: Conduct,
    calibration: VerificationId,
    seen: Sequence[Examined],
    trials: Mapping[Stratum, Examined],
    now_ns: int,
    policy: Policy,
) -> Conduct:
    """The conduct once one more calibration is counted.

    Args:
        conduct: before it.
        calibration: which one.
        seen: all of the vantage's exchanges in it.
        trials: those of them that count, by stratum.
        now_ns: a quarantine begins now.
        policy: the test's numbers.
    """
    counts = dict(conduct.counts)
    for stratum, each in trials.items():
        before = counts[stratum]
        counts[stratum] = Counts(before.trials + 1, before.failures + each.failed)
    after = replace(conduct, calibrations=conduct.calibrations + bool(seen), counts=MappingProxyType(counts))
    return quarantined(after, calibration, seen, now_ns, policy)


def quarantined(
    conduct: Conduct, calibration: VerificationId, seen: Sequence[Examined], now_ns: int, policy: Policy
) -> Conduct:
    """The same conduct, quarantined if an exchange or a test says so. One quarantine is enough."""
    if conduct.quarantine is not None:
        return conduct
    for each in seen:
        if each.finding.is_impossible:
            held = Quarantine(_REASONS[each.finding], now_ns, calibration, _impossible(each)[:MAX_NOTE])
            return replace(conduct, quarantine=held)
    for stratum, counts in conduct.counts.items():
        if conduct.evidence(stratum, policy) >= needed(policy):
            said = (
                f"{counts.failures} of {counts.trials} answers are missing in work of kind {stratum.value}; an honest"
                f" probe whose path loses {policy.calibration_loss:.0%} is ever caught like this with chance"
                f" {policy.alpha_quarantine:g}"
            )
            return replace(conduct, quarantine=Quarantine(QuarantineReason.MISSING_ANSWERS, now_ns, calibration, said))
    return conduct


def _impossible(each: Examined) -> str:
    match each.finding:
        case Finding.INVENTED_ANSWER:
            said = "reports an answer to its request that the target never sent"
        case Finding.INVENTED_REFUSAL:
            said = "reports a refusal of a packet that the target received"
        case _:
            said = "says that it sent from an address from which the target did not get the packet"
    return f"{each.label}: {said}"


def released(conduct: Conduct, reason: str, now_ns: int) -> Conduct:
    """The conduct once an operator has ended the quarantine: its counts begin anew.

    Raises:
        ValueError: it is not quarantined, or no reason is given.
    """
    if conduct.quarantine is None:
        raise ValueError(f"vantage {conduct.vantage} is not quarantined: there is nothing to release")
    if not reason.strip() or len(reason) > MAX_NOTE:
        raise ValueError(f"reason: {reason[:40]!r}: give 1 to {MAX_NOTE} characters that say why it may work again")
    release = Release(now_ns, reason, conduct.quarantine)
    return Conduct(conduct.vantage, releases=(*conduct.releases, release)[-MAX_RELEASES:])
