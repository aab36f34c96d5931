"""What calibrations say of a probe: its report is held against what the target itself saw and answered.

A calibration is a verification whose target and owner are the coordinator's own (`enactment`), so that the truth is
known. Some reports are impossible for an honest probe: an answer that was never sent. Others the network can cause: an
answer that was sent and not reported was lost, or hidden. One such exchange says nothing; how often it happens does.

**The test.** Each calibration gives a vantage at most one trial for each `Stratum`: one exchange, chosen by a keyed
hash, of those that the target answered or would have. Under H0, "an honest probe whose path loses at most l", it fails
with chance at most l, whatever happened before. Against it stands every failure rate q in (l, 1], evenly weighted:

    E(n, k) = 1/(1-l) * integral over q in (l, 1] of (q/l)^k * ((1-q)/(1-l))^(n-k)

E is a non-negative supermartingale under H0 (each factor has expectation at most 1), so by Ville's inequality it ever
reaches 1/a with chance at most a, whenever one stops looking (Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform,
nonparametric, nonasymptotic confidence sequences", Annals of Statistics 2021). One trial a calibration, and not one an
exchange, because losses come in bursts: a path that is down for a minute is one failure.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from poolproof.capture import UnaskedKind
from poolproof.classify import answering_reply, classify_report, refusing_error
from poolproof.exchange import Exchange, Reply
from poolproof.job import Report
from poolproof.ntp import HEADER_BYTES
from poolproof.outcome import Outcome
from poolproof.policy import SECOND_NS, Policy

CLOCK_TOLERANCE_NS = SECOND_NS
"""Clocks of probes are good within 100 ms; a report whose times contradict the target's by more than this is untrue."""
_TRANSMIT = slice(40, 48)
_ORIGIN = slice(24, 32)


class Stratum(Enum):
    """Work that a probe can tell apart, and so may lie in differently. Each is tested by itself."""

    BASELINE = "baseline"
    """A baseline's series."""
    SERVED = "served"
    """A round, as one that shall be answered."""
    UNSERVED = "unserved"
    """A round, as one that shall not be: where an invented silence helps somebody who does not run the server."""
    WATCH = "watch"
    """The tripwire: what it must catch."""


class Finding(Enum):
    """What one reported exchange is, held against the truth."""

    TRUE = "true"
    """Nothing contradicts it."""
    INVENTED_ANSWER = "invented-answer"
    """An answer to our random bits that the target never sent."""
    INVENTED_REFUSAL = "invented-refusal"
    """An ICMP refusal of a packet that the target received."""
    OTHER_SOURCE = "other-source"
    """The target got the request from another address than the report says: what owners are told would be untrue."""
    MISSING = "missing"
    """The target answered, or would have, and the report has no answer: lost, or hidden, or never asked."""
    IMPOSSIBLE_TIME = "impossible-time"
    """An answer before it was sent, or a request after it was received."""
    NOT_COUNTED = "not-counted"
    """The probe itself failed, so that nothing is claimed."""

    @property
    def is_impossible(self) -> bool:
        """Whether no honest probe on an honest path ever reports it."""
        return self in (Finding.INVENTED_ANSWER, Finding.INVENTED_REFUSAL, Finding.OTHER_SOURCE)


@dataclass(frozen=True, slots=True)
class Heard:
    """One request that a calibration target received.

    Attributes:
        source: where it came from.
        received_at_ns: when, by the target's clock.
        answer: the bytes that were sent back; empty: none.
        answered_at_ns: when they were; 0: not.
    """

    source: str
    received_at_ns: int
    answer: bytes = b""
    answered_at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Stray:
    """One packet that a calibration target sent to somebody who had not asked for it, as a flooded server does.

    Attributes:
        destination: a vantage's address.
        sent_at_ns: when, by the target's clock.
        payload: of UDP.
    """

    destination: str
    sent_at_ns: int
    payload: bytes


Truth = Mapping[bytes, Sequence[Heard]]
"""All that a target received, by the 8 bytes of the requests' transmit timestamps."""


def examine(exchange: Exchange, outcome: Outcome, heard: Sequence[Heard], *, meant: bool) -> Finding:
    """What one exchange of a report is.

    Args:
        exchange: as reported.
        outcome: what it was classified as.
        heard: all that the target received with this exchange's transmit timestamp.
        meant: the target would have answered it, had it come.
    """
    echoing = [reply for reply in exchange.replies if _echoes(reply, exchange)]
    ours = [each for each in heard if each.source == exchange.source]
    sent = {each.answer for each in heard if each.answer}
    if any(reply.payload not in sent for reply in echoing):
        return Finding.INVENTED_ANSWER
    if heard and not ours:
        return Finding.OTHER_SOURCE
    if ours and refusing_error(exchange) is not None:
        return Finding.INVENTED_REFUSAL
    if _contradicts(exchange, echoing, ours):
        return Finding.IMPOSSIBLE_TIME
    if outcome is Outcome.PROBE_FAILED:
        return Finding.NOT_COUNTED
    answered = any(each.answer for each in ours)
    expected = answered or (meant and not ours)
    return Finding.MISSING if expected and answering_reply(exchange) is None else Finding.TRUE


def examine_report(report: Report, truth: Truth, meant: Sequence[bool]) -> tuple[Finding, ...]:
    """One finding for each exchange of a report, in order.

    Args:
        report: as it came.
        truth: all that the target received.
        meant: for each exchange, whether the target would have answered it.
    """
    return tuple(
        examine(exchange, outcome, truth.get(exchange.request[_TRANSMIT], ()), meant=would)
        for exchange, outcome, would in zip(report.exchanges, classify_report(report), meant, strict=True)
    )


def _echoes(reply: Reply, exchange: Exchange) -> bool:
    origin = reply.payload[_ORIGIN]
    return len(reply.payload) >= HEADER_BYTES and any(origin) and origin == exchange.request[_TRANSMIT]


def _contradicts(exchange: Exchange, echoing: Iterable[Reply], ours: Iterable[Heard]) -> bool:
    """Whether the times that are reported cannot be; of several copies of a packet the first one counts."""
    arrived = [each.received_at_ns for each in ours]
    if arrived and exchange.sent_at_ns > max(arrived) + CLOCK_TOLERANCE_NS:
        return True
    answered = {each.answer: each.answered_at_ns for each in ours if each.answer}
    return any(
        reply.received_at_ns < answered[reply.payload] - CLOCK_TOLERANCE_NS
        for reply in echoing
        if reply.payload in answered
    )


@dataclass(frozen=True, slots=True)
class Examined:
    """One reported exchange of a calibration.

    Attributes:
        label: names it, for the draw and for people: its job and its place in it.
        finding: what it is.
        open: the target answered it, or would have, and the probe does not say that it failed itself: it can be a
            trial.
    """

    label: str
    finding: Finding
    open: bool

    @property
    def failed(self) -> bool:
        """Whether it is a failure as a trial."""
        return self.finding is not Finding.TRUE


def opens_trial(exchange: Exchange, finding: Finding, truth: Truth, *, meant: bool) -> bool:
    """Whether an exchange can be a trial: answered, or lost on its way to a target that would have."""
    if finding is Finding.NOT_COUNTED:
        return False
    heard = truth.get(exchange.request[_TRANSMIT], ())
    return any(each.answer for each in heard) if heard else meant


def examine_watch(report: Report, strays: Iterable[Stray]) -> Examined:
    """Whether one report's tripwire caught what it must have.

    What it says to have caught beyond that is held against nobody: whoever knows the target's address, another probe
    for one, can send packets in its name.

    Args:
        report: its capture goes from when the tripwire was armed to the report's end.
        strays: all that the target sent to this vantage unasked.
    """
    label, capture = f"{report.job} watch", report.capture
    if capture is None or capture.lost:
        return Examined(label, Finding.NOT_COUNTED, False)
    due = {
        each.payload
        for each in strays
        if capture.since_ns + CLOCK_TOLERANCE_NS <= each.sent_at_ns <= capture.until_ns - CLOCK_TOLERANCE_NS
    }
    caught = {each.payload for each in capture.unasked if each.kind is UnaskedKind.UDP}
    if len(capture.unasked) < capture.unasked_total and not due <= caught:
        # More came than a report has room for: it may be among the others.
        return Examined(label, Finding.NOT_COUNTED, False)
    return Examined(label, Finding.TRUE if due <= caught else Finding.MISSING, bool(due))


def trial(examined: Sequence[Examined], key: bytes) -> Examined | None:
    """The one exchange that counts, drawn with a key that probes do not have; None if there is none to draw."""
    able = [each for each in examined if each.open]
    return min(able, key=lambda each: hmac.digest(key, each.label.encode(), "sha256"), default=None)


def target_was_well(others: Iterable[Examined]) -> bool:
    """Whether other vantages saw the target as it was: where half of them did not, it or its network had a failure.

    Args:
        others: exchanges of all other vantages, in the same part of the same calibration.
    """
    able = [each for each in others if each.open]
    return bool(able) and 2 * sum(each.failed for each in able) < len(able)


def evidence(trials: int, failures: int, loss: float) -> float:
    """ln E(n, k), in nats: the odds that the probe, or its path, fails more often than `loss`.

    With F the binomial distribution function, the integral is B(k+1, n-k+1) * F(k; n+1, l) (DLMF 8.17.5).

    Args:
        trials: n.
        failures: k, at most n.
        loss: l, the most that an honest one fails; above 0 and below 1.

    Raises:
        ValueError: more failures than trials, or fewer than none.
    """
    if not 0 <= failures <= trials:
        raise ValueError(f"failures {failures} of {trials}: give 0 to {trials}")
    beta = math.lgamma(failures + 1) + math.lgamma(trials - failures + 1) - math.lgamma(trials + 2)
    odds = failures * math.log(loss) + (trials - failures + 1) * math.log1p(-loss)
    return beta + _log_binomial_cdf(failures, trials + 1, loss) - odds


def _log_binomial_cdf(most: int, trials: int, chance: float) -> float:
    """ln P(X <= most), from its largest term downwards so that nothing underflows."""
    odds = math.log(chance) - math.log1p(-chance)
    head = math.lgamma(trials + 1) + trials * math.log1p(-chance)
    terms = [head - math.lgamma(j + 1) - math.lgamma(trials - j + 1) + j * odds for j in range(most + 1)]
    top = max(terms)
    return min(0.0, top + math.log(math.fsum(math.exp(term - top) for term in terms)))


def needed(policy: Policy) -> float:
    """Nats at which a vantage is quarantined: the strata share alpha."""
    return math.log(len(Stratum) / policy.alpha_quarantine)
