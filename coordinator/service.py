"""`VerificationService`: what people and programs ask of the coordinator (proto/poolproof/v1/verification.proto).

Translates, checks and hands on; what happens to a verification is the conductor's business. Witnesses are named to
operators only.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

import grpc

from coordinator.calibration.calibrations import Calibrations
from coordinator.conductor import Conductor, Wanted
from coordinator.disclosure import disclosed
from coordinator.following import follow
from coordinator.ports import Clock
from coordinator.problems import UnknownVerificationError
from coordinator.records import NEWEST, Held, load, newest_calibrations, newest_ids
from coordinator.registry import Registry, VantageState
from coordinator.resolve import Lookup, check_allowed, look_up, resolve
from coordinator.settings import CoordinatorSettings
from coordinator.status import answered, streamed
from coordinator.store.port import Store
from coordinator.traces import TraceStore
from poolproof.calibration import needed
from poolproof.catching import table
from poolproof.explain import explain
from poolproof.fleet import Role
from poolproof.ids import PolicyId, VantageId, VerificationId
from poolproof.instructions import Instructions, Request, Software, Step, render, write
from poolproof.policy import Policy
from poolproof.refusal import ASKED_FOR
from poolproof.target import Target
from poolproof.v1 import verification_pb2 as pb
from poolproof.v1 import verification_pb2_grpc
from poolproof.verification import Attempt, NotNowError, Verification
from poolproof.wire import (
    STATES,
    CreateRequest,
    WireError,
    clock_to_wire,
    create_request_from_wire,
    vantage_to_wire,
    verification_to_view,
)
from poolproof.wire.conduct import chances_to_wire, quarantine_to_wire, vantage_conduct_to_wire
from poolproof.wire.trace import spans_to_wire

CALL_TIMEOUT_S = 30.0
PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
_LOOKED_AT = 1_000
"""Verifications that one call of a filtered list looks at; the caller goes on from there."""
_RECENT = 10
"""Ids of calibrations that an operator is shown."""
_Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")


class Verifications(verification_pb2_grpc.VerificationServiceServicer):
    """Serves `VerificationService`.

    Args:
        conductor: carries verifications on.
        store: is read directly.
        traces: of attempts.
        clock: Unix time.
        registry: knows the fleet.
        policies: all that verifications are judged by.
        settings: which targets are allowed.
        new_id: a fresh verification id.
        draw_key: ids of requests with an idempotency key are derived with it.
        calibrations: knows every vantage's conduct.
        lookup: finds a host name's addresses.
    """

    def __init__(
        self,
        conductor: Conductor,
        store: Store,
        traces: TraceStore,
        clock: Clock,
        registry: Registry,
        policies: Mapping[PolicyId, Policy],
        settings: CoordinatorSettings,
        new_id: Callable[[], VerificationId],
        draw_key: bytes,
        calibrations: Calibrations,
        lookup: Lookup = look_up,
    ) -> None:
        self._conductor = conductor
        self._store = store
        self._traces = traces
        self._clock = clock
        self._registry = registry
        self._policies = policies
        self._settings = settings
        self._new_id = new_id
        self._draw_key = draw_key
        self._calibrations = calibrations
        self._lookup = lookup

    async def CreateVerification(  # noqa: N802
        self, request: pb.CreateVerificationRequest, context: _Context
    ) -> pb.CreateVerificationResponse:
        """See verification.proto."""
        created = await _within(context, self._create(request))
        return pb.CreateVerificationResponse(verifications=[self._view(held) for held in created])

    async def GetVerification(  # noqa: N802
        self, request: pb.GetVerificationRequest, context: _Context
    ) -> pb.GetVerificationResponse:
        """See verification.proto."""
        held = await _within(context, self._load(request.id))
        return pb.GetVerificationResponse(verification=self._view(held, for_operator=request.operator_view))

    async def ListVerifications(  # noqa: N802
        self, request: pb.ListVerificationsRequest, context: _Context
    ) -> pb.ListVerificationsResponse:
        """See verification.proto."""
        return await _within(context, self._list(request))

    async def GetInstructions(  # noqa: N802
        self, request: pb.GetInstructionsRequest, context: _Context
    ) -> pb.GetInstructionsResponse:
        """See verification.proto."""
        return await _within(context, self._instructions(request))

    async def MarkReady(self, request: pb.MarkReadyRequest, context: _Context) -> pb.MarkReadyResponse:  # noqa: N802
        """See verification.proto."""
        held = await _within(context, self._conductor.ready(VerificationId(request.id)))
        return pb.MarkReadyResponse(verification=self._view(held))

    async def RetryVerification(  # noqa: N802
        self, request: pb.RetryVerificationRequest, context: _Context
    ) -> pb.RetryVerificationResponse:
        """See verification.proto."""
        held = await _within(context, self._conductor.retry(VerificationId(request.id)))
        return pb.RetryVerificationResponse(verification=self._view(held))

    async def WithdrawVerification(  # noqa: N802
        self, request: pb.WithdrawVerificationRequest, context: _Context
    ) -> pb.WithdrawVerificationResponse:
        """See verification.proto."""
        held = await _within(context, self._conductor.withdraw(VerificationId(request.id)))
        return pb.WithdrawVerificationResponse(verification=self._view(held))

    async def WatchVerification(  # noqa: N802
        self, request: pb.WatchVerificationRequest, context: _Context
    ) -> AsyncIterator[pb.WatchVerificationResponse]:
        """See verification.proto."""
        async for held in streamed(context, follow(self._store, VerificationId(request.id))):
            yield pb.WatchVerificationResponse(verification=self._view(held, for_operator=request.operator_view))

    async def ExplainVerification(  # noqa: N802
        self, request: pb.ExplainVerificationRequest, context: _Context
    ) -> pb.ExplainVerificationResponse:
        """See verification.proto."""
        held = await _within(context, self._load(request.id))
        policy = self._policies[held.verification.policy]
        said = explain(held.verification, policy, for_operator=request.operator_view)
        return pb.ExplainVerificationResponse(
            verification=self._view(held),
            headline=said.headline,
            advice=said.advice,
            counted=said.counted,
            not_counted=said.not_counted,
        )

    async def GetTrace(self, request: pb.GetTraceRequest, context: _Context) -> pb.GetTraceResponse:  # noqa: N802
        """See verification.proto."""
        return await _within(context, self._trace(request))

    async def ListVantages(  # noqa: N802
        self, request: pb.ListVantagesRequest, context: _Context
    ) -> pb.ListVantagesResponse:
        """See verification.proto."""
        return pb.ListVantagesResponse(
            vantages=map(_status, self._registry.states()), calibrated=bool(self._calibrations.places)
        )

    async def GetCalibration(  # noqa: N802
        self, request: pb.GetCalibrationRequest, context: _Context
    ) -> pb.GetCalibrationResponse:
        """See verification.proto."""
        return await _within(context, self._calibration())

    async def ReleaseVantage(  # noqa: N802
        self, request: pb.ReleaseVantageRequest, context: _Context
    ) -> pb.ReleaseVantageResponse:
        """See verification.proto."""
        releasing = self._calibrations.ledger.release(VantageId(request.vantage_id), request.reason)
        conduct = await _within(context, releasing)
        return pb.ReleaseVantageResponse(vantage=vantage_conduct_to_wire(conduct, self._calibrations.policy))

    async def _calibration(self) -> pb.GetCalibrationResponse:
        policy, ledger = self._calibrations.policy, self._calibrations.ledger
        chances = await asyncio.to_thread(table, policy)
        return pb.GetCalibrationResponse(
            policy_id=policy.id,
            listen=map(str, self._calibrations.places),
            rate=policy.calibration_rate,
            loss=policy.calibration_loss,
            alpha=policy.alpha_quarantine,
            needed=needed(policy),
            vantages=[
                vantage_conduct_to_wire(ledger.of(state.vantage.id), policy) for state in self._registry.states()
            ],
            chances=chances_to_wire(chances),
            open=self._calibrations.under_way,
            recent=await newest_calibrations(self._store, _RECENT),
        )

    async def _create(self, message: pb.CreateVerificationRequest) -> tuple[Held, ...]:
        wanted = create_request_from_wire(message)
        targets = await resolve(wanted.target, self._settings.resolve_timeout_ns, self._lookup)
        for target in targets:
            # All are checked before the first one is begun.
            check_allowed(target, self._settings.allow_networks, self._settings.allow_ports)
        created: list[Held] = []
        for target in targets:
            name = self._id(wanted, target)
            created.append(
                await self._conductor.request(
                    Wanted(name, target, wanted.target, wanted.applicant, wanted.method, wanted.variant)
                )
            )
        return tuple(created)

    def _id(self, wanted: CreateRequest, target: Target) -> VerificationId:
        """A fresh id; the same one again for the same request with the same idempotency key."""
        if not wanted.idempotency_key:
            return self._new_id()
        method, variant = wanted.method.value, wanted.variant.value
        parts = (wanted.idempotency_key, wanted.applicant, wanted.target, method, variant, str(target))
        # Written so that no text can pass for the end of one part and the beginning of the next.
        return VerificationId(hmac.new(self._draw_key, repr(parts).encode(), "sha256").hexdigest()[:12])

    async def _load(self, verification: str) -> Held:
        held = await load(self._store, VerificationId(verification)) if verification else None
        if held is None:
            raise UnknownVerificationError(VerificationId(verification))
        return held

    async def _list(self, request: pb.ListVerificationsRequest) -> pb.ListVerificationsResponse:
        size = request.page_size or PAGE_SIZE
        if size > MAX_PAGE_SIZE:
            raise WireError("page_size", size, f"give 1 to {MAX_PAGE_SIZE}, or 0 for {PAGE_SIZE}")
        if request.page_token and not request.page_token.startswith(NEWEST):
            raise WireError("page_token", request.page_token, "give next_page_token of the page before, or nothing")
        states = {STATES.from_wire("states", state) for state in request.states}
        listed = await newest_ids(self._store, request.page_token, _LOOKED_AT)
        found: list[Held] = []
        for name, key in zip(listed.ids, listed.keys, strict=True):
            held = await self._load(name)
            if (not states or held.verification.state in states) and request.applicant in (
                "",
                held.verification.applicant,
            ):
                found.append(held)
            if len(found) == size and (listed.more or key != listed.keys[-1]):
                return self._page(found, key)
        return self._page(found, listed.keys[-1] if listed.more else "")

    def _page(self, found: Iterable[Held], token: str) -> pb.ListVerificationsResponse:
        views = [self._view(held, with_matrix=False) for held in found]
        return pb.ListVerificationsResponse(verifications=views, next_page_token=token)

    async def _instructions(self, request: pb.GetInstructionsRequest) -> pb.GetInstructionsResponse:
        kinds = {software.value: software for software in Software}
        if request.software not in kinds:
            raise WireError("software", request.software, f"give one of {', '.join(kinds)}")
        held = await self._load(request.id)
        return _instructions_message(_instructions(held.verification, kinds[request.software]))

    async def _trace(self, request: pb.GetTraceRequest) -> pb.GetTraceResponse:
        held = await self._load(request.id)
        attempt = _attempt(held.verification, request.attempt)
        spans = await self._traces.read(held.verification, attempt.number, self._clock.now_ns())
        shown = spans if request.operator_view else disclosed(spans, attempt)
        trace_id = attempt.traceparent.split("-")[1] if attempt.traceparent else ""
        return pb.GetTraceResponse(trace_id=trace_id, spans=spans_to_wire(shown))

    def _view(self, held: Held, *, with_matrix: bool = True, for_operator: bool = False) -> pb.Verification:
        policy = self._policies[held.verification.policy]
        return verification_to_view(
            held.verification, policy, held.revision, with_matrix=with_matrix, for_operator=for_operator
        )


async def _within(context: _Context, work: Coroutine[Any, Any, T]) -> T:
    """The work's result within the time that a call may take."""
    return await answered(context, asyncio.wait_for(work, CALL_TIMEOUT_S))


def _attempt(verification: Verification, number: int) -> Attempt:
    attempts = {attempt.number: attempt for attempt in verification.attempts}
    wanted = number or max(attempts, default=0)
    if wanted not in attempts:
        raise WireError("attempt", number, f"give one of {', '.join(map(str, attempts)) or 'none yet'}, or 0")
    return attempts[wanted]


def _instructions(verification: Verification, software: Software) -> Instructions:
    attempt = verification.attempt
    if attempt is None or attempt.challenge is None:
        raise NotNowError(
            f"verification {verification.id} is {verification.state.value}: there are instructions once it is"
            " challenged; `poolproof watch` shows when"
        )
    challenge = attempt.challenge
    blocked = [row for row in challenge.rows if row.perspective.role is Role.MUST_BE_BLOCKED]
    return write(
        Request(
            software,
            verification.variant,
            verification.target,
            challenge.monitors,
            tuple(row.perspective for row in blocked),
            tuple(row.refusal or ASKED_FOR[0] for row in blocked),
        )
    )


def _instructions_message(written: Instructions) -> pb.GetInstructionsResponse:
    return pb.GetInstructionsResponse(
        title=written.title,
        summary=written.summary,
        steps=map(_step, written.steps),
        undo=map(_step, written.undo),
        assurance_note=written.assurance_note,
        caveats=written.caveats,
        rendered=render(written),
    )


def _step(step: Step) -> pb.InstructionStep:
    return pb.InstructionStep(
        text=step.text,
        file=step.file or "",
        lines=step.lines,
        commands=step.commands,
        check=step.check,
        expect=step.expect,
    )


def _status(state: VantageState) -> pb.VantageStatus:
    status = pb.VantageStatus(vantage=vantage_to_wire(state.vantage), last_heartbeat_ns=state.last_heard_ns)
    if state.quarantine is not None:
        status.quarantine.CopyFrom(quarantine_to_wire(state.quarantine))
    if (agent := state.agent) is not None:
        status.connected = True
        status.agent_version = agent.hello.agent_version
        status.jobs_held = agent.jobs_held
        status.capacity = agent.hello.capabilities.capacity
        status.draining = agent.draining
        status.tripwire = agent.hello.capabilities.tripwire
        if agent.clock is not None:
            status.clock.CopyFrom(clock_to_wire(agent.clock))
    for each in state.incidents:
        status.incidents.add(what=each.what, count=each.count, last_at_ns=each.last_at_ns, detail=each.detail)
    return status
