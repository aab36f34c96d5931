"""Calibrations of real probes, each a process with real sockets: the two that lie are found, the others are not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from coordinator.compose import compose
from coordinator.rpc import add_services
from coordinator.settings import load
from poolproof.conduct import QuarantineReason
from poolproof.fleet import Vantage
from poolproof.target import Family, Target
from probe.responder import Responder
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import environment, eventually, fleet_toml, free_udp_port

FLEET = a_fleet(5)
ADDRESSES = [f"127.7.8.{n}" for n in range(1, 17)]
"""So many that no probe is asked twice for one of them: its guard would not do it so soon."""
MS = 1_000_000
HONEST = ("-c", "from probe.cli import probe; probe()")


@contextlib.asynccontextmanager
async def probe(
    vantage: Vantage, program: tuple[str, ...], address: str, port: int, control: Target, state: Path
) -> AsyncIterator[None]:
    variables = {
        "VANTAGE": vantage.id,
        "COORDINATOR": address,
        "IPV4": str(vantage.ipv4),
        "GUARD_ALLOW_NETWORKS": "127.0.0.0/8",
        "GUARD_ALLOW_PORTS": str(port),
        "GUARD_TARGET_PACKETS_PER_MINUTE": "5000",
        "GUARD_PACKETS_PER_SECOND": "5000",
        "CONTROL_SERVERS": f"{control.address}:{control.port}",
        "CONTROL_LEAD_NS": str(200 * MS),
        "JOURNAL_DIRECTORY": str(state / vantage.id),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        env={
            **{f"POOLPROOF_PROBE_{name}": value for name, value in variables.items()},
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()


async def test_real_probes_that_lie_are_found_and_those_that_do_not_are_not(tmp_path: Path) -> None:
    port = free_udp_port(ADDRESSES[0])
    listen = ",".join(f"{address}:{port}" for address in ADDRESSES)
    variables = environment(
        tmp_path,
        store="memory",
        calibration_listen=listen,
        allow_ports=str(port),
        heartbeat_interval_ns=str(2000 * MS),
    )
    (tmp_path / "fleet.toml").write_text(fleet_toml(FLEET))
    policy = tmp_path / "policy.toml"
    quick = policy.read_text().replace("timeout_ns = 60_000_000", "timeout_ns = 300_000_000")
    policy.write_text(f"{quick}baseline_exchanges = 1\nbaseline_min_answers = 1\n")
    responder = Responder([("127.7.9.1", 0)])
    (control,) = await responder.start()
    hides, invents = FLEET[0].id, FLEET[1].id
    programs = {
        hides: ("-m", "tests.coordinator.lying_probe", "hides"),
        invents: ("-m", "tests.coordinator.lying_probe", "invents"),
    }
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(responder.stop)
        parts = await stack.enter_async_context(compose(load(variables)))
        server = grpc.aio.server()
        add_services(server, parts.sessions, parts.verifications)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await parts.conductor.start()
        await parts.calibrations.start()
        await server.start()
        stack.push_async_callback(server.stop, 0)
        for vantage in FLEET:
            program = programs.get(vantage.id, HONEST)
            await stack.enter_async_context(probe(vantage, program, address, port, control, tmp_path))

        async def usable() -> int:
            return len(parts.registry.usable(Family.IPV4))

        await eventually(usable, lambda able: able == len(FLEET), 30.0)
        ledger = parts.calibrations.ledger

        async def is_caught() -> bool:
            while parts.calibrations.begin() is not None:
                pass
            return ledger.of(hides).quarantine is not None

        await eventually(is_caught, bool, 60.0)
        found = {vantage.id: held.reason for vantage in FLEET if (held := ledger.of(vantage.id).quarantine) is not None}
        assert found == {
            hides: QuarantineReason.MISSING_ANSWERS,
            invents: QuarantineReason.INVENTED_ANSWER,
        }
        honest = ledger.of(FLEET[2].id)
        assert honest.calibrations > 0
        assert sum(counts.failures for counts in honest.counts.values()) == 0
