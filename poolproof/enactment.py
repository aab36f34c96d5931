"""The owner of a calibration target: what it does, and whom its server answers. All drawn with a key, all pure.

A probe must not be able to tell such an owner from a real one, so everything that it could see is drawn as it might be
with people: they do all that was asked, a part of it, or nothing; the server goes down, or never answered; some
addresses never get an answer from it; "ready" takes its time.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import assert_never

from poolproof.challenge import Challenge, Expectation
from poolproof.fleet import Role
from poolproof.ids import VantageId, VerificationId
from poolproof.policy import SECOND_NS, Policy
from poolproof.serving import Behaviour, Refusal
from poolproof.target import within
from poolproof.variant import Variant


class Mode(Enum):
    """What the owner of a calibration target does."""

    WHOLE = "whole"
    """All of the challenge."""
    PART = "part"
    """Blocks each of those that it should block with chance 1/2."""
    NOTHING = "nothing"
    """Says "ready" and goes on answering everybody."""
    DOWN = "down"
    """Is answered in the baseline, and nobody is after "ready"."""
    DARK = "dark"
    """Answers nobody from the beginning."""


MODES: dict[Mode, Fraction] = {
    Mode.WHOLE: Fraction(15, 100),
    Mode.PART: Fraction(25, 100),
    Mode.NOTHING: Fraction(45, 100),
    Mode.DOWN: Fraction(5, 100),
    Mode.DARK: Fraction(10, 100),
}
"""How often each is drawn. NOTHING and PART often, because only there a probe that must get no answer gets one, and can
hide it."""
UNREACHED = Fraction(1, 16)
"""Of the vantages, those that a calibration target never answers, as if their country or network were filtered."""
DENIES = Fraction(1, 8)
"""Of the owners, those who refuse with DENY (RFC 5905 §7.4) instead of dropping."""
STRAYS = Fraction(1, 32)
"""Of the vantages with a role, those to which the target sends a packet that they did not ask for, as a server does
that somebody floods in their name."""
TRIES_AGAIN = Fraction(1, 3)
"""Of the owners who got no proof, those who try once more."""
MOST_ATTEMPTS = 4
_SHORTEST_READY = Fraction(1, 40)
"""The quickest owner says "ready" after this part of the longest time."""
_GIVES_UP_NS = (60 * SECOND_NS, 600 * SECOND_NS)
"""An owner takes the request back after so long without a verdict, from "ready" on."""


@dataclass(frozen=True, slots=True)
class Enactment:
    """What one calibration target and its owner do.

    Attributes:
        key: draws the rest; 32 secret bytes.
        mode: what the owner does.
        variant: of the challenge that it asks for.
        ready_after_ns: from the challenge to "ready".
        gives_up_after_ns: from "ready" to the withdrawal of a request that has no verdict.
        again_after_ns: if there is no proof, how long after the pause the next attempt begins; None: never.
    """

    key: bytes
    mode: Mode
    variant: Variant
    ready_after_ns: int
    gives_up_after_ns: int
    again_after_ns: int | None


def draw_enactment(draw_key: bytes, calibration: VerificationId, attempt: int, policy: Policy) -> Enactment:
    """What the owner does in one attempt of a calibration; the same arguments always give the same.

    Args:
        draw_key: the coordinator's secret.
        calibration: of which verification.
        attempt: which attempt, from 1.
        policy: how long people take.
    """
    key = hmac.digest(draw_key, f"calibration/{calibration}/{attempt}".encode(), "sha256")

    def time_ns(label: str) -> int:
        # Uniform on a scale of ratios: people are done in a minute, or in many.
        return int(float(policy.calibration_ready_ns) * float(_SHORTEST_READY) ** float(_share(key, label)))

    low, high = _GIVES_UP_NS
    again = attempt < MOST_ATTEMPTS and _share(key, "again") < TRIES_AGAIN
    return Enactment(
        key=key,
        mode=_mode(_share(key, "mode")),
        variant=Variant.BLOCK if _share(key, "variant") < Fraction(1, 2) else Variant.ALLOW_ONLY,
        ready_after_ns=time_ns("ready"),
        gives_up_after_ns=low + int((high - low) * _share(key, "gives-up")),
        again_after_ns=time_ns("again-after") if again else None,
    )


def draw_looks(draw_key: bytes, address: str) -> Behaviour:
    """How the server at one address looks: an ordinary one, as chrony on a virtual machine. No two look the same, and
    one looks the same in all its calibrations.
    """
    key = hmac.digest(draw_key, f"looks/{address}".encode(), "sha256")

    def between(label: str, low: int, high: int) -> int:
        return low + int((high - low + 1) * _share(key, label))

    upstream = hmac.digest(key, b"refid", "sha256")
    return Behaviour(
        refusal=Refusal.DENY if _share(key, "denies") < DENIES else Refusal.SILENCE,
        stratum=2 if _share(key, "stratum") < Fraction(3, 4) else 3,
        refid=bytes((1 + upstream[0] % 222, *upstream[1:4])),
        precision=between("precision", -25, -22),
        root_delay=between("delay", 60, 2600),
        root_dispersion=between("dispersion", 10, 400),
        reference_age_ns=between("age", 1, 900) * SECOND_NS,
    )


def serves(
    enactment: Enactment, challenge: Challenge | None, vantage: VantageId | None, source: str, *, enacted: bool
) -> bool:
    """Whether the target answers somebody.

    Args:
        enactment: the owner's.
        challenge: what it was asked to do; None before it was.
        vantage: who asks; None: somebody who is no vantage.
        source: the address that they ask from.
        enacted: the owner has done what it does.
    """
    if enactment.mode is Mode.DARK:
        return False
    if vantage is not None and _share(enactment.key, f"unreached/{vantage}") < UNREACHED:
        return False
    if challenge is None or not enacted:
        return True
    match enactment.mode:
        case Mode.NOTHING:
            return True
        case Mode.DOWN:
            return False
        case Mode.WHOLE:
            return not blocked(challenge, vantage, source)
        case Mode.PART:
            spared = _share(enactment.key, f"spared/{vantage}") < Fraction(1, 2)
            return spared or not blocked(challenge, vantage, source)
        case _:
            assert_never(enactment.mode)


def sends_stray(enactment: Enactment, vantage: VantageId) -> bool:
    """Whether the target sends this vantage a packet that it has not asked for, once the owner is ready."""
    return _share(enactment.key, f"stray/{vantage}") < STRAYS


def blocked(challenge: Challenge, vantage: VantageId | None, source: str) -> bool:
    """Whether an owner who does all that was asked blocks an address.

    Witnesses are told to nobody, and of a prefix the owner is told one half: the rest are strangers to it.
    """
    for row in challenge.rows:
        view = row.perspective
        if view.vantage == vantage and view.role is not Role.WITNESS and within(source, view.source):
            return Expectation.SILENCE in row.expected
    return challenge.variant is Variant.ALLOW_ONLY


def _share(key: bytes, label: str) -> Fraction:
    """A number from 0 up to 1, uniform to whoever has not the key."""
    return Fraction(int.from_bytes(hmac.digest(key, label.encode(), "sha256")[:8], "big"), 1 << 64)


def _mode(share: Fraction) -> Mode:
    for mode, weight in MODES.items():
        if share < weight:
            return mode
        share -= weight
    raise AssertionError("the weights of the modes do not sum to 1")
