"""SIGSTOP for 30 s, of a real coordinator and of a real probe: both carry on; silence is never made of the gap."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from poolproof.classify import classify_report
from poolproof.outcome import Outcome
from poolproof.policy import SECOND_NS
from poolproof.v1 import evidence_pb2, record_pb2
from poolproof.verdict import ControlProven
from poolproof.wire import report_from_wire
from probe.responder import Responder
from tests.coordinator.agents import World, fleet_of
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import environment, eventually, free_port, spawn
from tests.faults.test_streams import Owner, what_is_left
from tests.probe.coordinator_peer import Peer, job, serving, target
from tests.probe.test_session_process import process

STOPPED_S = 30.0


def _stands_still(pid: int) -> bool:
    """Whether the kernel says that a process is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def _stop_for_long(*running: asyncio.subprocess.Process) -> None:
    """All of them together, so that the wait is one."""
    loop = asyncio.get_running_loop()
    for each in running:
        each.send_signal(signal.SIGSTOP)
    began_s = loop.time()

    async def for_s() -> float:
        if not all(_stands_still(each.pid) for each in running):
            assert loop.time() - began_s < 5, "not stopped"
            return 0.0
        return loop.time() - began_s

    await eventually(for_s, lambda passed_s: passed_s >= STOPPED_S, timeout_s=2 * STOPPED_S)
    for each in running:
        each.send_signal(signal.SIGCONT)


@pytest.mark.timeout(110)
async def test_a_coordinator_and_a_probe_that_stand_still_for_30_s_lose_nothing_and_prove_nothing_false(
    tmp_path: Path,
) -> None:
    address, log, world = f"127.0.0.1:{free_port()}", tmp_path / "log", World()
    variables = environment(tmp_path, address)
    policy = (tmp_path / "policy.toml").read_text()
    # Reports wait in the stopped process' sockets for longer than the quick policy waits for them.
    (tmp_path / "policy.toml").write_text(policy.replace("missing_grace_ns = 20_", "missing_grace_ns = 90_"))
    peer = Peer(acknowledges=True)
    coordinating = await spawn(variables, log)
    try:
        async with (
            fleet_of(a_fleet(), address, world),
            target() as ntp,
            serving(peer) as port,
            process(tmp_path / "journal", port, ntp.listen[0][1]) as probing,
        ):
            await world.until(lambda: len(world.connected) == len(a_fleet()))
            owner = Owner(address, world)
            owning = asyncio.create_task(owner.run())
            stream = await peer.session(1)
            # The first step is done before the stop; the time of the second one falls into it.
            one = job("j1", ntp)
            leased = replace(one, steps=(*one.steps, replace(one.steps[0], offset_ns=20 * SECOND_NS)))
            stream.lease(leased)
            await world.until(lambda: owner.state == record_pb2.VERIFICATION_STATE_MEASURING)
            await eventually(lambda: _answered(ntp), lambda count: count >= 2)
            await _stop_for_long(coordinating, probing)
            reported = await _report_of(peer)
            await asyncio.wait_for(owning, 60)
            coordinating.terminate()
            assert await coordinating.wait() == 0, log.read_text()
    finally:
        if coordinating.returncode is None:
            coordinating.kill()
            await coordinating.wait()
    verification = await what_is_left(tmp_path, owner.name, world)
    assert isinstance(verification.verdict, ControlProven), verification.verdict
    assert classify_report(report_from_wire(reported)) == (Outcome.REPLIED, Outcome.PROBE_FAILED)
    assert reported.exchanges[1].fault == evidence_pb2.LOCAL_FAULT_MISSED_START


async def _answered(ntp: Responder) -> int:
    return ntp.answered


async def _report_of(peer: Peer) -> evidence_pb2.Report:
    """The first report, on whichever session it comes."""

    async def look() -> list[evidence_pb2.Report]:
        return [message.report.report for stream in peer.streams for message in stream.all("report")]

    return (await eventually(look, bool, timeout_s=30))[0]
