"""Policies: every number that a verdict depends on, dated, so that old evidence can be judged by the rule of its day.

A policy is data of the operator. Nothing in a request can change it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from poolproof.ids import PolicyId

SECOND_NS = 1_000_000_000


class Assurance(IntEnum):
    """What a proof is worth; ordered, so that the weaker of two is their minimum."""

    WEAK = 1
    MEDIUM = 2
    STRONG = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers of one dated policy. Probabilities are in 0..1, times in ns.

    Attributes:
        id: date of the policy.
        alpha_strong, alpha_medium, alpha_weak: chance of a false proof, over all attempts on a target, per assurance.
        dark_path: chance that a path goes dark by itself between baseline and verdict (`p` of the design).
        refusing_path: chance that something on a path starts by itself to refuse our packets with ICMP that
            quotes them.
        common_cut: chance that between baseline and verdict one event cuts the target off from many failure domains
            together, and from just as many as are to be silent: 1e-3 for the event, 1/4 for its size.
        common_refusal: the same for an event that refuses (a filter that begins to reject part of the Internet).
        loss_floor: no path is believed to lose less than this.
        enacted_error: chance that an exchange with a server that blocks us does not look blocked (`e` of the design).
        loss_confidence: confidence of the upper bound on a path's loss that the baseline gives (Clopper-Pearson).
        expected_loss: loss that an honest owner's monitors are expected to see; only the power depends on it.
        monitors, must_be_silent, witnesses: size of the cohort per role on a first attempt; for `allow-only` all but
            the monitors are witnesses that must be silent.
        spares: further vantages asked in the baseline, to stand in for those that get no answer.
        min_rirs: registries that monitors, and must-be-silent perspectives, have to span for strong assurance.
        min_rounds: counted rounds before anything is proven, however much evidence one round gives.
        max_rounds: counted rounds after which an attempt ends without proof.
        baseline_exchanges, baseline_spacing_ns: the baseline's short series, within every known daemon's rate limit.
        baseline_min_answers: answers that a perspective needs in the baseline to take part.
        prefix_burst, prefix_burst_spacing_ns: exchanges from one address of a prefix that must not silence another.
        lead_ns: from lease to first packet; leaves time for the control servers.
        settle_ns: from the owner's "ready" to the first packet that counts.
        round_spacing_ns: between rounds; never refused by any known daemon (8 s).
        max_round_spacing_ns: limit of the growing pause while a target does not answer its monitors.
        timeout_ns: an answer later than this is late.
        linger_ns: how long after that late answers are collected.
        report_grace_ns: how long after a round a report may be missing before the next round starts without it.
        missing_grace_ns: how long an attempt that only lacks reports waits for them.
        ready_window_ns: how long the owner has to say "ready".
        measuring_window_ns: how long an attempt may measure.
        retry_spacing_ns: pause before the second attempt; doubles with each.
        calibration_rate: calibrations begun per attempt of an applicant.
        calibration_idle_ns: so long after the last one another calibration begins, if no applicant does anything.
        calibration_ready_ns: the longest that a calibration's owner takes to say "ready".
        calibration_loss: an honest probe's path loses at most this on its way to a calibration target and back.
        alpha_quarantine: chance that an honest probe is ever quarantined for missing answers.
    """

    id: PolicyId
    alpha_strong: float
    alpha_medium: float
    alpha_weak: float
    dark_path: float
    refusing_path: float
    common_cut: float
    common_refusal: float
    loss_floor: float
    enacted_error: float
    loss_confidence: float
    expected_loss: float
    monitors: int
    must_be_silent: int
    witnesses: int
    spares: int
    min_rirs: int
    min_rounds: int
    max_rounds: int
    baseline_exchanges: int
    baseline_spacing_ns: int
    baseline_min_answers: int
    prefix_burst: int
    prefix_burst_spacing_ns: int
    lead_ns: int
    settle_ns: int
    round_spacing_ns: int
    max_round_spacing_ns: int
    timeout_ns: int
    linger_ns: int
    report_grace_ns: int
    missing_grace_ns: int
    ready_window_ns: int
    measuring_window_ns: int
    retry_spacing_ns: int
    calibration_rate: float
    calibration_idle_ns: int
    calibration_ready_ns: int
    calibration_loss: float
    alpha_quarantine: float

    def alpha(self, assurance: Assurance) -> float:
        """The error budget of an assurance, over all attempts."""
        match assurance:
            case Assurance.STRONG:
                return self.alpha_strong
            case Assurance.MEDIUM:
                return self.alpha_medium
            case Assurance.WEAK:
                return self.alpha_weak

    def threshold(self, assurance: Assurance, attempt: int) -> float:
        """Evidence in nats that attempt number `attempt` needs: ln(1 / alpha_k), alpha_k = alpha * 6 / (pi k)^2.

        The series of alpha_k sums to alpha (Basel problem), so an applicant may try for ever.

        Raises:
            ValueError: attempts are counted from 1.
        """
        if attempt < 1:
            raise ValueError(f"attempt {attempt}: attempts are counted from 1")
        return _threshold(self.alpha(assurance), attempt)

    @property
    def most_per_domain(self) -> float:
        """Nats that the silence of one failure domain gives at most: it may have gone dark by itself."""
        return -math.log(self.dark_path)

    @property
    def most_per_refusing_domain(self) -> float:
        """Nats that one refusing failure domain gives: something on its path may have begun to refuse by itself."""
        return -math.log(self.refusing_path)


@lru_cache(maxsize=1024)
def _threshold(alpha: float, attempt: int) -> float:
    return -math.log(alpha) + spent(attempt)


def spent(attempt: int) -> float:
    """Nats that attempt number `attempt` must add because earlier and later attempts share the error budget."""
    return math.log(math.pi**2 * attempt**2 / 6)


POLICY_2026_11 = Policy(
    id=PolicyId("2026-11"),
    alpha_strong=1e-6,
    alpha_medium=1e-4,
    alpha_weak=1e-3,
    dark_path=0.01,
    refusing_path=0.001,
    common_cut=2.5e-4,
    common_refusal=2.5e-5,
    loss_floor=0.02,
    enacted_error=0.001,
    loss_confidence=0.65,
    expected_loss=0.05,
    monitors=5,
    must_be_silent=5,
    witnesses=3,
    spares=2,
    min_rirs=2,
    min_rounds=2,
    max_rounds=12,
    baseline_exchanges=8,
    baseline_spacing_ns=2_100_000_000,
    baseline_min_answers=4,
    prefix_burst=6,
    prefix_burst_spacing_ns=SECOND_NS // 4,
    lead_ns=2 * SECOND_NS,
    settle_ns=5 * SECOND_NS,
    round_spacing_ns=8 * SECOND_NS,
    max_round_spacing_ns=300 * SECOND_NS,
    timeout_ns=1_500_000_000,
    linger_ns=2 * SECOND_NS,
    report_grace_ns=3 * SECOND_NS,
    missing_grace_ns=30 * SECOND_NS,
    ready_window_ns=48 * 3600 * SECOND_NS,
    measuring_window_ns=6 * 3600 * SECOND_NS,
    retry_spacing_ns=60 * SECOND_NS,
    calibration_rate=0.25,
    calibration_idle_ns=1800 * SECOND_NS,
    calibration_ready_ns=1200 * SECOND_NS,
    calibration_loss=0.05,
    alpha_quarantine=1e-3,
)

POLICIES: dict[PolicyId, Policy] = {POLICY_2026_11.id: POLICY_2026_11}
"""All policies ever used, by date; the newest is the last."""
