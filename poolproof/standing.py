"""What is known of a target over all its verifications: attempts, who claims it, who has proven it.

The error budget belongs to the target, so attempts are counted here, whoever makes them. The pause between attempts
belongs to the applicant on this target: a new verification is no way around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from poolproof.ids import VerificationId
from poolproof.target import Target

_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Claim:
    """One applicant's latest claim.

    Attributes:
        applicant: who.
        verification: in which verification.
        attempts: of this applicant on this target, over all their verifications.
    """

    applicant: str
    verification: VerificationId
    attempts: int


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof of control; it is never taken back."""

    applicant: str
    verification: VerificationId
    proven_at_ns: int


@dataclass(frozen=True, slots=True)
class Standing:
    """One target over all its verifications.

    Attributes:
        target: which.
        attempts: of everybody.
        claims: the latest of each applicant, in order of the first.
        proofs: in order of time.
    """

    target: Target
    attempts: int = 0
    claims: tuple[Claim, ...] = ()
    proofs: tuple[Proof, ...] = ()

    def claim_of(self, applicant: str) -> Claim | None:
        """The applicant's latest claim."""
        return next((claim for claim in self.claims if claim.applicant == applicant), None)

    def with_attempt(self, applicant: str, verification: VerificationId) -> Standing:
        """The standing once this verification has begun one more attempt."""
        last = self.claim_of(applicant)
        claim = Claim(applicant, verification, 1 if last is None else last.attempts + 1)
        claims = tuple(claim if held is last else held for held in self.claims)
        return replace(self, attempts=self.attempts + 1, claims=claims if last else (*claims, claim))

    def with_proof(self, proof: Proof) -> Standing:
        """The standing with one more proof."""
        return replace(self, proofs=(*self.proofs, proof))


def pause_ns(attempts: int, spacing_ns: int) -> int:
    """How long an applicant waits after their attempt number `attempts`; doubles with each, up to a day."""
    return 0 if attempts == 0 else min(_DAY_NS, spacing_ns << min(attempts - 1, 20))
