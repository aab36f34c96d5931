"""A disk without room, under the store of a real coordinator and the journal of a real probe: nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from poolproof.v1 import evidence_pb2, record_pb2
from poolproof.verdict import ControlProven
from tests.coordinator.agents import World, fleet_of
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import environment, eventually, free_port, spawn
from tests.faults.small_disk import small_disk
from tests.faults.test_streams import Owner, what_is_left
from tests.probe.coordinator_peer import MS, Peer, job, serving, target
from tests.probe.test_session_process import process

pytestmark = pytest.mark.lab


async def test_a_coordinator_whose_disk_is_full_acknowledges_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    state, log, world = tmp_path / "state", tmp_path / "log", World()
    state.mkdir()
    address = f"127.0.0.1:{free_port()}"
    variables = environment(tmp_path, address)
    with (tmp_path / "policy.toml").open("a") as policy:
        policy.write("min_rounds = 6\n")

    async def says() -> str:
        return log.read_text()

    with small_disk(state, "4m") as disk:
        running = await spawn(variables, log, disk.within)
        try:
            async with fleet_of(a_fleet(), address, world):
                await world.until(lambda: len(world.connected) == len(a_fleet()))
                owner = Owner(address, world)
                owning = asyncio.create_task(owner.run())
                await world.until(lambda: owner.state == record_pb2.VERIFICATION_STATE_MEASURING)
                await asyncio.to_thread(disk.fill)
                await eventually(says, lambda text: "SQLITE_FULL" in text)
                known = set(world.acknowledged)
                # Again and again agents come with the reports of the round, and are sent away.
                count = (await says()).count("SQLITE_FULL")
                await eventually(says, lambda text: text.count("SQLITE_FULL") >= count + 3)
                assert set(world.acknowledged) == known, "acknowledged without room to keep it"
                disk.make_room()
                await asyncio.wait_for(owning, 60)
            running.terminate()
            assert await running.wait() == 0, log.read_text()
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
        shutil.copytree(disk.seen, tmp_path / "copy" / "state")
    verification = await what_is_left(tmp_path / "copy", owner.name, world)
    assert isinstance(verification.verdict, ControlProven), verification.verdict


async def test_a_probe_whose_disk_is_full_refuses_new_work_and_keeps_what_it_owes(tmp_path: Path) -> None:
    state, peer = tmp_path / "state", Peer()
    state.mkdir()
    with small_disk(state, "2m") as disk:
        async with target() as ntp, serving(peer) as port:
            async with process(state, port, ntp.listen[0][1], within=disk.within) as running:
                stream = await peer.session(1)
                stream.lease(job("before", ntp))
                await stream.reports(1)
                await asyncio.to_thread(disk.fill)
                stream.lease(job("full", ntp, ahead_ns=2_700 * MS))
                refused = (await stream.reports(2))[1].report
                assert refused.job_id == "full"
                assert refused.exchanges[0].fault == evidence_pb2.LOCAL_FAULT_GUARD_REFUSED
                assert "make room on the disk" in refused.exchanges[0].fault_detail
                sent = ntp.answered
                assert sent == 3, "a packet went out that no journal knows of"
                disk.make_room()
                stream.lease(job("after", ntp, ahead_ns=2_700 * MS))
                done = (await stream.reports(3))[2].report
                assert done.job_id == "after"
                assert done.exchanges[0].replies
                running.kill()
            async with process(state, port, ntp.listen[0][1], within=disk.within):
                back = await peer.session(2)
                assert list(back.hello.held_job_ids) == ["before", "after"]
                assert {each.report.job_id for each in await back.reports(2)} == {"before", "after"}
