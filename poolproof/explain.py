"""Verdicts in plain words: what was seen, where, when, what it means, and what the owner can do.

The applicant must not learn who the witnesses are: their perspectives are only named to operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from poolproof.challenge import Challenge, Expectation, Observation, Row
from poolproof.decide import decide
from poolproof.fleet import Perspective, Role
from poolproof.matrix import RoundState
from poolproof.outcome import Outcome
from poolproof.policy import Assurance, Policy
from poolproof.proof_words import counted_rounds, fraction, proven
from poolproof.utc import utc
from poolproof.variant import Variant
from poolproof.verdict import ControlProven, ControlRefuted, Inconclusive, Reason, Tally
from poolproof.verification import Attempt, State, Verification


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a verification stands where it stands.

    Attributes:
        headline: the verdict in a sentence: what was seen, where and when, and what it means.
        advice: what the owner can do now, in a sentence.
        counted: what is evidence, a line each.
        not_counted: what is none, and why, a line each.
    """

    headline: str
    advice: str
    counted: tuple[str, ...]
    not_counted: tuple[str, ...]


def explain(verification: Verification, policy: Policy, *, for_operator: bool = False) -> Explanation:
    """Explain where a verification stands.

    Args:
        verification: with its current attempt.
        policy: by which it is judged.
        for_operator: name the witnesses too.
    """
    attempt = verification.attempt
    words = _Words(for_operator)
    if attempt is None or attempt.challenge is None:
        return Explanation(*_without_challenge(verification), (), ())
    verdict = attempt.verdict
    match verdict:
        case ControlProven():
            headline, advice = proven(verification, attempt, verdict)
        case ControlRefuted():
            headline, advice = words.refuted(verification, verdict)
        case Inconclusive():
            headline, advice = words.inconclusive(verification, attempt, verdict)
        case _:
            assert_never(verdict)
    counted, not_counted = words.rounds(attempt, attempt.challenge, policy)
    return Explanation(headline, advice, counted, not_counted)


def _without_challenge(verification: Verification) -> tuple[str, str]:
    target, attempt = verification.target, verification.attempt
    if attempt is None or verification.state is State.REQUESTED:
        return f"Nothing has been asked of {target} yet.", "Wait: the baseline starts by itself."
    if verification.state is State.BASELINE:
        known, total = len(attempt.paths), len(attempt.candidates)
        return (
            f"The baseline of {target} is being measured: {known} of {total} vantages have reported.",
            "Wait: the instructions follow within a minute.",
        )
    match verification.verdict.reason:
        case Reason.BASELINE_UNANSWERED:
            answered = sum(entry.path is not None and entry.path.answered > 0 for entry in attempt.paths)
            return (
                f"{target} answered {answered} of {len(attempt.candidates)} vantages before the challenge "
                f"(from {utc(attempt.baseline_start_at_ns)}), so that its silence now would say nothing.",
                "See that the server answers NTP requests from everywhere, then run `poolproof retry`.",
            )
        case Reason.BACKSCATTER:
            flooded = sum(entry.path is not None and entry.path.unasked > 0 for entry in attempt.paths)
            return (
                f"{target} sent packets that nobody had asked for to {flooded} of {len(attempt.candidates)} vantages "
                f"before the challenge (from {utc(attempt.baseline_start_at_ns)}): somebody floods it in their names, "
                "so that its silence there would say nothing.",
                "Run `poolproof retry` when the flood is over, or choose a method that needs no silence.",
            )
        case Reason.TOO_FEW_VANTAGES:
            return (
                f"Too few vantages can look at {target} now ({len(attempt.candidates)} took part in the baseline): "
                "not even weak assurance is within their reach.",
                "Nothing is wrong with your server; try again later, or ask the operator for more vantages.",
            )
        case _:
            return f"The verification of {target} is {verification.state.value}.", "Request a new one if you need it."


class _Words:
    """Sentences about perspectives, with or without the witnesses' names."""

    def __init__(self, for_operator: bool) -> None:
        self._for_operator = for_operator

    def name(self, perspective: Perspective) -> str:
        if perspective.role is Role.WITNESS and not self._for_operator:
            return "an undisclosed witness"
        return f"{perspective.vantage} ({perspective.source}, AS{perspective.asn}, {perspective.rir.name})"

    def names(self, perspectives: tuple[Perspective, ...]) -> str:
        return ", ".join(dict.fromkeys(map(self.name, perspectives))) or "nobody in particular"

    def refuted(self, verification: Verification, verdict: ControlRefuted) -> tuple[str, str]:
        if verdict.reason is Reason.BACKSCATTER:
            return self.flooded(verification, verdict)
        seen, perspective = verdict.sighting, verdict.perspective
        hidden = perspective.role is Role.WITNESS and not self._for_operator
        source = "" if hidden or not seen.source else f" from {seen.source}"
        headline = (
            f"{verification.target} answered {self.name(perspective)} in round {seen.round + 1}, where it should have "
            f"been silent: the request of {utc(seen.sent_at_ns)}{source} got {_article(seen.outcome)} "
            f"at {utc(seen.received_at_ns)}{_packet(seen)}. So the challenge was not enacted there."
        )
        if verification.variant is Variant.ALLOW_ONLY:
            advice = (
                "See that only the assigned monitors are answered, in this address family too, and that the "
                "configuration was reloaded; then run `poolproof retry`."
            )
        else:
            advice = (
                f"See that the rule for {perspective.source} is in place, in this address family too, and that the "
                "configuration was reloaded; then run `poolproof retry`, which assigns new addresses."
            )
        return headline, advice

    def flooded(self, verification: Verification, verdict: ControlRefuted) -> tuple[str, str]:
        """Packets that nobody asked for: what a flood in a perspective's name leaves at that perspective."""
        seen, perspective = verdict.sighting, verdict.perspective
        hidden = perspective.role is Role.WITNESS and not self._for_operator
        # An ICMP error quotes the packet that it is about, with the witness's address in it.
        packet = "" if hidden else _packet(seen)
        headline = (
            f"{verification.target} sent {self.name(perspective)} {_packets(seen.unasked_total)} that nobody there had "
            f"asked for, the first at {utc(seen.received_at_ns)}{packet}: somebody sends the server requests in that "
            "address's name, and a flood can silence an address as an owner can, so that its silence proves nothing."
        )
        advice = (
            "If you did not send them, somebody else forges packets to your server: run `poolproof retry`, which "
            "assigns new addresses, and reject instead of drop, or request the variant `allow-only`."
        )
        return headline, advice

    def inconclusive(self, verification: Verification, attempt: Attempt, verdict: Inconclusive) -> tuple[str, str]:
        target, tally = verification.target, verdict.tally
        who = self.names(verdict.perspectives)
        when = utc(attempt.rounds[-1].start_at_ns) if attempt.rounds else utc(attempt.challenged_at_ns)
        goes_on = verification.state.is_open
        match verdict.reason:
            case Reason.NOT_STARTED:
                return (
                    f"The challenge for {target} is set since {utc(attempt.challenged_at_ns)}; no round was made yet.",
                    f"Carry out `poolproof instructions {verification.id}`, then `poolproof ready {verification.id}`.",
                )
            case Reason.TARGET_DOWN:
                return (
                    f"{target} answered none of its {tally.monitors} monitors in the round of {when}: it seems to be "
                    "down, and a server that is down proves nothing.",
                    "Start the server again; "
                    + ("measuring goes on by itself." if goes_on else "then run `poolproof retry`."),
                )
            case Reason.MONITORS_BELOW_QUORUM:
                return (
                    f"In the round of {when} {target} did not answer {who}, which it should answer: "
                    "too few monitors were answered for the round to count.",
                    "See that the assigned monitors are not blocked; "
                    + ("measuring goes on by itself." if goes_on else "then run `poolproof retry`."),
                )
            case Reason.WITNESSES_NOT_SERVED:
                return (
                    f"In the round of {when} {target} answered its monitors and no undisclosed witness: it seems to "
                    "answer nobody else, so that the silence at the verifiers says nothing.",
                    "Block the assigned verifiers only; for a server not yet in service request the variant "
                    "`allow-only`.",
                )
            case Reason.REPORT_MISSING:
                return (
                    f"{who} was asked in a round up to {when} and has not reported what it saw: "
                    "a probe that cannot be heard is no silence of the server.",
                    "Nothing is wrong with your server; "
                    + ("we wait for the probe." if goes_on else "run `poolproof retry`, which draws other probes."),
                )
            case Reason.PROBES_FAILED:
                return (
                    f"Up to {when} the probes of {who} failed by themselves (no answer from their own control servers, "
                    f"or a wrong clock): their silence says nothing about {target}.",
                    "Nothing is wrong with your server; "
                    + ("measuring goes on." if goes_on else "run `poolproof retry`, which draws other probes."),
                )
            case Reason.MORE_ROUNDS_NEEDED:
                return (
                    f"All is as it should be at {target} up to {when}: evidence {tally.evidence:.1f} of "
                    f"{tally.needed:.1f} after {counted_rounds(tally.counted)}.",
                    "Wait and leave the configuration as it is: more rounds follow by themselves.",
                )
            case Reason.TOO_LITTLE_EVIDENCE:
                return (
                    f"After {counted_rounds(tally.counted)} up to {when} the evidence for {target} is "
                    f"{tally.evidence:.1f} of "
                    f"{tally.needed:.1f}: the paths lose too much, or too few vantages looked on, to exclude luck.",
                    "Run `poolproof retry` at a quieter time, or choose a method that needs no silence.",
                )
            case Reason.NOT_READY_IN_TIME:
                return (
                    f"Nobody said ready for {target} in the time allowed after {utc(attempt.challenged_at_ns)}.",
                    "Run `poolproof retry` for a new challenge.",
                )
            case Reason.WITHDRAWN:
                return (
                    f"The request for {target} was withdrawn at {utc(attempt.concluded_at_ns)}.",
                    "Remove what you configured for it; request again when you like.",
                )
            case (
                Reason.PATTERN_FOLLOWED
                | Reason.ANSWERED_WHERE_SILENCE_WAS_ASKED
                | Reason.TOO_FEW_VANTAGES
                | Reason.BASELINE_UNANSWERED
                | Reason.BACKSCATTER
            ):
                raise AssertionError(f"{verdict.reason} is no reason for an open question once there is a challenge")
            case _:
                assert_never(verdict.reason)

    def rounds(self, attempt: Attempt, challenge: Challenge, policy: Policy) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What counted and what did not: rounds, and the exchanges in them that are no evidence."""
        states = decide(challenge, attempt.rounds, attempt.observations, attempt.number, policy).rounds
        counted = [_round_line(state, attempt) for state in states if state.reason is None]
        left_out = [
            f"{_round_line(state, attempt)}: {_WHY_NOT[state.reason]}" for state in states if state.reason is not None
        ]
        for i, row in enumerate(challenge.rows):
            left_out += self._failures(row, [seen for seen in attempt.observations if seen.row == i])
        known = {row.perspective.vantage for row in challenge.rows}
        for entry in attempt.paths:
            if self._for_operator and entry.vantage not in known:
                said = (
                    "could not be asked" if entry.path is None else f"answered {entry.path.answered}/{entry.path.asked}"
                )
                left_out.append(f"{entry.vantage}: took no part after the baseline ({said})")
        return tuple(counted), tuple(left_out)

    def _failures(self, row: Row, seen: list[Observation]) -> list[str]:
        silent = Expectation.SILENCE in row.expected
        lines = []
        for outcome, why in _NO_EVIDENCE.items():
            numbers = [str(observation.round + 1) for observation in seen if observation.outcome is outcome]
            if numbers and (silent or outcome is not Outcome.MALFORMED):
                lines.append(f"{self.name(row.perspective)}, round {', '.join(numbers)}: {why}")
        return lines


_WHY_NOT: dict[Reason, str] = {
    Reason.TARGET_DOWN: "the target answered no monitor",
    Reason.MONITORS_BELOW_QUORUM: "too few monitors were answered",
    Reason.WITNESSES_NOT_SERVED: "no witness was answered",
    Reason.REPORT_MISSING: "a probe has not reported",
    Reason.PROBES_FAILED: "the probes that should be answered failed by themselves",
}
_NO_EVIDENCE: dict[Outcome, str] = {
    Outcome.PROBE_FAILED: "the probe failed by itself; its silence says nothing about the target",
    Outcome.MALFORMED: "something came that does not answer our packet; it is neither silence nor an answer",
}


def _round_line(state: RoundState, attempt: Attempt) -> str:
    fired = attempt.rounds[state.number]
    served = f"{fraction(state.served, state.monitors)} monitors answered"
    return f"round {state.number + 1} of {utc(fired.start_at_ns)}, {served}"


def _packets(count: int) -> str:
    return f"{count} packet{'' if count == 1 else 's'}"


def _packet(seen: Observation) -> str:
    return f" (packet {seen.packet.hex()})" if seen.packet else ""


def _article(outcome: Outcome) -> str:
    match outcome:
        case Outcome.REPLIED:
            return "a reply"
        case Outcome.UNSYNCHRONISED:
            return "a reply of an unsynchronised server"
        case Outcome.RATE_LIMITED:
            return "a rate-limiting answer"
        case Outcome.LATE:
            return "a late reply"
        case Outcome.REFUSED | Outcome.SILENT | Outcome.MALFORMED | Outcome.PROBE_FAILED:
            return f"what we call {outcome.value}"
        case _:
            assert_never(outcome)


def summary(tally: Tally, assurance: Assurance | None) -> str:
    """A verdict's numbers in one line, as tables show them."""
    worth = f", {assurance.name.lower()}" if assurance is not None else ""
    return (
        f"allowed {fraction(tally.monitors_answered, tally.monitors)}, "
        f"blocked {fraction(tally.silent, tally.must_be_silent)}, {tally.rirs} RIRs, bound {tally.bound:.1g}{worth}"
    )
