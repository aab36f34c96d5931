"""The command run in this process, as its own process would: arguments in; exit code, stdout and stderr out."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import pytest

from coordinator.cli import main
from poolproof.v1 import verification_pb2 as pb
from poolproof.v1 import verification_pb2_grpc as rpc


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def run(*arguments: str) -> Result:
    # click writes completions as bytes.
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    code = ended.value.code
    for stream in (out, err):
        stream.seek(0)
    return Result(0 if code is None else int(code), out.read(), err.read())


async def run_aside(*arguments: str) -> Result:
    """The same in a thread, while the event loop goes on."""
    return await asyncio.to_thread(run, *arguments)


@dataclass
class Scripted(rpc.VerificationServiceServicer):
    """A coordinator that answers from a script.

    Attributes:
        views: of its verifications, newest first.
        fails: the status that every call ends with, if any, and its message.
        watches: what each stream shows, one after the other, before it breaks; then all of `views[0]` and its end.
    """

    views: list[pb.Verification] = field(default_factory=list)
    fails: grpc.StatusCode | None = None
    says: str = "no"
    watches: list[list[pb.Verification]] = field(default_factory=list)
    asked: list[object] = field(default_factory=list)

    def _heard(self, request: object, context: grpc.ServicerContext) -> None:
        self.asked.append(request)
        if self.fails is not None:
            context.abort(self.fails, self.says)

    def _of(self, name: str, context: grpc.ServicerContext) -> pb.Verification:
        for each in self.views:
            if each.id == name:
                return each
        context.abort(grpc.StatusCode.NOT_FOUND, f"id: there is no verification {name!r}")
        raise AssertionError("abort raises")

    def CreateVerification(  # noqa: N802
        self, request: pb.CreateVerificationRequest, context: grpc.ServicerContext
    ) -> pb.CreateVerificationResponse:
        self._heard(request, context)
        return pb.CreateVerificationResponse(verifications=self.views)

    def GetVerification(  # noqa: N802
        self, request: pb.GetVerificationRequest, context: grpc.ServicerContext
    ) -> pb.GetVerificationResponse:
        self._heard(request, context)
        return pb.GetVerificationResponse(verification=self._of(request.id, context))

    def ListVerifications(  # noqa: N802
        self, request: pb.ListVerificationsRequest, context: grpc.ServicerContext
    ) -> pb.ListVerificationsResponse:
        self._heard(request, context)
        start = int(request.page_token or 0)
        end = start + request.page_size
        return pb.ListVerificationsResponse(
            verifications=self.views[start:end], next_page_token=str(end) if end < len(self.views) else ""
        )

    def WatchVerification(  # noqa: N802
        self, request: pb.WatchVerificationRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchVerificationResponse]:
        self._heard(request, context)
        if self.watches:
            for view in self.watches.pop(0):
                yield pb.WatchVerificationResponse(verification=view)
            context.abort(grpc.StatusCode.UNAVAILABLE, "the coordinator is stopping")
        yield pb.WatchVerificationResponse(verification=self._of(request.id, context))


def scripted(views: list[pb.Verification], watches: list[list[pb.Verification]] | None = None) -> Scripted:
    """One that answers nothing but what its script has; other calls are unimplemented."""
    return Scripted(views, watches=watches or [])  # type: ignore[abstract]


@contextlib.contextmanager
def serving(script: Scripted) -> Iterator[str]:
    """A server on loopback for as long as the block lasts; yields its address."""
    with ThreadPoolExecutor(max_workers=4) as threads:
        server = grpc.server(threads)
        rpc.add_VerificationServiceServicer_to_server(script, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait(5)
