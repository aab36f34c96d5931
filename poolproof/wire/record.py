"""What the store keeps of a verification (proto/poolproof/v1/record.proto): lossless, both ways."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from poolproof.cohort import Candidate
from poolproof.ids import PolicyId, VantageId, VerificationId
from poolproof.v1 import record_pb2 as pb
from poolproof.verification import Attempt, BaselinePath, Purpose, State, Verification
from poolproof.wire import checks
from poolproof.wire.checks import WireError
from poolproof.wire.evidence import target_from_wire, target_to_wire
from poolproof.wire.judgement import (
    METHODS,
    VARIANTS,
    challenge_from_wire,
    challenge_to_wire,
    observation_from_wire,
    observation_to_wire,
    path_from_wire,
    path_to_wire,
    round_from_wire,
    round_to_wire,
    vantage_from_wire,
    vantage_to_wire,
    verdict_from_wire,
    verdict_to_wire,
)

STATES: Final = checks.EnumNames(State, "VERIFICATION_STATE", pb.VerificationState.items())
_MAX_TEXT: Final = 4096
_MAX_SEED: Final = 64
_MAX_ATTEMPT: Final = (1 << 32) - 1


def to_record(verification: Verification) -> bytes:
    """The bytes that the store keeps; the same verification always gives the same bytes."""
    return _to_message(verification).SerializeToString(deterministic=True)


def from_record(record: bytes) -> Verification:
    """The verification that the store kept.

    Raises:
        WireError: the bytes are no record, or one that this version cannot have written.
    """
    try:
        message = pb.VerificationRecord.FromString(record)
    except DecodeError as error:
        raise WireError("record", record[:16], f"is no verification record ({error})") from error
    return _from_message(message, "record")


def _to_message(verification: Verification) -> pb.VerificationRecord:
    return pb.VerificationRecord(
        id=verification.id,
        target=target_to_wire(verification.target),
        requested=verification.requested,
        applicant=verification.applicant,
        method=METHODS.to_wire(verification.method),
        variant=VARIANTS.to_wire(verification.variant),
        policy_id=verification.policy,
        requested_at_ns=verification.requested_at_ns,
        state=STATES.to_wire(verification.state),
        attempts=map(_attempt_to_message, verification.attempts),
        calibration=verification.purpose is Purpose.CALIBRATION,
    )


def _from_message(message: pb.VerificationRecord, field: str) -> Verification:
    checks.present(field, message, "target")
    return Verification(
        id=VerificationId(checks.identifier(f"{field}.id", message.id)),
        target=target_from_wire(message.target, f"{field}.target"),
        requested=checks.text(f"{field}.requested", message.requested, _MAX_TEXT),
        applicant=checks.text(f"{field}.applicant", message.applicant, _MAX_TEXT),
        method=METHODS.from_wire(f"{field}.method", message.method),
        variant=VARIANTS.from_wire(f"{field}.variant", message.variant),
        policy=PolicyId(checks.identifier(f"{field}.policy_id", message.policy_id)),
        requested_at_ns=checks.time_ns(f"{field}.requested_at_ns", message.requested_at_ns),
        state=STATES.from_wire(f"{field}.state", message.state),
        attempts=tuple(
            _attempt_from_message(attempt, f"{field}.attempts[{index}]")
            for index, attempt in enumerate(message.attempts)
        ),
        purpose=Purpose.CALIBRATION if message.calibration else Purpose.APPLICATION,
    )


def _attempt_to_message(attempt: Attempt) -> pb.AttemptRecord:
    return pb.AttemptRecord(
        number=attempt.number,
        seed=attempt.seed,
        traceparent=attempt.traceparent,
        started_at_ns=attempt.started_at_ns,
        candidates=[pb.Candidate(vantage=vantage_to_wire(c.vantage), source=c.source) for c in attempt.candidates],
        baseline_start_at_ns=attempt.baseline_start_at_ns,
        paths=[
            pb.BaselinePath(vantage_id=known.vantage, path=None if known.path is None else path_to_wire(known.path))
            for known in attempt.paths
        ],
        challenge=None if attempt.challenge is None else challenge_to_wire(attempt.challenge),
        challenged_at_ns=attempt.challenged_at_ns,
        ready_at_ns=attempt.ready_at_ns,
        rounds=map(round_to_wire, attempt.rounds),
        observations=map(observation_to_wire, attempt.observations),
        verdict=verdict_to_wire(attempt.verdict),
        concluded_at_ns=attempt.concluded_at_ns,
        distrusted_vantages=attempt.distrusted,
    )


def _attempt_from_message(message: pb.AttemptRecord, field: str) -> Attempt:
    checks.present(field, message, "verdict")

    def time_or_none_yet(name: str, value: int) -> int:
        return checks.number(f"{field}.{name}", value, 0, checks.MAX_TIME_NS)

    return Attempt(
        number=checks.number(f"{field}.number", message.number, 1, _MAX_ATTEMPT),
        seed=checks.octets(f"{field}.seed", message.seed, _MAX_SEED, 1),
        traceparent=checks.traceparent(f"{field}.traceparent", message.traceparent),
        started_at_ns=checks.time_ns(f"{field}.started_at_ns", message.started_at_ns),
        candidates=tuple(
            _candidate_from_message(candidate, f"{field}.candidates[{index}]")
            for index, candidate in enumerate(message.candidates)
        ),
        baseline_start_at_ns=checks.time_ns(f"{field}.baseline_start_at_ns", message.baseline_start_at_ns),
        paths=tuple(
            BaselinePath(
                VantageId(checks.identifier(f"{field}.paths[{index}].vantage_id", known.vantage_id)),
                path_from_wire(known.path, f"{field}.paths[{index}].path") if known.HasField("path") else None,
            )
            for index, known in enumerate(message.paths)
        ),
        challenge=challenge_from_wire(message.challenge, f"{field}.challenge")
        if message.HasField("challenge")
        else None,
        challenged_at_ns=time_or_none_yet("challenged_at_ns", message.challenged_at_ns),
        ready_at_ns=time_or_none_yet("ready_at_ns", message.ready_at_ns),
        rounds=tuple(round_from_wire(fired, f"{field}.rounds[{i}]") for i, fired in enumerate(message.rounds)),
        observations=tuple(
            observation_from_wire(seen, f"{field}.observations[{index}]")
            for index, seen in enumerate(message.observations)
        ),
        verdict=verdict_from_wire(message.verdict, f"{field}.verdict"),
        concluded_at_ns=time_or_none_yet("concluded_at_ns", message.concluded_at_ns),
        distrusted=tuple(
            VantageId(checks.identifier(f"{field}.distrusted_vantages[{index}]", vantage))
            for index, vantage in enumerate(message.distrusted_vantages)
        ),
    )


def _candidate_from_message(message: pb.Candidate, field: str) -> Candidate:
    checks.present(field, message, "vantage")
    source = checks.source(f"{field}.source", message.source)
    return Candidate(vantage_from_wire(message.vantage, f"{field}.vantage"), source)
