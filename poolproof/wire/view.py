"""A verification as people see it (proto/poolproof/v1/verification.proto). One way only: it says less than there is.

Witnesses are told to nobody but operators. Here they are `witness-1`, `witness-2` and so on, without vantage, address,
ASN or registry, and the times of their packets are cut to whole seconds, so that a server's packet log gives none away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from poolproof.challenge import Challenge, Method, Observation
from poolproof.fleet import Perspective, Role
from poolproof.ids import VantageId
from poolproof.lifecycle import next_wake_ns, retry_not_before_ns
from poolproof.matrix import arrange
from poolproof.policy import SECOND_NS, Policy
from poolproof.v1 import judgement_pb2 as judgement
from poolproof.v1 import verification_pb2 as pb
from poolproof.variant import Variant
from poolproof.verdict import ControlProven, ControlRefuted, Inconclusive, Verdict
from poolproof.verification import Attempt, Purpose, State, Verification
from poolproof.wire import checks
from poolproof.wire.evidence import KINDS, target_to_wire
from poolproof.wire.judgement import (
    ASSURANCES,
    EXPECTATIONS,
    METHODS,
    OUTCOMES,
    REASONS,
    ROLES,
    VARIANTS,
    observation_to_wire,
    path_to_wire,
    perspective_to_wire,
    verdict_to_wire,
)
from poolproof.wire.record import STATES

MAX_TARGET_TEXT: Final = 300
"""Characters of what an applicant types: a host name of 253, brackets and a port."""
MAX_APPLICANT: Final = 200
MAX_IDEMPOTENCY_KEY: Final = 128

_Aliases = Mapping[VantageId, str] | None
"""What witnesses are called; None: by their names, to operators."""


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What an applicant asks for.

    Attributes:
        target: as typed; not yet parsed.
        method, variant: how it shall be proven.
        applicant: who claims it.
        idempotency_key: chosen by the caller, or empty.
    """

    target: str
    method: Method
    variant: Variant
    applicant: str
    idempotency_key: str


def create_request_from_wire(message: pb.CreateVerificationRequest) -> CreateRequest:
    """The request of a message.

    Raises:
        WireError: a field is missing or too long. Whether the target is one is for the caller to say.
    """
    return CreateRequest(
        target=checks.text("target", message.target, MAX_TARGET_TEXT, 1),
        method=METHODS.from_wire("method", message.method),
        variant=VARIANTS.from_wire("variant", message.variant),
        applicant=checks.text("applicant", message.applicant, MAX_APPLICANT, 1),
        idempotency_key=checks.text("idempotency_key", message.idempotency_key, MAX_IDEMPOTENCY_KEY),
    )


def verification_to_view(
    verification: Verification,
    policy: Policy,
    revision: int,
    *,
    with_matrix: bool = True,
    for_operator: bool = False,
) -> pb.Verification:
    """What people see of a verification.

    Args:
        verification: as the store has it.
        policy: the verification's own.
        revision: of the record in the store.
        with_matrix: rows and rounds as well; lists do without.
        for_operator: name the witnesses.
    """
    view = pb.Verification(
        id=verification.id,
        target=target_to_wire(verification.target),
        requested=verification.requested,
        applicant=verification.applicant,
        method=METHODS.to_wire(verification.method),
        variant=VARIANTS.to_wire(verification.variant),
        policy_id=verification.policy,
        requested_at_ns=verification.requested_at_ns,
        state=STATES.to_wire(verification.state),
        revision=revision,
        attempts=[_summary(attempt, for_operator) for attempt in verification.attempts],
        next_at_ns=next_wake_ns(verification, policy) or 0,
        calibration=for_operator and verification.purpose is Purpose.CALIBRATION,
    )
    attempt = verification.attempt
    if attempt is None:
        view.verdict.CopyFrom(verdict_to_view(verification.verdict, None))
        return view
    view.verdict.CopyFrom(verdict_to_view(attempt.verdict, attempt.challenge, for_operator=for_operator))
    view.baseline_asked = len(attempt.candidates)
    view.baseline_known = len(attempt.paths)
    view.challenged_at_ns = attempt.challenged_at_ns
    view.ready_at_ns = attempt.ready_at_ns
    retriable = verification.state in (State.CONCLUDED, State.EXPIRED)
    if retriable and not isinstance(attempt.verdict, ControlProven):
        view.retry_not_before_ns = retry_not_before_ns(verification, policy)
    if attempt.challenge is not None:
        view.aim = ASSURANCES.to_wire(attempt.challenge.aim)
        if with_matrix:
            _add_matrix(view, attempt, attempt.challenge, for_operator)
    return view


def verdict_to_view(verdict: Verdict, challenge: Challenge | None, *, for_operator: bool = False) -> judgement.Verdict:
    """A verdict as people see it; `challenge` is the one that it judges, from which witnesses get their aliases."""
    message = verdict_to_wire(verdict)
    if for_operator:
        return message
    aliases = _aliases(challenge)
    if isinstance(verdict, ControlRefuted):
        message.refuted.perspective.CopyFrom(_shown(verdict.perspective, aliases))
        message.refuted.sighting.CopyFrom(_sighting(verdict.sighting, verdict.perspective))
    elif isinstance(verdict, Inconclusive):
        message.inconclusive.ClearField("perspectives")
        message.inconclusive.perspectives.extend(_shown(one, aliases) for one in verdict.perspectives)
    return message


def _summary(attempt: Attempt, for_operator: bool) -> pb.AttemptSummary:
    return pb.AttemptSummary(
        number=attempt.number,
        started_at_ns=attempt.started_at_ns,
        concluded_at_ns=attempt.concluded_at_ns,
        verdict=verdict_to_view(attempt.verdict, attempt.challenge, for_operator=for_operator),
        trace_id=attempt.traceparent.split("-")[1] if attempt.traceparent else "",
    )


def _add_matrix(view: pb.Verification, attempt: Attempt, challenge: Challenge, for_operator: bool) -> None:
    matrix = arrange(challenge, attempt.rounds, attempt.observations)
    aliases = None if for_operator else _aliases(challenge)
    for row, cells in zip(challenge.rows, matrix.cells, strict=True):
        view.rows.add(
            perspective=_shown(row.perspective, aliases),
            kind=KINDS.to_wire(row.kind),
            expected=map(EXPECTATIONS.to_wire, row.expected),
            path=path_to_wire(row.path),
            outcomes=[
                judgement.OUTCOME_UNSPECIFIED if outcome is None else OUTCOMES.to_wire(outcome) for outcome in cells
            ],
        )
    for fired, state in zip(attempt.rounds, matrix.states, strict=True):
        view.rounds.add(
            number=fired.number,
            window=fired.window,
            start_at_ns=fired.start_at_ns,
            counted=state.reason is None,
            reason=judgement.REASON_UNSPECIFIED if state.reason is None else REASONS.to_wire(state.reason),
            monitors_served=state.served,
            monitors_asked=state.monitors,
            witnesses_served=state.witnessed,
            witnesses_asked=state.witnesses,
        )


def _aliases(challenge: Challenge | None) -> Mapping[VantageId, str]:
    if challenge is None:
        return {}
    return {witness.vantage: f"witness-{number}" for number, witness in enumerate(challenge.witnesses, 1)}


def _shown(perspective: Perspective, aliases: _Aliases) -> judgement.Perspective:
    if perspective.role is not Role.WITNESS or aliases is None:
        return perspective_to_wire(perspective)
    return judgement.Perspective(
        vantage_id=aliases.get(perspective.vantage, "witness"), role=ROLES.to_wire(perspective.role)
    )


def _sighting(seen: Observation, perspective: Perspective) -> judgement.Observation:
    message = observation_to_wire(seen)
    if perspective.role is Role.WITNESS:
        message.source = ""
        message.ClearField("unasked")
        if seen.unasked:
            # An ICMP error quotes the packet that it is about, with the witness's address in it.
            message.packet = b""
        message.sent_at_ns -= message.sent_at_ns % SECOND_NS
        message.received_at_ns -= message.received_at_ns % SECOND_NS
    return message
