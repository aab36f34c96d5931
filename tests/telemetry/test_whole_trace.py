"""One trace from the request to the packet: real coordinator, real stream, a probe in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from coordinator.settings import load
from coordinator.trace_tree import draw_text
from poolproof import semconv
from poolproof.fleet import Vantage
from poolproof.span import Span
from poolproof.v1 import judgement_pb2, record_pb2
from poolproof.v1 import verification_pb2 as pb
from poolproof.wire.trace import spans_from_wire
from probe.responder import Responder
from tests.coordinator.agents import World, fleet_of
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import coordinator, environment, eventually, stub

if TYPE_CHECKING:
    from poolproof.v1.verification_pb2_grpc import VerificationServiceAsyncStub

POLICY = """
baseline_exchanges = 1
baseline_min_answers = 1
"""
MS = 1_000_000


@asynccontextmanager
async def probe_process(vantage: Vantage, address: str, port: int, state: Path) -> AsyncIterator[int]:
    """A real probe; on the way out it is stopped, and must end well."""
    variables = {
        "VANTAGE": vantage.id,
        "COORDINATOR": address,
        "IPV4": str(vantage.ipv4),
        "GUARD_ALLOW_NETWORKS": "127.0.0.0/8",
        "GUARD_ALLOW_PORTS": str(port),
        "CONTROL_SERVERS": f"127.7.9.9:{port}",
        "CONTROL_LEAD_NS": str(100 * MS),
        "JOURNAL_DIRECTORY": str(state),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from probe.cli import probe; probe()",
        env={
            **{f"POOLPROOF_PROBE_{name}": value for name, value in variables.items()},
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(15):
                _, log = await process.communicate()
        except TimeoutError:
            process.kill()
            _, log = await process.communicate()
    assert process.returncode == 0, log.decode()


async def test_every_span_of_an_attempt_is_in_one_tree_and_attempts_are_linked(tmp_path: Path) -> None:
    responder = Responder([("127.7.9.9", 0)])
    ((target),) = await responder.start()
    beat = str(2_000 * MS)
    variables = environment(tmp_path, store="memory", allow_ports=str(target.port), heartbeat_interval_ns=beat)
    policy = tmp_path / "policy.toml"
    policy.write_text(policy.read_text() + POLICY)
    real, *others = a_fleet()
    world = World()
    try:
        async with (
            coordinator(load(variables)) as address,
            grpc.aio.insecure_channel(address) as channel,
            fleet_of(tuple(others), address, world),
            probe_process(real, address, target.port, tmp_path / "probe"),
        ):
            service = stub(channel)
            await eventually(lambda: service.ListVantages(pb.ListVantagesRequest()), all_connected)
            request = pb.CreateVerificationRequest(
                target=f"127.7.9.9:{target.port}",
                method=judgement_pb2.METHOD_DIFFERENTIAL,
                variant=judgement_pb2.VARIANT_BLOCK,
                applicant="alice",
            )
            name = (await service.CreateVerification(request)).verifications[0].id
            first = await refuted_attempt(service, name)
            await eventually(lambda: retried(service, name), bool)
            second = await refuted_attempt(service, name)
    finally:
        await responder.stop()
    for spans in (first, second):
        check_one_tree(spans, real)
    # What comes too soon for the probe's own pace it refuses, and that too is in the tree.
    assert "replied" in {span.attributes[semconv.OUTCOME] for span in first if span.name == semconv.EXCHANGE}
    assert {span.attributes[semconv.SIDE] for span in first if span.name == semconv.CONTROL} == {"before", "after"}
    assert links(first) == set()
    assert links(second) == {first[0].context.trace_id}
    assert first[0].context.trace_id != second[0].context.trace_id


def all_connected(answer: pb.ListVantagesResponse) -> bool:
    return sum(vantage.connected for vantage in answer.vantages) == len(a_fleet())


async def retried(service: VerificationServiceAsyncStub, name: str) -> bool:
    """False: the pause between attempts is not over."""
    try:
        await service.RetryVerification(pb.RetryVerificationRequest(id=name))
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        return False
    return True


async def refuted_attempt(service: VerificationServiceAsyncStub, name: str) -> tuple[Span, ...]:
    """Takes an attempt to its end (nobody configured the target) and fetches its trace."""
    async for message in service.WatchVerification(pb.WatchVerificationRequest(id=name)):
        match message.verification.state:
            case record_pb2.VERIFICATION_STATE_CHALLENGED:
                # The other vantages' agents are answered as well: all of them see a target that serves everybody.
                await service.MarkReady(pb.MarkReadyRequest(id=name))
            case record_pb2.VERIFICATION_STATE_CONCLUDED:
                break

    async def trace() -> tuple[Span, ...]:
        answer = await service.GetTrace(pb.GetTraceRequest(id=name, operator_view=True))
        return spans_from_wire(answer.spans)

    def is_whole(spans: tuple[Span, ...]) -> bool:
        ids = {span.context.span_id for span in spans}
        return len(spans) > 20 and all(span.parent is None or span.parent in ids for span in spans)

    # Dispatch spans are stored a moment after the fact.
    return await eventually(trace, is_whole)


def links(spans: tuple[Span, ...]) -> set[bytes]:
    return {link.context.trace_id for span in spans for link in span.links}


def check_one_tree(spans: tuple[Span, ...], real: Vantage) -> None:
    by_id = {span.context.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert len({span.context.trace_id for span in spans}) == 1
    assert [span.name for span in spans if span.parent is None] == [semconv.ATTEMPT]

    def path(span: Span) -> tuple[str, ...]:
        return (*path(by_id[span.parent]), span.name) if span.parent is not None else (span.name,)

    paths = {path(span) for span in spans}
    to_job = (semconv.ATTEMPT, semconv.BASELINE, semconv.DISPATCH, semconv.JOB)
    assert (*to_job, semconv.EXCHANGE) in paths
    assert (semconv.ATTEMPT, semconv.ROUND, semconv.DISPATCH) in paths
    assert {p[0] for p in paths} == {semconv.ATTEMPT}
    makers = {span.name: span.resource["service.name"] for span in spans}
    assert makers[semconv.DISPATCH] == semconv.COORDINATOR
    assert makers[semconv.EXCHANGE] == semconv.PROBE
    jobs = [span for span in spans if span.name == semconv.JOB]
    assert {span.attributes[semconv.VANTAGE] for span in jobs} == {real.id}
    drawn = draw_text(spans)
    assert "has not arrived" not in drawn
    assert drawn.count("\n") == len(spans)
