"""Verdicts and their reasons: a closed vocabulary. A verdict is never a bool."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from poolproof.challenge import Observation, Scope
from poolproof.fleet import Perspective
from poolproof.policy import Assurance


class Reason(Enum):
    """Why a verdict is what it is. `explain` has a sentence for each."""

    PATTERN_FOLLOWED = "pattern-followed"
    """The target did what was asked, where it was asked, often enough."""
    ANSWERED_WHERE_SILENCE_WAS_ASKED = "answered-where-silence-was-asked"
    """A must-be-silent perspective was answered after the settle time."""
    TARGET_DOWN = "target-down"
    """No monitor was answered in the latest round."""
    MONITORS_BELOW_QUORUM = "monitors-below-quorum"
    """Too few monitors were answered in the latest round."""
    WITNESSES_NOT_SERVED = "witnesses-not-served"
    """`block`: the monitors were answered and the undisclosed witnesses were not."""
    REPORT_MISSING = "report-missing"
    """A probe that was asked has not accounted for its exchange."""
    PROBES_FAILED = "probes-failed"
    """Must-be-silent probes failed by themselves, so that their silence counts for nothing."""
    MORE_ROUNDS_NEEDED = "more-rounds-needed"
    """Nothing speaks against a proof; the evidence does not yet suffice."""
    TOO_LITTLE_EVIDENCE = "too-little-evidence"
    """All rounds are done and the evidence does not suffice."""
    TOO_FEW_VANTAGES = "too-few-vantages"
    """The fleet has too few vantages for this target, or too few got an answer in the baseline."""
    BASELINE_UNANSWERED = "baseline-unanswered"
    """The target answered (almost) nobody before the challenge."""
    NOT_STARTED = "not-started"
    """Nothing has been measured yet."""
    NOT_READY_IN_TIME = "not-ready-in-time"
    """The owner did not say "ready" within the window."""
    WITHDRAWN = "withdrawn"
    """The applicant took the request back."""
    BACKSCATTER = "backscatter"
    """The target sent packets to a must-be-silent perspective that nobody there had asked for: somebody sends it
    packets in that perspective's name, which can silence an address as an owner can."""


class Ceiling(Enum):
    """What sets the assurance of a proof."""

    REFUSALS = "refusals"
    """Refusals that quote our packets: nobody off the path can forge them."""
    WITNESSES = "witnesses"
    """Silence at addresses that nobody was told."""
    PREFIX = "prefix"
    """Silence at random addresses of disclosed prefixes."""
    MIXED = "mixed"
    """Several of these together."""
    FORGEABLE_SILENCE = "forgeable-silence"
    """Silence at disclosed single addresses, which a spoofed flood can bring about: never more than medium."""
    CHANCE = "chance"
    """The cohort is too small or too close together for better odds."""
    UNWATCHED = "unwatched"
    """Some probes had no tripwire, so that nobody looked for the backscatter of a flood there."""
    DOUBTFUL_REFUSALS = "doubtful-refusals"
    """Refusals that quote our packets, but not in the two ways that were asked for: a rate limiter that rejects has one
    way to refuse, and a flood can make it refuse whomever one likes."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a verdict rests on, in numbers that people check.

    Attributes:
        rounds: rounds fired.
        counted: rounds that counted.
        monitors_answered, monitors: fewest monitors answered in a counted round, and how many there are.
        silent, must_be_silent: must-be-silent perspectives with counted evidence and no answer, and how many there are.
        rirs: registries spanned by the perspectives that counted.
        evidence: nats against "nobody did it".
        unforgeable: the part of it that no off-path attacker can bring about.
        needed: nats needed for `aim`.
        bound: chance that a verdict on this evidence is wrong, over all attempts; 1.0 when there is no evidence.
    """

    rounds: int
    counted: int
    monitors_answered: int
    monitors: int
    silent: int
    must_be_silent: int
    rirs: int
    evidence: float
    unforgeable: float
    needed: float
    bound: float


@dataclass(frozen=True, slots=True)
class ControlProven:
    """The applicant controls the target."""

    reason: Reason
    assurance: Assurance
    ceiling: Ceiling
    scope: Scope
    tally: Tally


@dataclass(frozen=True, slots=True)
class ControlRefuted:
    """The target did not do what was asked; `perspective` and `sighting` show the packet that says so."""

    reason: Reason
    perspective: Perspective
    sighting: Observation
    tally: Tally


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """Neither; `perspectives` are those that the reason is about."""

    reason: Reason
    perspectives: tuple[Perspective, ...]
    tally: Tally


Verdict = ControlProven | ControlRefuted | Inconclusive

NOTHING = Tally(0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 1.0)
"""The tally before anything was measured."""
