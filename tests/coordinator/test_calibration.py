"""Calibrations through a real coordinator: liars of every kind are found, honest probes are not, and none can tell."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from coordinator.compose import Composition, compose
from coordinator.records import load as load_record
from coordinator.records import load_standing, open_ids
from coordinator.rpc import add_services
from coordinator.settings import load
from poolproof.catching import Lie
from poolproof.conduct import QuarantineReason
from poolproof.ids import VantageId
from poolproof.job import Job
from poolproof.target import Family, Target
from poolproof.v1 import judgement_pb2, record_pb2
from poolproof.v1 import verification_pb2 as api
from tests.coordinator import liars
from tests.coordinator.agents import World, fleet_of
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import environment, eventually, free_udp_port, stub

V = [vantage.id for vantage in a_fleet()]
ADDRESSES = [f"127.7.8.{n}" for n in range(1, 9)]


@dataclass
class House:
    parts: Composition
    address: str
    channel: grpc.aio.Channel
    world: World
    port: int

    def quarantined(self) -> Mapping[VantageId, QuarantineReason]:
        held = {state.vantage.id: state.quarantine for state in self.parts.registry.states()}
        return {name: why.reason for name, why in held.items() if why is not None}

    async def calibrate_until(self, wanted: int, timeout_s: float = 60.0) -> None:
        """Calibrations at all addresses, one after another, until so many vantages are quarantined."""
        async with asyncio.timeout(timeout_s):
            while len(self.quarantined()) < wanted:
                while self.parts.calibrations.begin() is not None:
                    pass
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def house(folder: Path, world: World, **more: str) -> AsyncIterator[House]:
    port = free_udp_port(ADDRESSES[0])
    listen = ",".join(f"{address}:{port}" for address in ADDRESSES)
    variables = environment(folder, calibration_listen=listen, allow_ports=str(port), **more)
    patient = (folder / "policy.toml").read_text().replace("timeout_ns = 60_000_000", "timeout_ns = 300_000_000")
    # A busy machine is no liar.
    (folder / "policy.toml").write_text(patient)
    async with compose(load(variables)) as parts:
        server = grpc.aio.server()
        add_services(server, parts.sessions, parts.verifications)
        bound = server.add_insecure_port("127.0.0.1:0")
        address = f"127.0.0.1:{bound}"
        await parts.conductor.start()
        await parts.calibrations.start()
        await server.start()
        try:
            async with grpc.aio.insecure_channel(address) as channel, fleet_of(a_fleet(), address, world):
                await world.until(lambda: len(world.connected) == len(a_fleet()))
                yield House(parts, address, channel, world, port)
        finally:
            await server.stop(0)


async def test_every_kind_of_liar_is_quarantined_and_no_honest_probe(tmp_path: Path) -> None:
    tales = {
        V[0]: liars.hides,
        V[1]: liars.hides_in_rounds,
        V[2]: liars.garbles,
        V[3]: liars.invents,
        V[4]: liars.refuses,
    }
    world = World(does=liars.telling(tales, relayed=frozenset({V[5]})))
    async with house(tmp_path, world, store="memory") as running:
        await running.calibrate_until(6)
        assert running.quarantined() == {
            V[0]: QuarantineReason.MISSING_ANSWERS,
            V[1]: QuarantineReason.MISSING_ANSWERS,
            V[2]: QuarantineReason.MISSING_ANSWERS,
            V[3]: QuarantineReason.INVENTED_ANSWER,
            V[4]: QuarantineReason.INVENTED_REFUSAL,
            V[5]: QuarantineReason.OTHER_SOURCE,
        }


async def test_a_probe_that_lies_now_and_then_is_found_too(tmp_path: Path) -> None:
    tales = {
        V[0]: liars.sometimes(0.3, liars.invents, "a"),
        V[1]: liars.sometimes(0.7, liars.hides, "b"),
    }
    world = World(does=liars.telling(tales))
    async with house(tmp_path, world, store="memory") as running:
        await running.calibrate_until(2)
        assert set(running.quarantined()) == {V[0], V[1]}
        conduct = running.parts.calibrations.ledger.of(V[1])
        assert sum(counts.failures for counts in conduct.counts.values()) >= 4


def form(job: Job) -> tuple[object, ...]:
    """All of a job but what has to differ from one verification to the next."""
    name, attempt, phase, vantage = job.id.split("/")
    assert (job.verification, job.vantage) == (name, vantage)
    assert re.fullmatch("[0-9a-hjkmnp-z]{12}", name)
    trace = re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", job.traceparent)
    times = (job.timeout_ns, job.linger_ns, job.watch_until_ns - job.start_at_ns)
    return attempt, phase, job.steps, times, bool(trace), len(job.ticket)


async def test_what_a_probe_is_sent_for_a_calibration_looks_like_any_other_work(tmp_path: Path) -> None:
    world = World(does=liars.telling({}))
    async with house(tmp_path, world, store="memory") as running:
        calibrations, applications = set(), set()
        for address in ADDRESSES:
            name = running.parts.calibrations.begin()
            assert name is not None
            calibrations.add(name)
            # An applicant's target in the same network, of which nobody answers.
            asked = api.CreateVerificationRequest(
                target=f"{address.replace('.8.', '.9.')}:{running.port}",
                method=judgement_pb2.METHOD_DIFFERENTIAL,
                variant=judgement_pb2.VARIANT_BLOCK,
                applicant="ana",
            )
            created = await stub(running.channel).CreateVerification(asked)
            applications.add(created.verifications[0].id)
        await world.until(lambda: sum(job.verification in applications for job in world.leased) >= 80)
        await world.until(lambda: sum(job.verification in calibrations for job in world.leased) >= 80)
        first = {job.verification: job for job in reversed(world.leased)}
        forms = [
            {form(job) for job in world.leased if job.verification in names and "/baseline/" in job.id}
            for names in (calibrations, applications)
        ]
        assert forms[0] == forms[1]
        assert {job.target.port for job in first.values()} == {running.port}
        # A call by somebody who is no operator says of neither what it is for.
        for either in (*calibrations, *applications):
            shown = await stub(running.channel).GetVerification(api.GetVerificationRequest(id=either))
            assert not shown.verification.calibration


async def test_owners_of_calibrations_try_again_as_applicants_do_and_each_attempt_counts(tmp_path: Path) -> None:
    """Else a liar would be safe in every attempt but the first."""
    world = World(does=liars.telling({}))
    async with house(tmp_path, world, store="memory") as running:
        ledger = running.parts.calibrations.ledger

        async def concluded() -> int:
            """The most concluded attempts of one owner who tried again; some give up, or let the time run out."""
            while running.parts.calibrations.begin() is not None:
                pass
            most = 0
            for name in {job.verification for job in world.leased if "/1/" not in job.id}:
                held = await load_record(running.parts.store, name)
                assert held is not None
                attempts = held.verification.attempts
                assert [each.number for each in attempts] == list(range(1, len(attempts) + 1))
                most = max(most, sum(each.concluded_at_ns > 0 for each in attempts))
            return most

        await eventually(concluded, lambda ended: ended >= 2, 30.0)
        assert ledger.of(V[0]).calibrations > 0
        assert running.quarantined() == {}


async def test_a_calibrations_rounds_look_like_those_of_an_application(tmp_path: Path) -> None:
    """Two targets of our own, one of which an applicant claims: the rounds that follow are alike."""
    world = World(does=liars.telling({}))
    async with house(tmp_path, world, store="memory") as running:
        asked = api.CreateVerificationRequest(
            target=f"{ADDRESSES[0]}:{running.port}",
            method=judgement_pb2.METHOD_DIFFERENTIAL,
            variant=judgement_pb2.VARIANT_BLOCK,
            applicant="ana",
        )
        application = (await stub(running.channel).CreateVerification(asked)).verifications[0].id

        async def state() -> int:
            shown = await stub(running.channel).GetVerification(api.GetVerificationRequest(id=application))
            return shown.verification.state

        await eventually(state, lambda now: now == record_pb2.VERIFICATION_STATE_CHALLENGED)
        await stub(running.channel).MarkReady(api.MarkReadyRequest(id=application))
        while not any(re.search("/0/", job.id) and job.verification != application for job in world.leased):
            running.parts.calibrations.begin()
            await asyncio.sleep(0.02)
        await world.until(lambda: sum("/0/" in job.id and job.verification == application for job in world.leased) > 9)
        rounds = [
            {form(job)[1:] for job in world.leased if "/0/" in job.id and (job.verification == application) is ours}
            for ours in (True, False)
        ]
        assert rounds[0] == rounds[1]


async def test_calibrations_are_in_no_list_and_spend_nothing_and_operators_see_them(tmp_path: Path) -> None:
    world = World(does=liars.telling({}))
    async with house(tmp_path, world, store="memory") as running:
        name = running.parts.calibrations.begin()
        assert name is not None

        async def page() -> api.GetCalibrationResponse:
            return await stub(running.channel).GetCalibration(api.GetCalibrationRequest())

        seen = await eventually(page, lambda now: now.open == 0 and any(v.conduct.calibrations for v in now.vantages))
        assert list(seen.recent) == [name]
        assert [each.conduct.vantage_id for each in seen.vantages] == V
        assert seen.rate == running.parts.calibrations.policy.calibration_rate
        assert len(seen.listen) == len(ADDRESSES)
        assert {each.lie for each in seen.chances} == {lie.value for lie in Lie}
        listed = await stub(running.channel).ListVerifications(api.ListVerificationsRequest())
        assert len(listed.verifications) == 0
        shown = await stub(running.channel).GetVerification(api.GetVerificationRequest(id=name, operator_view=True))
        assert shown.verification.calibration
        target = Target(shown.verification.target.address, running.port)
        assert (await load_standing(running.parts.store, target)).standing.attempts == 0


async def test_a_quarantine_outlives_the_coordinator_until_an_operator_ends_it(tmp_path: Path) -> None:
    world = World(does=liars.telling({V[3]: liars.invents}))
    async with house(tmp_path, world) as running:
        await running.calibrate_until(1)
        begun = await open_ids(running.parts.store)
        assert begun, "others are under way"
    async with house(tmp_path, World(does=liars.telling({}))) as running:
        assert running.quarantined() == {V[3]: QuarantineReason.INVENTED_ANSWER}
        assert V[3] not in {vantage.id for vantage in running.parts.registry.usable(Family.IPV4)}
        # What was under way has lost its truth with the process.
        for name in begun:
            held = await load_record(running.parts.store, name)
            assert held is not None
            assert not held.verification.state.is_open
        fleet = await stub(running.channel).ListVantages(api.ListVantagesRequest())
        assert fleet.calibrated
        (held_back,) = (each for each in fleet.vantages if each.HasField("quarantine"))
        assert (held_back.vantage.id, held_back.connected) == (V[3], True)
        assert "that the target never sent" in held_back.quarantine.evidence
        with pytest.raises(grpc.aio.AioRpcError, match="say why"):
            await stub(running.channel).ReleaseVantage(api.ReleaseVantageRequest(vantage_id=V[3]))
        release = api.ReleaseVantageRequest(vantage_id=V[3], reason="the image was replaced")
        freed = (await stub(running.channel).ReleaseVantage(release)).vantage.conduct
        assert [each.reason for each in freed.releases] == ["the image was replaced"]
        assert running.quarantined() == {}
        assert V[3] in {vantage.id for vantage in running.parts.registry.usable(Family.IPV4)}
