"""The error budget of a target is shared by everybody who tries: no name and no withdrawal gives a share back."""

from __future__ import annotations

from poolproof.ids import VerificationId
from poolproof.lifecycle import handle
from poolproof.policy import SECOND_NS
from poolproof.standing import Proof, Standing, pause_ns
from poolproof.verification import Withdraw
from tests.kernel.fleets import POLICY, TARGET, attempt_of, challenged, ready_at_ns


def test_whoever_tries_spends_a_share_of_the_same_budget() -> None:
    standing = Standing(TARGET)
    for number, applicant in enumerate(("ann", "bob", "ann", "eve"), 1):
        standing = standing.with_attempt(applicant, VerificationId(f"verify{number}"))
        assert standing.attempts == number
    ann, bob = standing.claim_of("ann"), standing.claim_of("bob")
    assert ann is not None
    assert bob is not None
    assert (ann.attempts, ann.verification) == (2, "verify3")
    assert bob.attempts == 1
    assert standing.claim_of("mallory") is None
    assert [claim.applicant for claim in standing.claims] == ["ann", "bob", "eve"]
    assert standing.with_proof(Proof("ann", VerificationId("verify3"), 1)).attempts == 4


def test_a_withdrawn_attempt_still_has_its_number_and_its_pause() -> None:
    """Counted when it began; who withdraws just before a refutation waits as if refuted."""
    verification = challenged()
    at_ns = ready_at_ns(verification)
    withdrawn = handle(verification, Withdraw(), at_ns, POLICY).verification
    assert attempt_of(withdrawn).number == attempt_of(verification).number
    assert attempt_of(withdrawn).concluded_at_ns == at_ns


def test_the_pause_doubles_up_to_a_day() -> None:
    pauses = [pause_ns(attempts, 60 * SECOND_NS) // SECOND_NS for attempts in (0, 1, 2, 3, 11, 12, 1000)]
    assert pauses == [0, 60, 120, 240, 61_440, 86_400, 86_400]
