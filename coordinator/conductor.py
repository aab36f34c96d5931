"""Carries verifications from request to verdict: the shell around the state machine of `poolproof.verification`.

Everything that happens becomes an event of one verification and waits for its turn (`coordinator.turns`). After each
turn one timer per verification is set to when something may happen next by itself. A coordinator that comes back from
SIGKILL loads the open verifications, sets their timers, and hands every agent that connects the jobs that it has not
accounted for; job ids are derived and agents are idempotent, so handing out twice is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from coordinator.claims import Claims
from coordinator.ports import Clock, Dispatcher
from coordinator.problems import BusyError
from coordinator.records import Held, change, creation, load, open_ids
from coordinator.store.errors import StoreUnavailableError
from coordinator.store.port import Conflict, Store, Transaction
from coordinator.tickets import Tickets
from coordinator.tracing_port import Telemetry
from coordinator.turns import MAX_TRIES, Joined, NextAttempt, Stage, Turns, Wish
from poolproof.challenge import Method
from poolproof.ids import JobId, PolicyId, VantageId, VerificationId
from poolproof.job import Report
from poolproof.lifecycle import handle
from poolproof.policy import Policy
from poolproof.span import Span
from poolproof.target import Target
from poolproof.variant import Variant
from poolproof.verification import (
    Distrusted,
    Event,
    OwnerReady,
    Purpose,
    Reported,
    Unreachable,
    Verification,
    Withdraw,
)


class UnknownPolicyError(ValueError):
    """An open verification is judged by a policy that this coordinator does not have."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A verification that somebody asks for.

    Attributes:
        id: of the new verification.
        target: pinned.
        requested: what was typed.
        applicant: who claims it.
        method, variant: how.
        purpose: an application, or a calibration.
    """

    id: VerificationId
    target: Target
    requested: str
    applicant: str
    method: Method
    variant: Variant
    purpose: Purpose = Purpose.APPLICATION


class Conductor:
    """All verifications of one coordinator.

    Args:
        store: where everything is.
        dispatcher: passes jobs on.
        clock: Unix time and timers.
        telemetry: told of everything.
        policies: all that a verification may be judged by.
        policy: the one for new verifications.
        draw_key: 32 secret bytes that seeds are drawn with.
        tickets: gives jobs their tickets.

    Attributes:
        on_attempt: called whenever an applicant's attempt has begun.
    """

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        telemetry: Telemetry,
        policies: Mapping[PolicyId, Policy],
        policy: PolicyId,
        draw_key: bytes,
        tickets: Tickets,
    ) -> None:
        claims = Claims(store, dispatcher, telemetry, draw_key)
        self._stage = Stage(store, dispatcher, clock, telemetry, claims, tickets, dict(policies))
        self._policy = policy
        self._turns: dict[VerificationId, Turns] = {}
        self._closing = False
        self.on_attempt: Callable[[], None] = lambda: None

    async def start(self) -> int:
        """Carries on with every open verification; how many there are.

        Raises:
            UnknownPolicyError: one needs a policy that is not configured.
        """
        found = await open_ids(self._stage.store)
        for verification in found:
            held = await load(self._stage.store, verification)
            if held is None:
                continue
            if held.verification.policy not in self._stage.policies:
                raise UnknownPolicyError(
                    f"verification {verification} is judged by policy {held.verification.policy}, and this coordinator"
                    f" has {', '.join(self._stage.policies)}; start it with the policy_file that has it"
                )
            self._of(verification).arm(held)
        return len(found)

    async def close(self) -> None:
        """Ends the turns under way, so that everything taken is saved, and takes no further ones."""
        self._closing = True
        await asyncio.gather(*(turns.close() for turns in tuple(self._turns.values())))

    async def settle(self) -> None:
        """Returns once no turn is under way."""
        while tasks := [turns.working for turns in self._turns.values() if turns.working is not None]:
            await asyncio.wait(tasks)

    async def request(self, wanted: Wanted) -> Held:
        """A new verification with its first attempt under way. Asking again with the same id changes nothing.

        Raises:
            DuplicateClaimError, NotNowError, NoVantagesError: see `Claims.begin`.
        """
        stage = self._stage
        for _ in range(MAX_TRIES):
            if (held := await load(stage.store, wanted.id)) is not None:
                return held
            now_ns, policy = stage.clock.now_ns(), stage.policies[self._policy]
            fresh = Verification(
                wanted.id,
                wanted.target,
                wanted.requested,
                wanted.applicant,
                wanted.method,
                wanted.variant,
                self._policy,
                now_ns,
                purpose=wanted.purpose,
            )
            counted = await stage.claims.begin(fresh, now_ns, policy)
            step = handle(fresh, counted.event, now_ns, policy)
            compares, listed = creation(fresh)
            puts, _ = change(None, step.verification)
            transaction = Transaction((*compares, *counted.compares), (*puts, *listed, *counted.puts))
            try:
                result = await stage.store.commit(transaction)
            except StoreUnavailableError:
                self._of(wanted.id).doubt()
                raise
            if not isinstance(result, Conflict):
                held = Held(step.verification, result.revision)
                stage.telemetry.advanced(fresh, step.verification, now_ns)
                if held.verification.state.is_open:
                    self._of(wanted.id).begun(held, step.dispatch)
                if wanted.purpose is Purpose.APPLICATION:
                    self.on_attempt()
                return held
        raise BusyError(f"target: {wanted.target}: others saved first {MAX_TRIES} times; try again in a second")

    async def ready(self, verification: VerificationId) -> Held:
        """The owner says that the challenge is enacted.

        Raises:
            UnknownVerificationError: there is none.
            NotNowError: it is not challenged.
        """
        return await self._ask(verification, OwnerReady())

    async def retry(self, verification: VerificationId) -> Held:
        """Another attempt.

        Raises:
            UnknownVerificationError: there is none.
            NotNowError: one is under way, the target is proven, or it is too early.
            DuplicateClaimError, NoVantagesError: see `Claims.begin`.
        """
        held = await self._ask(verification, NextAttempt())
        if held.verification.purpose is Purpose.APPLICATION:
            self.on_attempt()
        return held

    async def withdraw(self, verification: VerificationId) -> Held:
        """The applicant takes the request back.

        Raises:
            UnknownVerificationError: there is none.
            NotNowError: it is not open.
        """
        return await self._ask(verification, Withdraw())

    async def reported(self, report: Report, raw: bytes, spans: tuple[Span, ...] = ()) -> Held:
        """A probe's report; returns once it is stored.

        Args:
            report: what it says.
            raw: its bytes as they came, at most `turns.MAX_REPORT_BYTES`.
            spans: the probe's spans of this job.

        Raises:
            ForeignReportError: it belongs to no job of the current attempt.
            UnknownVerificationError: nor to any verification.
        """
        return await self._ask(_verification_of(report.job), Reported(report), raw, spans)

    async def unreachable(self, job: JobId) -> Held:
        """A job's agent will not do it; returns once that is stored.

        Raises:
            UnknownVerificationError: it is a job of no verification.
        """
        return await self._ask(_verification_of(job), Unreachable((job,)))

    def distrust(self, vantage: VantageId) -> None:
        """A vantage is quarantined: open attempts go on without it, and without what it has said in them."""
        for turns in tuple(self._turns.values()):
            turns.put(Wish(Distrusted(vantage)))

    def joined(self, vantage: VantageId) -> None:
        """A vantage's agent has connected: it is handed everything that it has not accounted for."""
        for turns in tuple(self._turns.values()):
            turns.put(Wish(Joined(vantage)))

    async def _ask(
        self,
        verification: VerificationId,
        event: Event | NextAttempt,
        raw: bytes = b"",
        spans: tuple[Span, ...] = (),
    ) -> Held:
        if self._closing:
            raise BusyError("the coordinator is stopping; ask again in a moment")
        done: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self._of(verification).put(Wish(event, raw, spans, done))
        return await done

    def _of(self, verification: VerificationId) -> Turns:
        turns = self._turns.get(verification)
        if turns is None:
            turns = Turns(verification, self._stage, partial(self._forget, verification))
            self._turns[verification] = turns
        return turns

    def _forget(self, verification: VerificationId) -> None:
        self._turns.pop(verification, None)


def new_id(entropy: Callable[[int], bytes]) -> VerificationId:
    """A fresh id of 12 letters and digits (60 bits), without those that look alike."""
    bits = int.from_bytes(entropy(8), "big")
    return VerificationId("".join("0123456789abcdefghjkmnpqrstvwxyz"[bits >> shift & 31] for shift in range(0, 60, 5)))


def _verification_of(job: JobId) -> VerificationId:
    return VerificationId(job.partition("/")[0])
