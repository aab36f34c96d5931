"""Calibrations through a real coordinator: liars of every kind are found, honest probes are not, and none can tell."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from coordinator.compose import Composition, compose
from coordinator.rpc import add_services
from coordinator.settings import load
from poolproof.conduct import QuarantineReason
from poolproof.ids import VantageId
from tests.coordinator import liars
from tests.coordinator.agents import World, fleet_of
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import environment, free_udp_port

V = [vantage.id for vantage in a_fleet()]
ADDRESSES = [f"127.7.8.{n}" for n in range(1, 9)]


@dataclass
class House:
    parts: Composition
    address: str
    channel: grpc.aio.Channel
    world: World

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
                yield House(parts, address, channel, world)
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
