"""gRPC status codes for what can go wrong with a call; the message is the error's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import grpc

from coordinator.problems import (
    BusyError,
    CoordinatorError,
    DuplicateClaimError,
    ForbiddenTargetError,
    NotQuarantinedError,
    NoVantagesError,
    ResolverTimeoutError,
    UnknownVerificationError,
    UnresolvableTargetError,
)
from coordinator.store.errors import InvalidRequestError as InvalidKeyError
from coordinator.store.errors import StoreUnavailableError
from poolproof.instructions import InvalidRequestError as InvalidInstructionsError
from poolproof.target import InvalidTargetError
from poolproof.verification import NotNowError
from poolproof.wire import WireError

_CODES: dict[type[Exception], grpc.StatusCode] = {
    UnknownVerificationError: grpc.StatusCode.NOT_FOUND,
    DuplicateClaimError: grpc.StatusCode.ALREADY_EXISTS,
    NotNowError: grpc.StatusCode.FAILED_PRECONDITION,
    NotQuarantinedError: grpc.StatusCode.FAILED_PRECONDITION,
    NoVantagesError: grpc.StatusCode.UNAVAILABLE,
    BusyError: grpc.StatusCode.ABORTED,
    ForbiddenTargetError: grpc.StatusCode.INVALID_ARGUMENT,
    UnresolvableTargetError: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidTargetError: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidKeyError: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidInstructionsError: grpc.StatusCode.INVALID_ARGUMENT,
    WireError: grpc.StatusCode.INVALID_ARGUMENT,
    ResolverTimeoutError: grpc.StatusCode.UNAVAILABLE,
    StoreUnavailableError: grpc.StatusCode.UNAVAILABLE,
    TimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_KNOWN: tuple[type[Exception], ...] = (CoordinatorError, *_CODES)
T = TypeVar("T")


def code_of(error: Exception) -> grpc.StatusCode:
    """The status that says best what went wrong."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


async def answered(context: grpc.aio.ServicerContext[Any, Any], work: Awaitable[T]) -> T:
    """The work's result; or the call ends with the status of what went wrong."""
    try:
        return await work
    except _KNOWN as error:
        await context.abort(code_of(error), str(error) or "the call took too long; try again")


async def streamed(context: grpc.aio.ServicerContext[Any, Any], work: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same for a stream."""
    try:
        async for item in work:
            yield item
    except _KNOWN as error:
        await context.abort(code_of(error), str(error) or "the call took too long; try again")
