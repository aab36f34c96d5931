"""A verification as the coordinator shows it: values of our own, so that drawing knows nothing of protobuf.

Witnesses come masked: `witness-1` and so on, without address, ASN or registry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from poolproof.challenge import Expectation, Method
from poolproof.exchange import ExchangeKind
from poolproof.fleet import Rir, Role
from poolproof.outcome import Outcome
from poolproof.policy import Assurance
from poolproof.target import Target
from poolproof.v1 import judgement_pb2 as judgement
from poolproof.v1 import verification_pb2 as pb
from poolproof.variant import Variant
from poolproof.verdict import NOTHING, ControlProven, Reason, Tally
from poolproof.verification import State
from poolproof.wire import METHODS, STATES, VARIANTS, WireError, target_from_wire, verdict_from_wire
from poolproof.wire.evidence import KINDS
from poolproof.wire.judgement import (
    ASSURANCES,
    EXPECTATIONS,
    OUTCOMES,
    REASONS,
    RIRS,
    ROLES,
    tally_from_wire,
)

PROVEN: Final = "proven"
REFUTED: Final = "refuted"
INCONCLUSIVE: Final = "inconclusive"


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """A perspective, as far as it is told; a witness has no source, ASN or registry."""

    vantage: str
    role: Role
    source: str = ""
    asn: int = 0
    rir: Rir | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One perspective's line of the matrix.

    Attributes:
        view: who looks.
        kind: what it asks.
        expected: one expectation for each window.
        asked, answered: in the baseline.
        outcomes: one for each round; None where nothing is known yet.
    """

    view: Viewpoint
    kind: ExchangeKind
    expected: tuple[Expectation, ...]
    asked: int
    answered: int
    outcomes: tuple[Outcome | None, ...] = ()


@dataclass(frozen=True, slots=True)
class RoundLine:
    """One round; `reason` says why it does not count, None if it does."""

    number: int
    window: int
    start_at_ns: int
    reason: Reason | None
    monitors_served: int
    monitors_asked: int
    witnesses_served: int = 0
    witnesses_asked: int = 0


@dataclass(frozen=True, slots=True)
class Sighting:
    """The packet that refutes; for a witness without source and with times cut to seconds."""

    round: int
    outcome: Outcome
    source: str
    sent_at_ns: int
    received_at_ns: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict as it is told.

    Attributes:
        reason: why.
        tally: what it rests on.
        proof: if control is proven: assurance, ceiling and scope.
        refuted_by, sighting: if it is refuted: who was answered, and with what.
        about: if neither: perspectives that the reason is about.
    """

    reason: Reason
    tally: Tally = NOTHING
    proof: ControlProven | None = None
    refuted_by: Viewpoint | None = None
    sighting: Sighting | None = None
    about: tuple[Viewpoint, ...] = ()

    @property
    def word(self) -> str:
        """`proven`, `refuted` or `inconclusive`."""
        if self.proof is not None:
            return PROVEN
        return INCONCLUSIVE if self.refuted_by is None else REFUTED


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """How one attempt went; a time of 0: not yet."""

    number: int
    started_at_ns: int
    concluded_at_ns: int
    judgement: Judgement
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A verification at one revision; fields as in verification.proto, times in Unix ns, 0: not (yet)."""

    id: str
    target: Target
    requested: str
    applicant: str
    method: Method
    variant: Variant
    policy: str
    requested_at_ns: int
    state: State
    revision: int
    judgement: Judgement
    attempts: tuple[AttemptLine, ...] = ()
    baseline_asked: int = 0
    baseline_known: int = 0
    aim: Assurance | None = None
    lines: tuple[Line, ...] = ()
    rounds: tuple[RoundLine, ...] = ()
    challenged_at_ns: int = 0
    ready_at_ns: int = 0
    next_at_ns: int = 0
    retry_not_before_ns: int = 0


def snapshot_from_wire(message: pb.Verification) -> Snapshot:
    """The snapshot of a message.

    Raises:
        WireError: a field is missing, or has a value that this program does not know.
    """
    return Snapshot(
        id=message.id,
        target=target_from_wire(message.target, "target"),
        requested=message.requested,
        applicant=message.applicant,
        method=METHODS.from_wire("method", message.method),
        variant=VARIANTS.from_wire("variant", message.variant),
        policy=message.policy_id,
        requested_at_ns=message.requested_at_ns,
        state=STATES.from_wire("state", message.state),
        revision=message.revision,
        judgement=_judgement(message.verdict),
        attempts=tuple(map(_attempt, message.attempts)),
        baseline_asked=message.baseline_asked,
        baseline_known=message.baseline_known,
        aim=ASSURANCES.from_wire("aim", message.aim) if message.aim else None,
        lines=tuple(map(_line, message.rows)),
        rounds=tuple(map(_round, message.rounds)),
        challenged_at_ns=message.challenged_at_ns,
        ready_at_ns=message.ready_at_ns,
        next_at_ns=message.next_at_ns,
        retry_not_before_ns=message.retry_not_before_ns,
    )


def _attempt(message: pb.AttemptSummary) -> AttemptLine:
    return AttemptLine(
        message.number,
        message.started_at_ns,
        message.concluded_at_ns,
        _judgement(message.verdict),
        message.trace_id,
    )


def _line(message: pb.MatrixRow) -> Line:
    return Line(
        view=_viewpoint(message.perspective),
        kind=KINDS.from_wire("rows.kind", message.kind),
        expected=tuple(EXPECTATIONS.from_wire("rows.expected", each) for each in message.expected),
        asked=message.path.asked,
        answered=message.path.answered,
        outcomes=tuple(OUTCOMES.from_wire("rows.outcomes", each) if each else None for each in message.outcomes),
    )


def _round(message: pb.MatrixRound) -> RoundLine:
    return RoundLine(
        message.number,
        message.window,
        message.start_at_ns,
        None if message.counted else REASONS.from_wire("rounds.reason", message.reason),
        message.monitors_served,
        message.monitors_asked,
        message.witnesses_served,
        message.witnesses_asked,
    )


def _viewpoint(message: judgement.Perspective) -> Viewpoint:
    return Viewpoint(
        message.vantage_id,
        ROLES.from_wire("perspective.role", message.role),
        message.source,
        message.asn,
        RIRS.from_wire("perspective.rir", message.rir) if message.rir else None,
    )


def _judgement(message: judgement.Verdict) -> Judgement:
    match message.WhichOneof("verdict"):
        case "proven":
            proof = verdict_from_wire(message, "verdict")
            assert isinstance(proof, ControlProven)
            return Judgement(proof.reason, proof.tally, proof)
        case "refuted":
            said, seen = message.refuted, message.refuted.sighting
            return Judgement(
                REASONS.from_wire("verdict.reason", said.reason),
                tally_from_wire(said.tally, "verdict.tally"),
                refuted_by=_viewpoint(said.perspective),
                sighting=Sighting(
                    seen.round,
                    OUTCOMES.from_wire("verdict.sighting.outcome", seen.outcome),
                    seen.source,
                    seen.sent_at_ns,
                    seen.received_at_ns,
                    seen.packet,
                ),
            )
        case "inconclusive":
            open_question = message.inconclusive
            return Judgement(
                REASONS.from_wire("verdict.reason", open_question.reason),
                tally_from_wire(open_question.tally, "verdict.tally"),
                about=tuple(map(_viewpoint, open_question.perspectives)),
            )
        case _:
            raise WireError("verdict", None, "is required")
