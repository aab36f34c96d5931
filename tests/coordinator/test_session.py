"""Agents' sessions against a real server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import pytest

from coordinator.settings import CoordinatorSettings
from coordinator.store.memory import MemoryStore
from coordinator.store.port import Store
from coordinator.tickets import Tickets
from poolproof.exchange import LocalFault
from poolproof.ids import JobId, VantageId
from poolproof.job import Job, Report
from poolproof.target import Target
from poolproof.v1 import agent_pb2 as pb
from poolproof.v1 import agent_pb2_grpc as rpc
from poolproof.v1 import evidence_pb2, judgement_pb2, record_pb2
from poolproof.v1 import verification_pb2 as api
from poolproof.wire import lease_from_wire, report_to_wire
from tests.coordinator.agents import OPTIONS, hello
from tests.coordinator.doubles import report_of
from tests.coordinator.running import TARGET, eventually, in_memory, stub

KEY = bytes(range(32))
Call = grpc.aio.StreamStreamCall[pb.SessionRequest, pb.SessionResponse]
PATIENCE_S = 10.0


@dataclass
class Line:
    """One agent's stream, by hand."""

    call: Call
    heartbeats: int = 0
    seen: list[pb.SessionResponse] = field(default_factory=list)

    async def send(self, message: pb.SessionRequest) -> None:
        await self.call.write(message)

    async def next(self, kind: str) -> pb.SessionResponse:
        """The next message of a kind; others are set aside."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self.call.read()
                assert isinstance(message, pb.SessionResponse), f"the stream ended before any {kind}"
                self.seen.append(message)
                if message.WhichOneof("message") == kind:
                    return message

    async def beat(self, sent_at_ns: int = 0) -> None:
        self.heartbeats += 1
        beat = pb.Heartbeat(sequence=self.heartbeats, sent_at_ns=sent_at_ns or time.time_ns())
        await self.send(pb.SessionRequest(heartbeat=beat))

    async def end(self) -> grpc.StatusCode:
        """Reads on to the end of the stream."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(grpc.aio.AioRpcError):
                while isinstance(message := await self.call.read(), pb.SessionResponse):
                    self.seen.append(message)
            code: grpc.StatusCode = await self.call.code()
            return code


@dataclass
class House:
    """A coordinator and the lines to it."""

    address: str
    channel: grpc.aio.Channel
    stack: contextlib.AsyncExitStack

    async def line(self, first: pb.SessionRequest) -> Line:
        channel = await self.stack.enter_async_context(grpc.aio.insecure_channel(self.address, options=OPTIONS))
        call: Call = rpc.AgentServiceStub(channel).Session()  # type: ignore[call-arg]
        self.stack.callback(call.cancel)
        line = Line(call)
        await line.send(first)
        return line

    async def welcomed(self, vantage: str, nonce: bytes = b"n" * 16) -> Line:
        line = await self.line(hello(vantage, nonce))
        await line.next("welcome")
        return line

    async def status(self, vantage: str) -> api.VantageStatus:
        listed = await stub(self.channel).ListVantages(api.ListVantagesRequest())
        return next(each for each in listed.vantages if each.vantage.id == vantage)

    async def request(self) -> api.Verification:
        created = await stub(self.channel).CreateVerification(
            api.CreateVerificationRequest(
                target=TARGET,
                method=judgement_pb2.METHOD_DIFFERENTIAL,
                variant=judgement_pb2.VARIANT_BLOCK,
                applicant="alice",
            )
        )
        return created.verifications[0]

    async def known(self, name: str) -> int:
        answer = await stub(self.channel).GetVerification(api.GetVerificationRequest(id=name))
        return answer.verification.baseline_known


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async def state(settings: CoordinatorSettings) -> tuple[bytes, Store]:
        return KEY, MemoryStore()

    monkeypatch.setattr("coordinator.compose._state", state)
    async with in_memory(tmp_path) as (address, channel), contextlib.AsyncExitStack() as stack:
        yield House(address, channel, stack)


async def leased(house: House) -> tuple[Line, Line, Job, api.Verification]:
    """Two agents of which the first has its baseline job."""
    line, other = await house.welcomed("v01"), await house.welcomed("v02")
    verification = await house.request()
    (job,) = lease_from_wire((await line.next("lease")).lease)
    return line, other, job, verification


def delivery(job: Job, change: Callable[[Report], Report] = lambda report: report) -> pb.SessionRequest:
    report = change(report_of(job, lambda job: True))
    return pb.SessionRequest(report=pb.ReportDelivery(report=report_to_wire(report)))


async def test_a_heartbeat_is_echoed(house: House) -> None:
    line = await house.welcomed("v01")
    await line.beat(sent_at_ns=12345)
    echo = (await line.next("heartbeat_echo")).heartbeat_echo
    assert (echo.sequence, echo.sent_at_ns) == (1, 12345)


async def test_a_report_is_acknowledged_and_counts_once(house: House) -> None:
    line, _, job, verification = await leased(house)
    for _ in range(2):
        await line.send(delivery(job))
        assert list((await line.next("report_ack")).report_ack.job_ids) == [job.id]
    assert await house.known(verification.id) == 1


@pytest.mark.parametrize(
    ("spoil", "what", "words"),
    [
        (lambda report: replace(report, job=_sibling(report, "1/5/v01")), "bad-ticket", "was not issued to v01"),
        (lambda report: replace(report, job=JobId("nobody/1/baseline/v01")), "bad-ticket", "was not issued to v01"),
        (lambda report: replace(report, ticket=b""), "bad-ticket", "none... was not issued to v01"),
        (lambda report: replace(report, ticket=bytes((1,)) + report.ticket[1:]), "bad-ticket", "own job"),
        (lambda report: _forged(report, _sibling(report, "1/5/v01")), "no-such-job", "has no such job"),
        (lambda report: _forged(report, JobId("nobody/1/baseline/v01")), "unknown-verification", "no verification"),
        (lambda report: _forged(report, report.job, target="127.7.9.8"), "other-target", "was asked for 127.7.9.9"),
        (lambda report: _forged(report, report.job, expiry_ns=1), "expired-ticket", "expired"),
        (lambda report: replace(report, vantage=VantageId("v02")), "other-vantage", "send only your own"),
        (lambda report: replace(report, exchanges=report.exchanges[:1]), "other-target", "accounts for 1 exchanges"),
        (lambda report: _from_elsewhere(report), "other-target", "was asked for one from 127.7.0.1"),
    ],
)
async def test_a_foreign_report_is_refused_with_its_reason_counted_and_changes_nothing(
    house: House, spoil: Callable[[Report], Report], what: str, words: str
) -> None:
    line, _, job, verification = await leased(house)
    await line.send(delivery(job, spoil))
    (refused,) = (await line.next("report_ack")).report_ack.refused
    assert words in refused.reason
    assert await house.known(verification.id) == 0
    (incident,) = (await house.status("v01")).incidents
    assert (incident.what, incident.count) == (f"report refused: {what}", 1)
    assert words in incident.detail
    await line.send(delivery(job))
    assert list((await line.next("report_ack")).report_ack.job_ids) == [job.id], "the true one is taken all the same"


def silent(job: Job) -> Report:
    return report_of(job, lambda _: False)


def _sibling(report: Report, job: str) -> JobId:
    return JobId(f"{report.job.split('/')[0]}/{job}")


def _forged(report: Report, job: JobId, *, target: str = TARGET, expiry_ns: int | None = None) -> Report:
    """With a ticket that only a coordinator could have issued: what is behind the ticket refuses by itself."""
    exchanges = tuple(replace(each, destination=target) for each in report.exchanges)
    expiry = (time.time_ns() + 10**12 if expiry_ns is None else expiry_ns).to_bytes(8, "big")
    mac = Tickets(KEY, 0)._mac(report.vantage, job, Target(target), expiry)
    return replace(report, job=job, exchanges=exchanges, ticket=expiry + mac)


def _from_elsewhere(report: Report) -> Report:
    return replace(report, exchanges=tuple(replace(each, source="127.7.0.2") for each in report.exchanges))


async def test_a_report_of_another_agents_job_is_refused_even_with_its_ticket(house: House) -> None:
    line, other, job, verification = await leased(house)
    await other.next("lease")
    await other.send(delivery(job))
    (refused,) = (await other.next("report_ack")).report_ack.refused
    assert "this session is v02's" in refused.reason
    await other.send(delivery(job, lambda report: replace(report, vantage=VantageId("v02"))))
    (refused,) = (await other.next("report_ack")).report_ack.refused
    assert "was not issued to v02" in refused.reason
    assert await house.known(verification.id) == 0
    assert {each.what for each in (await house.status("v02")).incidents} == {
        "report refused: bad-ticket",
        "report refused: other-vantage",
    }
    assert not (await house.status("v01")).incidents
    await line.beat()


async def test_a_report_of_an_earlier_attempt_is_refused(tmp_path: Path) -> None:
    patient = {"heartbeat_interval_ns": "20000000000"}
    async with in_memory(tmp_path, **patient) as (address, channel), contextlib.AsyncExitStack() as stack:
        house = House(address, channel, stack)
        line, other, job, verification = await leased(house)
        (others,) = lease_from_wire((await other.next("lease")).lease)
        for each, its in ((line, job), (other, others)):
            await each.send(pb.SessionRequest(report=pb.ReportDelivery(report=report_to_wire(silent(its)))))
            await each.next("report_ack")
        service = stub(channel)

        async def state() -> int:
            answer = await service.GetVerification(api.GetVerificationRequest(id=verification.id))
            return answer.verification.state

        await eventually(state, lambda seen: seen == record_pb2.VERIFICATION_STATE_CONCLUDED)

        async def retried() -> bool:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await service.RetryVerification(api.RetryVerificationRequest(id=verification.id))
                return True
            return False

        await eventually(retried, bool)
        await line.send(delivery(job))
        (refused,) = (await line.next("report_ack")).report_ack.refused
        assert "attempt 2" in refused.reason
        assert [each.what for each in (await house.status("v01")).incidents] == ["report refused: old-attempt"]


async def test_a_report_that_says_nothing_valid_accounts_for_its_job(house: House) -> None:
    line, _, job, verification = await leased(house)
    message = delivery(job)
    message.report.report.exchanges[0].port = 70_000
    await line.send(message)
    (refused,) = (await line.next("report_ack")).report_ack.refused
    assert "port" in refused.reason
    assert await house.known(verification.id) == 1


async def test_a_report_too_large_to_store_is_refused_and_accounted_for(house: House) -> None:
    line, _, job, verification = await leased(house)
    message = delivery(job)
    message.report.report.exchanges[0].replies.extend(
        [evidence_pb2.Reply(payload=bytes(2048), received_at_ns=job.start_at_ns)] * 400
    )
    await line.send(message)
    (refused,) = (await line.next("report_ack")).report_ack.refused
    assert "at most 600000" in refused.reason
    assert await house.known(verification.id) == 1


async def test_an_agent_can_spoil_its_own_jobs_only(house: House) -> None:
    line, other, job, verification = await leased(house)
    await other.send(pb.SessionRequest(job_refused=pb.JobRefused(job_id=job.id, detail="mischief")))
    await other.beat()
    await other.next("heartbeat_echo")
    assert await house.known(verification.id) == 0
    await line.send(pb.SessionRequest(job_refused=pb.JobRefused(job_id=job.id, detail="guard")))
    await eventually(lambda: house.known(verification.id), lambda known: known == 1)


async def test_a_reconnecting_agent_takes_its_place_back_and_is_handed_what_it_owes(house: House) -> None:
    line, _, job, _ = await leased(house)
    again = await house.line(hello("v01"))
    await again.next("welcome")
    assert lease_from_wire((await again.next("lease")).lease)[0].id == job.id
    await line.end()
    assert line.seen[-1].reject.reason == pb.REJECT_REASON_TAKEN_OVER
    assert (await house.status("v01")).connected


async def test_another_process_with_the_same_identity_stays_out_while_the_first_lives(house: House) -> None:
    await house.welcomed("v01")
    thief = await house.line(hello("v01", b"t" * 16))
    reject = (await thief.next("reject")).reject
    assert reject.reason == pb.REJECT_REASON_IDENTITY
    assert "another agent process" in reject.detail
    assert reject.retry_after_ns > 0
    (incident,) = (await house.status("v01")).incidents
    assert (incident.what, incident.count) == ("session refused: second-process", 1)


async def test_an_agent_that_sends_from_elsewhere_than_its_vantage_stays_out(house: House) -> None:
    message = hello("v01")
    message.hello.ipv4 = "127.7.0.2"
    reject = (await (await house.line(message)).next("reject")).reject
    assert reject.reason == pb.REJECT_REASON_IDENTITY
    assert "the fleet file has 127.7.0.1 for v01" in reject.detail
    assert [each.what for each in (await house.status("v01")).incidents] == ["session refused: other-address"]
    message.hello.ipv4 = "127.7.0.1"
    await (await house.line(message)).next("welcome")


async def test_an_agent_that_falls_silent_is_dropped_and_its_place_is_free(house: House) -> None:
    line = await house.welcomed("v01")
    assert await line.end() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not (await house.status("v01")).connected
    await house.welcomed("v01", b"o" * 16)


async def _unknown(house: House) -> Line:
    return await house.line(hello("nobody"))


async def _late(house: House) -> Line:
    return await house.line(pb.SessionRequest(heartbeat=pb.Heartbeat()))


async def _malformed(house: House) -> Line:
    return await house.line(hello("v01", b"short"))


@pytest.mark.parametrize(
    ("call", "reason", "words"),
    [
        (_unknown, pb.REJECT_REASON_IDENTITY, "not in the fleet file"),
        (_late, pb.REJECT_REASON_INVALID, "is hello"),
        (_malformed, pb.REJECT_REASON_INVALID, "session_nonce"),
    ],
)
async def test_who_does_not_introduce_itself_properly_is_told_what_is_wrong(
    house: House, call: Callable[[House], Awaitable[Line]], reason: int, words: str
) -> None:
    reject = (await (await call(house)).next("reject")).reject
    assert reject.reason == reason
    assert words in reject.detail


async def test_a_message_that_is_not_valid_ends_the_session(house: House) -> None:
    line = await house.welcomed("v01")
    await line.send(hello("v01"))
    assert await line.end() is grpc.StatusCode.INVALID_ARGUMENT


async def test_agents_that_drain_or_have_a_wrong_clock_get_no_work(house: House) -> None:
    line = await house.welcomed("v01")
    await line.send(pb.SessionRequest(drain=pb.DrainNotice(reason="test")))
    await eventually(lambda: house.status("v01"), lambda status: status.draining)
    wrong = await house.welcomed("v02")
    await wrong.beat(sent_at_ns=time.time_ns() + 3_000_000_000)
    await wrong.next("heartbeat_echo")
    checked = await house.welcomed("v03")
    clock = evidence_pb2.ClockCheck(offset_ns=400_000_000, error_ns=1_000_000, samples=3)
    beat = pb.Heartbeat(sequence=1, sent_at_ns=time.time_ns(), clock=clock)
    await checked.send(pb.SessionRequest(heartbeat=beat))
    await checked.next("heartbeat_echo")
    with pytest.raises(grpc.aio.AioRpcError, match="no vantage") as refused:
        await house.request()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_agents_are_told_when_the_coordinator_stops_and_their_last_reports_are_taken(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        inner = contextlib.AsyncExitStack()
        address, channel = await inner.enter_async_context(in_memory(tmp_path))
        house = House(address, channel, stack)
        line, _, job, _ = await leased(house)
        stopping = asyncio.create_task(inner.aclose())
        await line.next("drain")
        await line.send(delivery(job, lambda _: report_of(job, lambda _: False, LocalFault.DRAINING)))
        assert list((await line.next("report_ack")).report_ack.job_ids) == [job.id]
        await stopping
