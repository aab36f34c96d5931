"""What a coordinator says is bounded: in number, in length, in how long it is believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from poolproof.job import Job
from poolproof.v1 import agent_pb2 as pb
from poolproof.v1 import evidence_pb2
from probe.ending import LONGEST_RETRY_S, MOST_TEXT, EndKind
from probe.session import rejected
from tests.probe.coordinator_peer import MS, Counted, Peer, job, probing, raw_lease, serving, settings, target


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"lease": pb.Lease(jobs=[evidence_pb2.Job(id="j")] * 257)}, "lease.jobs: '257 entries': give 1 to 256"),
        ({"lease": pb.Lease()}, "lease.jobs: '0 entries': give 1 to 256"),
        ({"report_ack": pb.ReportAck(job_ids=["j"] * 4097)}, "report_ack.job_ids: '4097 entries'"),
        ({"report_ack": pb.ReportAck(refused=[pb.RefusedReport(job_id="j")] * 4097)}, "report_ack.refused"),
    ],
)
async def test_a_list_longer_than_the_contract_has_ends_the_session_unread(
    tmp_path: Path, sent: dict[str, object], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer, counted = Peer(), Counted()
    async with (
        target() as responder,
        serving(peer) as port,
        probing(settings(tmp_path, port, responder), metering=counted),
    ):
        stream = await peer.session(1)
        stream.send(**sent)
        await peer.session(2)
        assert await counted.ended(1) == [EndKind.INVALID.value]
    assert words in str([vars(record).get("detail") for record in caplog.records])
    assert not stream.all("job_refused")


async def test_an_id_that_is_none_comes_back_cut_however_long_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    peer = Peer()
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)):
        stream = await peer.session(1)
        lease = raw_lease([job("j", responder)])
        lease.jobs[0].id = "j" * 2_000_000
        stream.send(lease=lease)
        stream.send(report_ack=pb.ReportAck(refused=[pb.RefusedReport(job_id="j1", reason="r" * 2_000_000)]))
        for _ in range(20):
            stream.send(drain=pb.Drain(reason="d" * 2_000_000))
        await stream.until(lambda: bool(stream.all("job_refused")))
        await peer.session(2)
    (refused,) = [message.job_refused for message in stream.all("job_refused")]
    assert (refused.job_id, refused.reason) == ("j" * 256, pb.JOB_REFUSAL_INVALID)
    logged = [str(value) for record in caplog.records for value in vars(record).values()]
    assert max(map(len, logged)) < 3 * MOST_TEXT
    assert any(value.startswith("r" * MOST_TEXT) for value in logged)
    assert sum(value.startswith("d" * MOST_TEXT) for value in logged) == 1, "it drains once, however often it says so"


async def test_jobs_beyond_the_minutes_limit_are_refused_unread_over_all_sessions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer(acknowledges=True)
    async with target() as responder, serving(peer) as port:
        where = settings(tmp_path, port, responder)
        async with probing(replace(where, guard=replace(where.guard, jobs_per_minute=2))):
            first = await peer.session(1)
            first.send(lease=pb.Lease(jobs=[evidence_pb2.Job(id="bad")]))
            first.lease(job("j1", responder))
            await first.reports(1)
            first.break_off()
            second = await peer.session(2)
            second.lease(job("j2", responder), job("j3", responder))
            await second.until(lambda: len(second.all("job_refused")) == 2)
    refused = [message.job_refused for message in second.all("job_refused")]
    assert [(each.job_id, each.reason) for each in refused] == [
        ("j2", pb.JOB_REFUSAL_CAPACITY),
        ("j3", pb.JOB_REFUSAL_CAPACITY),
    ]
    assert all("guard.jobs_per_minute" in each.detail for each in refused)
    assert [vars(record).get("job") for record in caplog.records if record.message == "job refused"] == ["bad", "j2"]


async def test_a_coordinator_that_takes_no_reports_gets_no_more_work_done(tmp_path: Path) -> None:
    peer = Peer()
    async with target() as responder, serving(peer) as port:
        where = settings(tmp_path, port, responder)
        async with probing(replace(where, journal=replace(where.journal, max_reports=1))):
            stream = await peer.session(1)
            stream.lease(job("j1", responder))
            await stream.reports(1)
            stream.lease(job("j2", responder))
            await stream.until(lambda: bool(stream.all("job_refused")))
            (refused,) = [message.job_refused for message in stream.all("job_refused")]
            assert (refused.job_id, refused.reason) == ("j2", pb.JOB_REFUSAL_CAPACITY)
            assert "journal.max_reports" in refused.detail
            stream.ack("j1")
            await stream.nothing_owed()
            stream.lease(job("j3", responder))
            await stream.until(lambda: len(stream.all("job_accepted")) == 2)


async def test_bytes_that_are_no_message_cost_a_session_and_nothing_else(tmp_path: Path) -> None:
    welcome = pb.SessionResponse(
        welcome=pb.Welcome(session_id="s", heartbeat_interval_ns=1_000 * MS, protocol_version=1, server_time_ns=1)
    )

    async def garbage(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        await anext(requests)
        yield welcome.SerializeToString()
        yield b"\xff" * 1_000
        await anext(requests)

    handler = grpc.stream_stream_rpc_method_handler(garbage)
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("poolproof.v1.AgentService", {"Session": handler})]
    )
    port, counted = server.add_insecure_port("127.0.0.1:0"), Counted()
    await server.start()
    try:
        async with target() as responder, probing(settings(tmp_path, port, responder), metering=counted):
            assert await counted.ended(2) == [EndKind.LOST.value] * 2
    finally:
        await server.stop(None)


async def test_a_bug_that_a_job_brings_out_costs_that_job_and_not_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(asked: Job, *_: object, **__: object) -> tuple[()]:
        if asked.id == "bad":
            raise ZeroDivisionError
        return ()

    monkeypatch.setattr("probe.workload.job_spans", broken)
    peer = Peer(acknowledges=True)
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)) as probe:
        stream = await peer.session(1)
        stream.lease(job("bad", responder))
        await stream.until(lambda: "job failed outside of its account" in caplog.text)
        stream.lease(job("good", responder))
        (delivery,) = await stream.reports(1)
        assert delivery.report.job_id == "good"
        assert not probe.task.done()
        assert "bad" in probe.journal.held(), "its report is on the disk, and goes out with the next start"


def test_a_rejection_keeps_a_probe_away_for_an_hour_at_most_and_says_little() -> None:
    end = rejected(pb.Reject(reason=pb.REJECT_REASON_IDENTITY, detail="x" * 1_000_000, retry_after_ns=(1 << 64) - 1))
    assert (end.kind, end.retry_after_s, end.is_final) == (EndKind.REJECTED, LONGEST_RETRY_S, False)
    assert len(end.detail) < 2 * MOST_TEXT
