"""Proofs in plain words: what was seen, what it is worth and why, and what would have made it worth more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from poolproof.challenge import Row
from poolproof.instructions.firewall import IPTABLES_REJECT
from poolproof.refusal import ASKED_FOR
from poolproof.target import Family, Target
from poolproof.utc import utc
from poolproof.verdict import Ceiling, ControlProven
from poolproof.verification import Attempt, Verification


def assurance_note(verdict: ControlProven) -> str:
    """Why a proof is worth what it is worth, and what would make it worth more."""
    match verdict.ceiling:
        case Ceiling.REFUSALS:
            return "strong: the refusals quote our own packets, which nobody off the path can forge."
        case Ceiling.WITNESSES:
            return "strong: the silence was seen from addresses that nobody was told."
        case Ceiling.PREFIX:
            return "strong: the silence was seen at random addresses of the disclosed IPv6 prefixes."
        case Ceiling.MIXED:
            return "strong: refusals that quote our packets, and silence at addresses that nobody could foresee."
        case Ceiling.FORGEABLE_SILENCE:
            return (
                f"{verdict.assurance.name.lower()}: silence at disclosed addresses could be brought about by a flood "
                "of packets that bear them; a firewall rule that rejects instead of drops makes it strong."
            )
        case Ceiling.DOUBTFUL_REFUSALS:
            return (
                f"{verdict.assurance.name.lower()}: the refusals quote our packets, but not in the two ways that were "
                "asked for, and a flood can make a rate limiter that rejects refuse anybody in its one way; each "
                "verifier refused in its own way makes it strong."
            )
        case Ceiling.UNWATCHED:
            return (
                f"{verdict.assurance.name.lower()}: some of the probes that had to be left unanswered have no "
                "tripwire, so that nobody looked there for the traces of a flood; their operators can give them "
                "CAP_NET_RAW."
            )
        case Ceiling.CHANCE:
            return (
                f"{verdict.assurance.name.lower()}: too few independent networks looked on for better odds than "
                f"{verdict.tally.bound:.1g}."
            )
        case _:
            assert_never(verdict.ceiling)


def proven(verification: Verification, attempt: Attempt, verdict: ControlProven) -> tuple[str, str]:
    """A proof in a sentence, and what the owner can do now."""
    tally = verdict.tally
    headline = (
        f"Control of {verification.target} is proven: in {counted_rounds(tally.counted)} up to "
        f"{utc(attempt.concluded_at_ns)}, "
        f"{fraction(tally.monitors_answered, tally.monitors)} monitors were answered and "
        f"{fraction(tally.silent, tally.must_be_silent)} perspectives that had to be left unanswered were, seen from "
        f"{tally.rirs} registries; the chance that this is luck is under {tally.bound:.1g}. "
        f"Assurance {assurance_note(verdict)}"
    )
    advice = "Remove the configuration again: `poolproof instructions` shows how to undo it."
    if verdict.ceiling in (Ceiling.FORGEABLE_SILENCE, Ceiling.DOUBTFUL_REFUSALS) and attempt.challenge is not None:
        line = _rejecting(verification.target, attempt.challenge.rows)
        advice += f" One line more would have made it strong: `{line}`; the next request's instructions show its own."
    return headline, advice


def _rejecting(target: Target, rows: Sequence[Row]) -> str:
    """The one line that refuses each verifier in its own way, whatever else blocks."""
    program = "iptables" if target.family is Family.IPV4 else "ip6tables"
    return " && ".join(
        f"{program} -I INPUT -p udp --dport {target.port} -s {','.join(sources)}"
        f" -j REJECT --reject-with {IPTABLES_REJECT[target.family, kind]}"
        for kind in ASKED_FOR
        if (sources := [row.perspective.source for row in rows if row.refusal is kind])
    )


def counted_rounds(counted: int) -> str:
    """Like "3 counted rounds"."""
    return f"{counted} counted round{'' if counted == 1 else 's'}"


def fraction(some: int, of: int) -> str:
    """Like "4/5"."""
    return f"{some}/{of}"
