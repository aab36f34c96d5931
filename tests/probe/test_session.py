"""The agent's session over a real stream, with real packets to a responder on the loopback."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from poolproof import semconv
from poolproof.ids import JobId
from poolproof.span import read_traceparent
from poolproof.v1 import agent_pb2 as pb
from poolproof.v1 import evidence_pb2
from poolproof.wire.trace import spans_from_wire
from probe.agent import AgentTimings, RejectedError
from probe.journal import EntryState, Journal
from probe.session import decode_report
from tests.probe.coordinator_peer import (
    HOUSE_TRACE,
    MS,
    Counted,
    Peer,
    job,
    probing,
    raw_lease,
    serving,
    settings,
    target,
)


async def test_a_leased_job_is_accepted_done_and_kept_until_acknowledged(tmp_path: Path) -> None:
    peer = Peer()
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)) as probe:
        stream = await peer.session(1)
        assert stream.hello.vantage_id == "ams1"
        assert list(stream.hello.held_job_ids) == []
        stream.lease(job("w1/1/0/ams1", responder))
        (delivery,) = await stream.reports(1)
        assert [list(m.job_accepted.job_ids) for m in stream.all("job_accepted")] == [["w1/1/0/ams1"]]
        assert delivery.report.exchanges[0].replies
        assert delivery.report.control_before
        assert delivery.report.control_after
        assert probe.journal.held() == ("w1/1/0/ams1",)
        stream.ack("w1/1/0/ams1")
        await stream.nothing_owed()
        entry = probe.journal.find(JobId("w1/1/0/ams1"))
        assert entry is not None
        assert entry.state is EntryState.ACKNOWLEDGED


async def test_spans_of_a_report_hang_below_the_dispatch_that_the_lease_names(tmp_path: Path) -> None:
    peer = Peer()
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)):
        stream = await peer.session(1)
        stream.lease(job("j1", responder))
        (delivery,) = await stream.reports(1)
    spans = spans_from_wire(delivery.spans)
    dispatch = read_traceparent(HOUSE_TRACE)
    assert dispatch is not None
    by_id = {span.context.span_id: span for span in spans}
    paths = []
    for span in spans:
        assert span.context.trace_id == dispatch.trace_id
        names, at = [span.name], span.parent
        while at != dispatch.span_id:
            assert at is not None
            names.append(by_id[at].name)
            at = by_id[at].parent
        paths.append(tuple(reversed(names)))
    assert sorted(paths) == sorted(
        [
            (semconv.JOB,),
            (semconv.JOB, semconv.CONTROL),
            (semconv.JOB, semconv.CONTROL, semconv.EXCHANGE),
            (semconv.JOB, semconv.EXCHANGE),
            (semconv.JOB, semconv.CONTROL),
            (semconv.JOB, semconv.CONTROL, semconv.EXCHANGE),
        ]
    )
    exchange = delivery.report.exchanges[0]
    (step,) = (s for s in spans if s.name == semconv.EXCHANGE and by_id[s.parent or b""].name == semconv.JOB)
    assert (step.start_ns, step.end_ns) == (exchange.sent_at_ns, exchange.replies[0].received_at_ns)
    assert step.attributes[semconv.OUTCOME] == "replied"


async def test_a_job_leased_many_times_sends_its_packets_once_and_is_answered_again(tmp_path: Path) -> None:
    peer = Peer(acknowledges=True)
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)):
        stream = await peer.session(1)
        leased = job("j1", responder)
        for _ in range(3):
            stream.lease(leased)
        first = (await stream.reports(1))[0]
        sent = responder.answered
        assert sent == 3, "one exchange, one control exchange before and one after"
        stream.lease(leased)
        again = (await stream.reports(2))[1]
        assert again.report == first.report
        assert responder.answered == sent
        assert len(stream.all("report")) == 2


async def test_a_report_that_was_not_acknowledged_comes_again_on_the_next_stream(tmp_path: Path) -> None:
    peer = Peer()
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)):
        first = await peer.session(1)
        first.lease(job("j1", responder))
        (lost,) = await first.reports(1)
        first.break_off()
        second = await peer.session(2)
        assert list(second.hello.held_job_ids) == ["j1"]
        (again,) = await second.reports(1)
        assert again == lost, "the spans come again as well"
        assert second.hello.session_nonce == first.hello.session_nonce


async def test_a_job_goes_on_while_there_is_no_stream(tmp_path: Path) -> None:
    peer = Peer()
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)):
        first = await peer.session(1)
        first.lease(job("j1", responder))
        await first.until(lambda: bool(first.all("job_accepted")))
        first.break_off()
        second = await peer.session(2)
        assert list(second.hello.held_job_ids) == ["j1"]
        (delivery,) = await second.reports(1)
        assert not delivery.report.exchanges[0].HasField("fault")


async def test_reports_of_an_earlier_process_are_delivered_by_the_next(tmp_path: Path) -> None:
    peer = Peer()
    async with target() as responder, serving(peer) as port:
        where = settings(tmp_path, port, responder)
        async with probing(where):
            first = await peer.session(1)
            first.lease(job("j1", responder))
            (lost,) = await first.reports(1)
        async with probing(where):
            second = await peer.session(2)
            (again,) = await second.reports(1)
        assert again.report == lost.report
        assert again.spans_dropped, "it says that there were spans"


async def test_more_reports_than_fit_the_window_all_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.outbox.WINDOW", 2)
    peer = Peer(acknowledges=True)
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)) as probe:
        stream = await peer.session(1)
        past = [job(f"j{n}", responder, ahead_ns=-1000 * MS) for n in range(9)]
        stream.lease(*past)
        reports = await stream.reports(9)
        assert {each.report.job_id for each in reports} == {each.id for each in past}
        await stream.nothing_owed()
        assert probe.journal.held() == ()


async def test_a_coordinator_that_stops_answering_is_left_within_three_heartbeats(tmp_path: Path) -> None:
    peer = Peer(heartbeat_ns=100 * MS)
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)):
        await peer.session(1)
        peer.echoes = False
        began = asyncio.get_running_loop().time()
        await peer.session(2)
        took_s = asyncio.get_running_loop().time() - began
        assert took_s < 3.0
        peer.echoes = True


async def test_while_heartbeats_are_echoed_an_idle_session_lasts(tmp_path: Path) -> None:
    peer = Peer(heartbeat_ns=100 * MS)
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)):
        stream = await peer.session(1)
        await stream.until(lambda: len(stream.all("heartbeat")) >= 8)
        sequences = [message.heartbeat.sequence for message in stream.all("heartbeat")]
        assert sequences == list(range(1, len(sequences) + 1))
        assert peer.dialled == 1


async def test_a_coordinator_that_never_welcomes_is_given_up(tmp_path: Path) -> None:
    counted = Counted()
    timings = AgentTimings(0.01, 0.02, 0.1, patience_s=0.2, steady_s=1, drain_s=1)
    # The kernel takes the connection; nobody ever speaks.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with (
            target() as responder,
            probing(settings(tmp_path, port, responder), timings=timings, metering=counted),
        ):
            assert set(await counted.ended(2)) == {"unreachable"}


async def test_stop_finishes_the_running_job_delivers_it_and_says_so(tmp_path: Path) -> None:
    peer = Peer(acknowledges=True)
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)) as probe:
        stream = await peer.session(1)
        stream.lease(job("j1", responder))
        await until_begun(probe.journal, "j1")
        probe.agent.stop()
        await stream.until(lambda: bool(stream.all("drain")))
        stream.lease(job("j2", responder))
        done, refused = await stream.reports(2)
        by_job = {each.report.job_id: each.report for each in (done, refused)}
        assert not by_job["j1"].exchanges[0].HasField("fault")
        assert by_job["j2"].exchanges[0].fault == pb_fault("DRAINING")
        await probe.ended()
        assert probe.journal.held() == ()


async def test_stop_is_bounded_and_what_is_owed_stays_in_the_journal(tmp_path: Path) -> None:
    peer = Peer()
    timings = AgentTimings(0.01, 0.02, 0.1, patience_s=2, steady_s=1, drain_s=0.3)
    async with target() as responder, serving(peer) as port:
        where = settings(tmp_path, port, responder)
        async with probing(where, timings=timings) as probe:
            stream = await peer.session(1)
            stream.lease(job("j1", responder))
            await stream.reports(1)
            probe.agent.stop()
            await probe.ended()
            assert probe.journal.held() == ("j1",)


async def test_stop_without_a_coordinator_and_without_work_ends_at_once(tmp_path: Path) -> None:
    peer = Peer()
    async with target() as responder:
        async with serving(peer) as port:
            pass
        slow = AgentTimings(30, 30, 30, patience_s=2, steady_s=1, drain_s=60)
        async with probing(settings(tmp_path, port, responder), timings=slow) as probe:
            probe.agent.stop()
            await probe.ended()


async def test_a_coordinator_that_drains_is_left_when_nothing_is_owed_and_dialled_again(tmp_path: Path) -> None:
    peer = Peer(acknowledges=True)
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)):
        first = await peer.session(1)
        first.lease(job("j1", responder))
        await first.until(lambda: bool(first.all("job_accepted")))
        first.outgoing.put_nowait(pb.SessionResponse(drain=pb.Drain(reason="rollout")))
        second = await peer.session(2)
        assert len(first.all("report")) == 1
        assert list(second.hello.held_job_ids) == []


@pytest.mark.parametrize("reason", ["VERSION", "IDENTITY", "TAKEN_OVER", "INVALID"])
async def test_a_rejection_that_only_people_can_mend_ends_the_agent_with_its_reason(
    tmp_path: Path, reason: str
) -> None:
    value = pb.RejectReason.Value(f"REJECT_REASON_{reason}")
    peer = Peer(reject=pb.Reject(reason=value, detail="vantage 'ams1' is not in the fleet; add it"))
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)) as probe:
        with pytest.raises(RejectedError, match="not in the fleet; add it"):
            await probe.ended()
    assert peer.dialled == 1


async def test_a_rejection_for_now_is_followed_by_another_attempt_when_it_says(tmp_path: Path) -> None:
    full = pb.Reject(reason=pb.REJECT_REASON_CAPACITY, detail="full", retry_after_ns=300 * MS)
    peer = Peer(reject=full)
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)):
        await peer.dials(1)
        began = asyncio.get_running_loop().time()
        peer.reject = None
        await peer.session(1)
        assert asyncio.get_running_loop().time() - began >= 0.25


async def test_a_job_that_is_not_valid_is_refused_by_field_and_the_others_are_done(tmp_path: Path) -> None:
    peer = Peer(acknowledges=True)
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)):
        stream = await peer.session(1)
        lease = raw_lease([job("bad", responder), job("good", responder)])
        lease.jobs[0].target.address = "127.0.0.01"
        stream.outgoing.put_nowait(pb.SessionResponse(lease=lease))
        (delivery,) = await stream.reports(1)
        assert delivery.report.job_id == "good"
        (refused,) = [message.job_refused for message in stream.all("job_refused")]
        assert (refused.job_id, refused.reason) == ("bad", pb.JOB_REFUSAL_INVALID)
        assert "lease.jobs[0].target.address" in refused.detail


async def test_more_jobs_than_may_be_under_way_are_refused_for_capacity(tmp_path: Path) -> None:
    peer = Peer(acknowledges=True)
    async with target() as responder, serving(peer) as port:
        where = settings(tmp_path, port, responder)
        where = replace(where, guard=replace(where.guard, max_jobs=1))
        async with probing(where):
            stream = await peer.session(1)
            assert stream.hello.capabilities.capacity == 1
            stream.lease(job("j1", responder), job("j2", responder))
            await stream.reports(1)
            (refused,) = [message.job_refused for message in stream.all("job_refused")]
            assert (refused.job_id, refused.reason) == ("j2", pb.JOB_REFUSAL_CAPACITY)


async def test_a_report_that_the_coordinator_never_takes_is_not_sent_for_ever(tmp_path: Path) -> None:
    peer = Peer()
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)) as probe:
        stream = await peer.session(1)
        stream.lease(job("j1", responder))
        await stream.reports(1)
        refused = pb.RefusedReport(job_id="j1", reason="no such verification")
        stream.outgoing.put_nowait(pb.SessionResponse(report_ack=pb.ReportAck(refused=[refused])))
        await stream.nothing_owed()
        assert probe.journal.held() == ()


async def test_nonsense_from_the_coordinator_ends_the_session_and_not_the_agent(tmp_path: Path) -> None:
    peer = Peer()
    async with target() as responder, serving(peer) as port, probing(settings(tmp_path, port, responder)) as probe:
        first = await peer.session(1)
        first.outgoing.put_nowait(pb.SessionResponse(report_ack=pb.ReportAck(job_ids=["two words"])))
        await peer.session(2)
        assert not probe.task.done()


async def test_a_coordinator_that_was_away_is_found_again(tmp_path: Path) -> None:
    peer, counted = Peer(), Counted()
    async with target() as responder:
        async with serving(peer) as port:
            pass
        async with probing(settings(tmp_path, port, responder), metering=counted):
            assert set(await counted.ended(4)) == {"unreachable"}
            async with serving(peer, port):
                await peer.session(1)


def test_a_record_of_the_journal_that_is_no_report_is_a_value_error() -> None:
    for record in (b"\xff\xff", b""):
        with pytest.raises(ValueError):
            decode_report(record)


async def until_begun(journal: Journal, name: str) -> None:
    async with asyncio.timeout(5):
        while name not in journal.held():  # noqa: ASYNC110 - a file tells nobody that it changed
            await asyncio.sleep(0.01)


def pb_fault(name: str) -> int:
    return evidence_pb2.LocalFault.Value(f"LOCAL_FAULT_{name}")
