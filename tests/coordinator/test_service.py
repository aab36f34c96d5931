"""The verification service against a real server on loopback, from request to verdict."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from coordinator.problems import ForbiddenTargetError, ResolverTimeoutError, UnresolvableTargetError
from coordinator.resolve import check_allowed, resolve
from coordinator.server import ListenError
from coordinator.settings import load
from poolproof.policy import SECOND_NS
from poolproof.target import InvalidTargetError, Target
from poolproof.v1 import judgement_pb2 as judgement
from poolproof.v1 import record_pb2
from poolproof.v1 import verification_pb2 as pb
from tests.coordinator.agents import World, fleet_of
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import TARGET, coordinator, environment, eventually, in_memory, stub

if TYPE_CHECKING:
    from poolproof.v1.verification_pb2_grpc import VerificationServiceAsyncStub


@pytest.fixture
async def address_and_channel(tmp_path: Path) -> AsyncIterator[tuple[str, grpc.aio.Channel]]:
    async with in_memory(tmp_path) as both:
        yield both


@pytest.fixture
async def service(
    address_and_channel: tuple[str, grpc.aio.Channel], world: World
) -> AsyncIterator[VerificationServiceAsyncStub]:
    address, channel = address_and_channel
    async with fleet_of(a_fleet(), address, world):
        await world.until(lambda: len(world.connected) == len(a_fleet()))
        yield stub(channel)


@pytest.fixture
async def world() -> World:
    return World()


def wish(target: str = TARGET, applicant: str = "alice", key: str = "") -> pb.CreateVerificationRequest:
    return pb.CreateVerificationRequest(
        target=target,
        method=judgement.METHOD_DIFFERENTIAL,
        variant=judgement.VARIANT_BLOCK,
        applicant=applicant,
        idempotency_key=key,
    )


async def challenged(service: VerificationServiceAsyncStub, request: pb.CreateVerificationRequest) -> pb.Verification:
    name = (await service.CreateVerification(request)).verifications[0].id
    async for message in service.WatchVerification(pb.WatchVerificationRequest(id=name)):
        if message.verification.state == record_pb2.VERIFICATION_STATE_CHALLENGED:
            return message.verification
    raise AssertionError("the watch ended before the challenge")


def obey(world: World, view: pb.Verification) -> None:
    quiet = {r.perspective.vantage_id for r in view.rows if r.perspective.role == judgement.ROLE_MUST_BE_BLOCKED}
    world.answered = lambda job: job.vantage not in quiet


async def failing(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_a_watch_shows_every_step_to_the_proof_and_ends_with_it(
    service: VerificationServiceAsyncStub, world: World
) -> None:
    view = await challenged(service, wish())
    obey(world, view)
    seen: list[pb.Verification] = []
    async with asyncio.timeout(20):
        async for message in service.WatchVerification(pb.WatchVerificationRequest(id=view.id)):
            if not seen:
                await service.MarkReady(pb.MarkReadyRequest(id=view.id))
            seen.append(message.verification)
    assert seen[-1].verdict.HasField("proven"), seen[-1].verdict
    revisions = [each.revision for each in seen]
    assert revisions == sorted(set(revisions))
    assert {each.state for each in seen} == {
        record_pb2.VERIFICATION_STATE_CHALLENGED,
        record_pb2.VERIFICATION_STATE_MEASURING,
        record_pb2.VERIFICATION_STATE_CONCLUDED,
    }
    said = await service.ExplainVerification(pb.ExplainVerificationRequest(id=view.id))
    assert "proven" in said.headline
    assert said.advice
    assert said.counted


async def test_the_applicant_is_never_shown_a_witness(service: VerificationServiceAsyncStub, world: World) -> None:
    view = await challenged(service, wish())
    obey(world, view)
    await service.MarkReady(pb.MarkReadyRequest(id=view.id))
    done = await eventually(
        lambda: service.GetVerification(pb.GetVerificationRequest(id=view.id)),
        lambda answer: answer.verification.state == record_pb2.VERIFICATION_STATE_CONCLUDED,
    )
    views = [row.perspective for row in done.verification.rows]
    witnesses = [each for each in views if each.role == judgement.ROLE_WITNESS]
    assert [each.vantage_id for each in witnesses] == ["witness-1", "witness-2", "witness-3"]
    told = {each.vantage_id for each in views} - {each.vantage_id for each in witnesses}
    hidden = [vantage for vantage in a_fleet() if vantage.id not in told]
    assert len(hidden) == 4
    instructions = await service.GetInstructions(pb.GetInstructionsRequest(id=view.id, software="ntpsec"))
    trace = await service.GetTrace(pb.GetTraceRequest(id=view.id))
    said = await service.ExplainVerification(pb.ExplainVerificationRequest(id=view.id))
    assert trace.spans
    assert [vantage.ipv4 for vantage in a_fleet() if vantage.id in told and str(vantage.ipv4) in instructions.rendered]
    for answer in (done, instructions, trace, said):
        for vantage in hidden:
            assert f'"{vantage.id}"' not in str(answer)
            assert f'"{vantage.ipv4}"' not in str(answer)
            assert f"{vantage.ipv4}/" not in str(answer)
    everything = await service.GetTrace(pb.GetTraceRequest(id=view.id, operator_view=True))
    assert all(vantage.id in str(everything) for vantage in hidden)


async def test_two_verifications_of_one_target_by_one_applicant_are_not_open_together(
    service: VerificationServiceAsyncStub,
) -> None:
    first = (await service.CreateVerification(wish(key="mine"))).verifications[0]
    code, details = await failing(service.CreateVerification(wish()))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert first.id in details
    again = (await service.CreateVerification(wish(key="mine"))).verifications[0]
    assert again.id == first.id
    await service.WithdrawVerification(pb.WithdrawVerificationRequest(id=first.id))
    code, details = await failing(service.WithdrawVerification(pb.WithdrawVerificationRequest(id=first.id)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_attempt_that_is_refuted_can_be_tried_again_after_a_pause(
    service: VerificationServiceAsyncStub,
) -> None:
    view = await challenged(service, wish())
    code, details = await failing(service.RetryVerification(pb.RetryVerificationRequest(id=view.id)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "under way" in details
    await service.MarkReady(pb.MarkReadyRequest(id=view.id))
    async for message in service.WatchVerification(pb.WatchVerificationRequest(id=view.id)):
        last = message.verification
    assert last.verdict.HasField("refuted")

    async def retry() -> pb.RetryVerificationResponse | None:
        try:
            return await service.RetryVerification(pb.RetryVerificationRequest(id=view.id))
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
            return None

    second = await eventually(retry, lambda answer: answer is not None)
    assert second is not None
    assert [attempt.number for attempt in second.verification.attempts] == [1, 2]
    first = await service.GetTrace(pb.GetTraceRequest(id=view.id, attempt=1))
    latest = await service.GetTrace(pb.GetTraceRequest(id=view.id))
    assert first.trace_id != latest.trace_id


async def test_one_key_is_one_request_of_one_applicant(service: VerificationServiceAsyncStub) -> None:
    """The parts used to be joined by NUL, which each of them may contain: one could pass for another."""
    asked = [wish(applicant=who, key=key) for who, key in (("b", "k\0a"), ("a\0b", "k"), ("b", "k\0a"))]
    names = [(await service.CreateVerification(each)).verifications[0].id for each in asked]
    assert names[0] == names[2] != names[1]


async def test_lists_are_the_newest_first_in_pages_and_filtered(service: VerificationServiceAsyncStub) -> None:
    names = []
    for n in range(5):
        applicant = "alice" if n % 2 else "bob"
        names.append((await service.CreateVerification(wish(f"127.7.8.{n + 1}", applicant))).verifications[0].id)
    listed: list[str] = []
    token, pages = "", 0
    while token or not pages:
        page = await service.ListVerifications(pb.ListVerificationsRequest(page_size=2, page_token=token))
        listed += [each.id for each in page.verifications]
        token, pages = page.next_page_token, pages + 1
    assert listed == names[::-1]
    assert pages == 3
    mine = await service.ListVerifications(pb.ListVerificationsRequest(applicant="alice"))
    assert [each.id for each in mine.verifications] == [names[3], names[1]]
    none = await service.ListVerifications(
        pb.ListVerificationsRequest(states=[record_pb2.VERIFICATION_STATE_WITHDRAWN])
    )
    assert list(none.verifications) == []


async def test_what_cannot_be_done_is_refused_with_the_field_and_the_remedy(
    service: VerificationServiceAsyncStub,
) -> None:
    name = (await service.CreateVerification(wish())).verifications[0].id
    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    expected = (
        (service.CreateVerification(wish("10.0.0.1")), invalid, "private use"),
        (service.CreateVerification(wish("127.0.0.1:124")), invalid, "give one of 123"),
        (service.CreateVerification(wish("1.2.3")), invalid, "give an IPv4 or IPv6 address"),
        (service.CreateVerification(wish("")), invalid, "target"),
        (service.CreateVerification(wish(applicant="")), invalid, "applicant"),
        (service.CreateVerification(pb.CreateVerificationRequest(target=TARGET, applicant="a")), invalid, "method"),
        (service.GetVerification(pb.GetVerificationRequest(id="nothere")), missing, "nothere"),
        (service.GetVerification(pb.GetVerificationRequest()), missing, "id"),
        (service.MarkReady(pb.MarkReadyRequest(id="no/t here")), missing, "id"),
        (service.GetInstructions(pb.GetInstructionsRequest(id=name, software="sundial")), invalid, "chrony"),
        (service.ListVerifications(pb.ListVerificationsRequest(page_size=501)), invalid, "500"),
        (service.ListVerifications(pb.ListVerificationsRequest(page_token="../x")), invalid, "next_page_token"),
        (service.GetTrace(pb.GetTraceRequest(id=name, attempt=7)), invalid, "give one of 1"),
        (
            service.GetInstructions(pb.GetInstructionsRequest(id=name, software="ntpsec")),
            grpc.StatusCode.FAILED_PRECONDITION,
            "once it is challenged",
        ),
        (service.MarkReady(pb.MarkReadyRequest(id=name)), grpc.StatusCode.FAILED_PRECONDITION, "say ready once"),
    )
    for call, code, words in expected:
        got, details = await failing(call)
        assert (got, words in details) == (code, True), (got, details)
    watch = service.WatchVerification(pb.WatchVerificationRequest(id="nothere"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is missing


async def test_health_says_serving_and_reflection_names_the_services(
    address_and_channel: tuple[str, grpc.aio.Channel],
) -> None:
    _, channel = address_and_channel
    health = health_pb2_grpc.HealthStub(channel)

    async def status() -> int:
        request = health_pb2.HealthCheckRequest(service="poolproof.v1.AgentService")
        try:
            return int((await health.Check(request)).status)
        except grpc.aio.AioRpcError:
            return 0

    await eventually(status, lambda seen: seen == health_pb2.HealthCheckResponse.SERVING)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]))
    async for answer in call:
        names = {each.name for each in answer.list_services_response.service}
    assert {"poolproof.v1.AgentService", "poolproof.v1.VerificationService", "grpc.health.v1.Health"} <= names


async def test_two_coordinators_do_not_share_a_port(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as (address, _):
        settings = load(environment(tmp_path, address, store="memory"))
        with pytest.raises(ListenError, match=address):
            async with coordinator(settings):
                pass


async def _nobody(host: str, port: int) -> Iterable[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def _later(host: str, port: int) -> Iterable[str]:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


async def _never(host: str, port: int) -> Iterable[str]:
    await asyncio.Event().wait()
    return ()


async def _both(host: str, port: int) -> Iterable[str]:
    return ("2001:db8::7", "192.0.2.7", "::ffff:192.0.2.7")


async def test_a_host_name_is_one_target_for_each_of_its_addresses() -> None:
    found = await resolve("ntp.example.org:1123", SECOND_NS, _both)
    assert found == (Target("192.0.2.7", 1123), Target("2001:db8::7", 1123))
    assert await resolve("[2001:db8::7]", SECOND_NS, _nobody) == (Target("2001:db8::7"),)
    with pytest.raises(UnresolvableTargetError, match="check the spelling"):
        await resolve("ntp.example.org", SECOND_NS, _nobody)
    with pytest.raises(ResolverTimeoutError, match="try again"):
        await resolve("ntp.example.org", SECOND_NS, _later)
    with pytest.raises(ResolverTimeoutError, match=r"within 0\.001 s"):
        await resolve("ntp.example.org", SECOND_NS // 1000, _never)
    with pytest.raises(InvalidTargetError):
        await resolve("300.1.2.3", SECOND_NS, _both)
    with pytest.raises(ForbiddenTargetError, match="documentation"):
        check_allowed(replace(found[0], port=123), (), frozenset({123}))
