"""What the store keeps of a target (proto/poolproof/v1/standing.proto): lossless, both ways."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from poolproof.ids import VerificationId
from poolproof.standing import Claim, Proof, Standing
from poolproof.v1 import standing_pb2 as pb
from poolproof.wire import checks
from poolproof.wire.checks import WireError
from poolproof.wire.evidence import target_from_wire, target_to_wire

_MAX_TEXT = 4096


def to_standing_record(standing: Standing) -> bytes:
    """The bytes that the store keeps; the same standing always gives the same bytes."""
    return pb.StandingRecord(
        target=target_to_wire(standing.target),
        attempts=standing.attempts,
        claims=[
            pb.Claim(applicant=claim.applicant, verification_id=claim.verification, attempts=claim.attempts)
            for claim in standing.claims
        ],
        proofs=[
            pb.Proof(applicant=proof.applicant, verification_id=proof.verification, proven_at_ns=proof.proven_at_ns)
            for proof in standing.proofs
        ],
    ).SerializeToString(deterministic=True)


def from_standing_record(record: bytes) -> Standing:
    """The standing that the store kept.

    Raises:
        WireError: the bytes are no such record, or one that this version cannot have written.
    """
    try:
        message = pb.StandingRecord.FromString(record)
    except DecodeError as error:
        raise WireError("standing", record[:16], f"is no standing record ({error})") from error
    checks.present("standing", message, "target")
    return Standing(
        target=target_from_wire(message.target, "standing.target"),
        attempts=message.attempts,
        claims=tuple(
            Claim(
                checks.text(f"standing.claims[{index}].applicant", claim.applicant, _MAX_TEXT),
                VerificationId(checks.identifier(f"standing.claims[{index}].verification_id", claim.verification_id)),
                claim.attempts,
            )
            for index, claim in enumerate(message.claims)
        ),
        proofs=tuple(
            Proof(
                checks.text(f"standing.proofs[{index}].applicant", proof.applicant, _MAX_TEXT),
                VerificationId(checks.identifier(f"standing.proofs[{index}].verification_id", proof.verification_id)),
                checks.time_ns(f"standing.proofs[{index}].proven_at_ns", proof.proven_at_ns),
            )
            for index, proof in enumerate(message.proofs)
        ),
    )
