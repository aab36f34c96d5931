"""Calls to the coordinator: each with a deadline, each failure with an exit code and a message that says what to do.

A call that fails because nobody is there and one that the coordinator turns down look alike to gRPC (UNAVAILABLE).
They are told apart by asking the coordinator's health service, which answers if anybody does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from coordinator.cli.calibration_table import CalibrationPage, ConductLine
from coordinator.cli.exit_codes import ExitCode
from coordinator.cli.failure import Failure
from coordinator.cli.options import VARIABLE
from coordinator.cli.snapshot import Snapshot, snapshot_from_wire
from coordinator.cli.vantage_table import IncidentLine, VantageLine
from poolproof.catching import Chance, Lie
from poolproof.challenge import Method
from poolproof.span import Span
from poolproof.v1 import verification_pb2 as pb
from poolproof.v1 import verification_pb2_grpc
from poolproof.variant import Variant
from poolproof.verification import State
from poolproof.wire import METHODS, STATES, VARIANTS, WireError, clock_from_wire, vantage_from_wire
from poolproof.wire.conduct import STRATA, conduct_from_wire, quarantine_from_wire
from poolproof.wire.trace import span_from_wire

CONNECT_S: Final = 5.0
CALL_S: Final = 40.0
"""Longer than the coordinator's own limit, so that its answer about it arrives."""
WATCH_S: Final = 3600.0
"""A stream is opened anew after this time: none goes on for ever."""
_HEALTH_S: Final = 2.0
_PAGE: Final = 500
_SEARCHED: Final = 10_000
"""Verifications that are looked through for one whose id is given in part."""
ID_LENGTH: Final = 12
_OPTIONS: Final = (
    # Variables of the environment must not send our calls elsewhere.
    ("grpc.enable_http_proxy", 0),
    # A coordinator that hangs is found while a stream is watched.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)
_CODES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.USAGE,
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_POSSIBLE,
    grpc.StatusCode.ALREADY_EXISTS: ExitCode.NOT_POSSIBLE,
    grpc.StatusCode.FAILED_PRECONDITION: ExitCode.NOT_POSSIBLE,
    grpc.StatusCode.UNAVAILABLE: ExitCode.TRY_AGAIN,
    grpc.StatusCode.ABORTED: ExitCode.TRY_AGAIN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExitCode.TRY_AGAIN,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.TRY_AGAIN,
    grpc.StatusCode.CANCELLED: ExitCode.TRY_AGAIN,
}
_MAYBE_GONE: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Page:
    """Some verifications, newest first; `next_token` is empty after the last page."""

    snapshots: tuple[Snapshot, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """All vantages, and whether there are calibrations."""

    vantages: tuple[VantageLine, ...]
    calibrated: bool


class Coordinator:
    """The coordinator at one address; to be used in a `with` block.

    Args:
        address: HOST:PORT.
        origin: which setting the address is from, for messages.
        connect_s: how long connecting may take.
        call_s: how long a call may take.

    Every method raises `Failure` if it cannot do what it says.
    """

    def __init__(self, address: str, origin: str, *, connect_s: float = CONNECT_S, call_s: float = CALL_S) -> None:
        self._address = address
        self._origin = origin
        self._connect_s = connect_s
        self._call_s = call_s

    def __enter__(self) -> Coordinator:
        self._channel = grpc.insecure_channel(self._address, options=_OPTIONS)
        self._stub = verification_pb2_grpc.VerificationServiceStub(self._channel)
        if not self._is_there(self._connect_s):
            self._channel.close()
            raise self._unreachable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def request(
        self, target: str, method: Method, variant: Variant, applicant: str, idempotency_key: str
    ) -> tuple[Snapshot, ...]:
        """Claims a target: a verification for each of its addresses."""
        message = pb.CreateVerificationRequest(
            target=target,
            method=METHODS.to_wire(method),
            variant=VARIANTS.to_wire(variant),
            applicant=applicant,
            idempotency_key=idempotency_key,
        )
        return tuple(map(self._read, self._call(self._stub.CreateVerification, message).verifications))

    def get(self, verification: str, *, operator: bool = False) -> Snapshot:
        """A verification as it is now; `operator` names the witnesses."""
        message = pb.GetVerificationRequest(id=self.whole_id(verification), operator_view=operator)
        return self._read(self._call(self._stub.GetVerification, message).verification)

    def instructions(self, verification: str, software: str) -> pb.GetInstructionsResponse:
        """What the owner has to do."""
        message = pb.GetInstructionsRequest(id=self.whole_id(verification), software=software)
        return self._call(self._stub.GetInstructions, message)

    def ready(self, verification: str) -> Snapshot:
        """Says that the challenge is enacted."""
        message = pb.MarkReadyRequest(id=self.whole_id(verification))
        return self._read(self._call(self._stub.MarkReady, message).verification)

    def retry(self, verification: str) -> Snapshot:
        """Begins a new attempt."""
        message = pb.RetryVerificationRequest(id=self.whole_id(verification))
        return self._read(self._call(self._stub.RetryVerification, message).verification)

    def withdraw(self, verification: str) -> Snapshot:
        """Takes the request back."""
        message = pb.WithdrawVerificationRequest(id=self.whole_id(verification))
        return self._read(self._call(self._stub.WithdrawVerification, message).verification)

    def explain(self, verification: str, *, operator: bool) -> pb.ExplainVerificationResponse:
        """What counted, what did not, and why."""
        message = pb.ExplainVerificationRequest(id=self.whole_id(verification), operator_view=operator)
        return self._call(self._stub.ExplainVerification, message)

    def trace(self, verification: str, attempt: int, *, operator: bool) -> tuple[str, tuple[Span, ...]]:
        """Trace id and spans of one attempt; 0: the latest."""
        message = pb.GetTraceRequest(id=self.whole_id(verification), attempt=attempt, operator_view=operator)
        answer = self._call(self._stub.GetTrace, message)
        return answer.trace_id, tuple(self._checked(lambda: [span_from_wire(span) for span in answer.spans]))

    def fleet(self) -> Fleet:
        """The fleet."""
        answer = self._call(self._stub.ListVantages, pb.ListVantagesRequest())
        return Fleet(tuple(self._checked(lambda: [_vantage(status) for status in answer.vantages])), answer.calibrated)

    def calibration(self) -> CalibrationPage:
        """What calibrations say of each vantage, and how soon they catch a liar."""
        answer = self._call(self._stub.GetCalibration, pb.GetCalibrationRequest())
        return self._checked(lambda: _calibration(answer))

    def release(self, vantage: str, reason: str) -> ConductLine:
        """Ends a vantage's quarantine."""
        message = pb.ReleaseVantageRequest(vantage_id=vantage, reason=reason)
        answer = self._call(self._stub.ReleaseVantage, message)
        return self._checked(lambda: _conduct(answer.vantage))

    def page(self, states: tuple[State, ...], applicant: str, size: int, token: str) -> Page:
        """One page of verifications, without their matrices."""
        message = pb.ListVerificationsRequest(
            page_size=min(size, _PAGE), page_token=token, states=map(STATES.to_wire, states), applicant=applicant
        )
        answer = self._call(self._stub.ListVerifications, message)
        return Page(tuple(map(self._read, answer.verifications)), answer.next_page_token)

    def watch(self, verification: str, *, operator: bool = False) -> Iterator[Snapshot]:
        """The verification now and after each change, until it is closed, the stream ends or breaks."""
        message = pb.WatchVerificationRequest(id=self.whole_id(verification), operator_view=operator)
        stream = self._stub.WatchVerification(message, timeout=WATCH_S)
        try:
            for answer in stream:
                yield self._read(answer.verification)
        except grpc.RpcError as error:
            raise self._failure(error) from None
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]  # its stubs forgot the annotation

    def whole_id(self, given: str) -> str:
        """The id that begins with what was given.

        Raises:
            Failure: none does, or several do.
        """
        if len(given) >= ID_LENGTH or not given:
            return given
        found: list[Snapshot] = []
        token, seen = "", 0
        while seen < _SEARCHED:
            page = self.page((), "", _PAGE, token)
            seen += len(page.snapshots)
            found += [each for each in page.snapshots if each.id.startswith(given)]
            token = page.next_token
            if not token:
                break
        if len(found) == 1:
            return found[0].id
        if found:
            shown = ", ".join(f"{each.id} ({each.target})" for each in found[:5])
            raise Failure(ExitCode.NOT_POSSIBLE, f"id: {given!r} is not unique: {shown}; give more letters")
        among = f" among the newest {seen}; give the whole id" if token else "; `poolproof list` shows those there are"
        raise Failure(ExitCode.NOT_POSSIBLE, f"id: there is no verification {given[:80]!r}{among}")

    def _call(self, method: grpc.UnaryUnaryMultiCallable[Q, A], message: Q) -> A:
        try:
            return method(message, timeout=self._call_s)
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def _read(self, message: pb.Verification) -> Snapshot:
        return self._checked(lambda: snapshot_from_wire(message))

    def _checked(self, read: Callable[[], A]) -> A:
        try:
            return read()
        except WireError as error:
            hint = "are this program and the coordinator of one version?"
            raise Failure(
                ExitCode.INTERNAL, f"the coordinator at {self._address} said what makes no sense here ({error}); {hint}"
            ) from None

    def _failure(self, error: grpc.RpcError) -> Failure:
        assert isinstance(error, grpc.Call)
        status = error.code()
        if status in _MAYBE_GONE and not self._is_there(_HEALTH_S):
            return self._unreachable()
        code = _CODES.get(status, ExitCode.INTERNAL)
        said = error.details() or status.name.lower().replace("_", " ")
        if status is grpc.StatusCode.UNIMPLEMENTED:
            said = f"what answers at {self._address} is no coordinator, or one of another version ({said})"
        elif status is grpc.StatusCode.DEADLINE_EXCEEDED:
            said = f"the coordinator at {self._address} took too long ({said}); try again"
        return Failure(code, said)

    def _is_there(self, timeout_s: float) -> bool:
        """Whether anybody answers at the address, in whatever health."""
        try:
            health_pb2_grpc.HealthStub(self._channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return not (isinstance(error, grpc.Call) and error.code() in _MAYBE_GONE)
        return True

    def _unreachable(self) -> Failure:
        return Failure(
            ExitCode.UNREACHABLE,
            f"the coordinator at {self._address} ({self._origin}) cannot be reached; start one with"
            f" `poolproof coordinator --fleet FILE`, or name another with --coordinator or {VARIABLE}",
        )


def _vantage(status: pb.VantageStatus) -> VantageLine:
    return VantageLine(
        vantage_from_wire(status.vantage),
        status.connected,
        status.last_heartbeat_ns,
        status.agent_version,
        status.jobs_held,
        status.capacity,
        status.draining,
        clock_from_wire(status.clock, "clock") if status.HasField("clock") else None,
        status.tripwire,
        tuple(IncidentLine(each.what, each.count, each.last_at_ns, each.detail) for each in status.incidents),
        quarantine_from_wire(status.quarantine) if status.HasField("quarantine") else None,
    )


def _conduct(message: pb.VantageConduct) -> ConductLine:
    tests = {STRATA.from_wire("evidence.stratum", each.stratum): each.evidence for each in message.evidence}
    return ConductLine(conduct_from_wire(message.conduct), tests)


def _calibration(answer: pb.GetCalibrationResponse) -> CalibrationPage:
    lies = {lie.value: lie for lie in Lie}
    return CalibrationPage(
        policy=answer.policy_id,
        listen=tuple(answer.listen),
        rate=answer.rate,
        loss=answer.loss,
        alpha=answer.alpha,
        needed=answer.needed,
        under_way=answer.open,
        recent=tuple(answer.recent),
        lines=tuple(map(_conduct, answer.vantages)),
        # A kind of lie that this version does not know is left out.
        chances=tuple(
            Chance(lies[each.lie], each.rate, each.jobs, each.chance) for each in answer.chances if each.lie in lies
        ),
    )
