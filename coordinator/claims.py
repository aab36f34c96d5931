"""Whether an applicant may begin an attempt on a target now, and what the attempt is counted as.

The attempt's number comes from the target's standing and is saved in the transaction that begins it, so that two
attempts can never share a part of the error budget. Its seed follows from the draw key and the number: whoever has the
key can check the draw afterwards.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from coordinator.ports import Dispatcher
from coordinator.problems import DuplicateClaimError, NoVantagesError
from coordinator.records import HeldStanding, load, load_standing, standing_key, standing_put
from coordinator.store.port import Compare, Put, Store
from coordinator.tracing_port import Telemetry
from poolproof.policy import Policy
from poolproof.standing import Claim, Proof, pause_ns
from poolproof.verdict import ControlProven
from poolproof.verification import Begin, NotNowError, Purpose, State, Verification

DRAW_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Counted:
    """An event, and what has to be saved together with what follows from it."""

    event: Begin
    compares: tuple[Compare, ...] = ()
    puts: tuple[Put, ...] = ()


class Claims:
    """Begins attempts.

    Args:
        store: where standings are.
        dispatcher: knows who can work.
        telemetry: gives each attempt its trace.
        draw_key: 32 secret bytes.
    """

    def __init__(self, store: Store, dispatcher: Dispatcher, telemetry: Telemetry, draw_key: bytes) -> None:
        if len(draw_key) != DRAW_KEY_BYTES:
            raise ValueError(f"draw key: has {len(draw_key)} bytes; give {DRAW_KEY_BYTES}")
        self._store = store
        self._dispatcher = dispatcher
        self._telemetry = telemetry
        self._draw_key = draw_key

    async def begin(self, verification: Verification, now_ns: int, policy: Policy) -> Counted:
        """The event that begins the verification's next attempt.

        Raises:
            DuplicateClaimError: the applicant has another open verification of the target.
            NotNowError: their last attempt on the target is too short ago.
            NoVantagesError: nobody can work now; no attempt is spent on that.
        """
        if verification.purpose is Purpose.CALIBRATION:
            # Its target is our own: no error budget is spent, and nobody's claim counts.
            return Counted(self._event(verification, len(verification.attempts) + 1))
        held = await load_standing(self._store, verification.target)
        claim = held.standing.claim_of(verification.applicant)
        if claim is not None and claim.verification != verification.id:
            await self._check_earlier(claim, verification, now_ns, policy)
        event = self._event(verification, held.standing.attempts + 1)
        standing = held.standing.with_attempt(verification.applicant, verification.id)
        return Counted(event, (_compare(held),), (standing_put(standing),))

    def _event(self, verification: Verification, number: int) -> Begin:
        fleet = self._dispatcher.usable(verification.target.family)
        if not fleet:
            raise NoVantagesError(
                f"target: {verification.target}: no vantage with an {verification.target.family.name} address is"
                " connected with a good clock now; `poolproof fleet` shows who is, try again when some are"
            )
        seed = hmac.digest(self._draw_key, f"{verification.id}/{number}".encode(), "sha256")
        return Begin(number, seed, fleet, self._telemetry.begin_attempt())

    async def _check_earlier(self, claim: Claim, wanted: Verification, now_ns: int, policy: Policy) -> None:
        earlier = await load(self._store, claim.verification)
        if earlier is None:
            return
        held = earlier.verification
        if held.state.is_open:
            raise DuplicateClaimError(
                f"target: {wanted.target}: verification {held.id} of {wanted.applicant!r} is {held.state.value};"
                f" carry on with it, or withdraw it first"
            )
        if isinstance(held.verdict, ControlProven) or held.attempt is None:
            return
        earliest = held.attempt.concluded_at_ns + pause_ns(claim.attempts, policy.retry_spacing_ns)
        if now_ns < earliest:
            raise NotNowError(
                f"target: {wanted.target}: attempt {held.attempt.number} (verification {held.id}) ended without proof;"
                f" the next may begin in {-((now_ns - earliest) // 1_000_000_000)} s; try again then"
            )

    async def proof(self, before: Verification, after: Verification, now_ns: int) -> tuple[Compare, Put] | None:
        """What is saved with the target if this step proves it; None if it does not."""
        if not isinstance(after.verdict, ControlProven) or after.state is not State.CONCLUDED:
            return None
        if before.state is State.CONCLUDED or after.purpose is Purpose.CALIBRATION:
            return None
        held = await load_standing(self._store, after.target)
        standing = held.standing.with_proof(Proof(after.applicant, after.id, now_ns))
        return _compare(held), standing_put(standing)


def _compare(held: HeldStanding) -> Compare:
    return Compare(standing_key(held.standing.target), held.revision)
