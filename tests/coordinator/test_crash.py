"""SIGKILL at many moments: the verification carries on; nothing acknowledged is lost, judged or asked twice."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import grpc
import pytest

from coordinator.compose import STORE_FILE
from coordinator.records import load, load_standing, report_key
from coordinator.store.sqlite import SqliteStore
from poolproof.fleet import Role
from poolproof.ids import VerificationId
from poolproof.target import Target
from poolproof.v1 import judgement_pb2, record_pb2
from poolproof.v1 import verification_pb2 as pb
from poolproof.verdict import ControlProven
from poolproof.wire import report_to_wire
from tests.coordinator.agents import OPTIONS, World, fleet_of
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import TARGET, environment, free_port, spawn, stub

KILLS = 14
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED)


class Owner:
    """Requests once, says ready once, and looks on."""

    def __init__(self, channel: grpc.aio.Channel, world: World) -> None:
        self._stub = stub(channel)
        self._world = world
        self.id = ""
        self.answers_to_ready = 0
        self.states: list[int] = []
        self.conclusions: set[int] = set()

    async def run(self) -> None:
        """Until there is a verdict."""
        await self._world.until(lambda: len(self._world.connected) == len(a_fleet()))
        created = await self._stub.CreateVerification(
            pb.CreateVerificationRequest(
                target=TARGET,
                method=judgement_pb2.METHOD_DIFFERENTIAL,
                variant=judgement_pb2.VARIANT_BLOCK,
                applicant="alice",
                idempotency_key="once",
            )
        )
        self.id = created.verifications[0].id
        while (view := await self.look()) is None or view.state != record_pb2.VERIFICATION_STATE_CONCLUDED:
            if view is not None and view.state == record_pb2.VERIFICATION_STATE_CHALLENGED:
                await self._enact(view)
            await asyncio.sleep(0.02)

    async def look(self) -> pb.Verification | None:
        try:
            answer = await self._stub.GetVerification(pb.GetVerificationRequest(id=self.id), timeout=2)
        except grpc.aio.AioRpcError as error:
            assert error.code() in _PASSING, error
            return None
        view = answer.verification
        if not self.states or self.states[-1] != view.state:
            self.states.append(view.state)
        self.conclusions |= {attempt.concluded_at_ns for attempt in view.attempts} - {0}
        return view

    async def _enact(self, view: pb.Verification) -> None:
        quiet = {row.perspective.vantage_id for row in view.rows if row.perspective.role == _BLOCKED}
        self._world.answered = lambda job: job.vantage not in quiet
        try:
            await self._stub.MarkReady(pb.MarkReadyRequest(id=self.id), timeout=2)
            self.answers_to_ready += 1
        except grpc.aio.AioRpcError as error:
            assert error.code() in _PASSING, error


_BLOCKED = getattr(judgement_pb2, f"ROLE_{Role.MUST_BE_BLOCKED.name}")


@pytest.mark.timeout(110)
async def test_a_coordinator_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    draw = random.Random(20261123)
    port = free_port()
    variables, log = environment(tmp_path, f"127.0.0.1:{port}"), tmp_path / "log"
    with (tmp_path / "policy.toml").open("a") as policy:
        # Long enough that kills fall into it, however slow the machine is.
        policy.write("min_rounds = 12\n")
    world, killed_in = World(), list[int]()
    process = await spawn(variables, log)
    try:
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel,
            fleet_of(a_fleet(), f"127.0.0.1:{port}", world),
        ):
            owner = Owner(channel, world)
            watching = asyncio.create_task(owner.run())
            await world.until(lambda: bool(owner.id) or bool(world.acknowledged))
            for _ in range(KILLS):
                await _some_moment(world, draw)
                killed_in.append(owner.states[-1] if owner.states else 0)
                process.kill()
                await process.wait()
                process = await spawn(variables, log)
            await asyncio.wait_for(watching, 60)
            process.kill()
            await process.wait()
            process = await spawn(variables, log)
            await world.until(lambda: len(world.connected) == len(a_fleet()))
            # The owner's channel may still be pausing before it connects anew.
            looks = 0
            while await owner.look() is None and looks < 1000:
                looks += 1
                await asyncio.sleep(0.02)
            assert looks < 1000, log.read_text()
            process.terminate()
            assert await process.wait() == 0, log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    open_states = {record_pb2.VERIFICATION_STATE_BASELINE, record_pb2.VERIFICATION_STATE_MEASURING}
    assert open_states <= set(killed_in), f"the kills came at the wrong moments: {killed_in}"
    await _check(tmp_path, owner, world)


async def _some_moment(world: World, draw: random.Random) -> None:
    """After some more acknowledgements, or a while in which there are none."""
    wanted = len(world.acknowledged) + draw.randrange(0, 8)
    try:
        await world.until(lambda: len(world.acknowledged) >= wanted, timeout_s=draw.uniform(0.3, 1.5))
    except TimeoutError:
        return


async def _check(folder: Path, owner: Owner, world: World) -> None:
    store = await SqliteStore.open(folder / "state" / STORE_FILE)
    try:
        held = await load(store, VerificationId(owner.id))
        assert held is not None
        verification = held.verification
        assert isinstance(verification.verdict, ControlProven), verification.verdict
        assert [attempt.number for attempt in verification.attempts] == [1]
        assert owner.conclusions == {verification.attempts[0].concluded_at_ns}
        assert owner.states == sorted(owner.states), "it went back to an earlier state"
        assert owner.answers_to_ready <= 1
        standing = (await load_standing(store, Target(TARGET))).standing
        assert (standing.attempts, len(standing.proofs)) == (1, 1)
        assert world.refused == {}
        for job, report in world.acknowledged.items():
            kept = await store.get(report_key(job))
            assert kept is not None, f"{job} was acknowledged and is not there"
            assert kept.value == report_to_wire(report).SerializeToString()
    finally:
        await store.close()
