"""A real coordinator on loopback, in this process or in one of its own, with files in a folder of the test's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import grpc

from coordinator.server import serve
from coordinator.settings import CoordinatorSettings, load
from poolproof.fleet import Vantage
from poolproof.v1 import verification_pb2_grpc
from tests.coordinator.doubles import a_fleet

POLICY_TOML = """
id = "quick"
based_on = "2026-11"
baseline_spacing_ns = 30_000_000
lead_ns = 300_000_000
settle_ns = 100_000_000
round_spacing_ns = 300_000_000
max_round_spacing_ns = 1_000_000_000
timeout_ns = 60_000_000
linger_ns = 20_000_000
report_grace_ns = 100_000_000
missing_grace_ns = 20_000_000_000
retry_spacing_ns = 100_000_000
calibration_ready_ns = 100_000_000
"""
TARGET = "127.7.9.9"
T = TypeVar("T")


def fleet_toml(fleet: tuple[Vantage, ...]) -> str:
    return "\n".join(
        f'[[vantage]]\nid = "{v.id}"\nipv4 = "{v.ipv4}"\nasn = {v.asn}\nrir = "{v.rir.value}"\n' for v in fleet
    )


def environment(folder: Path, listen: str = "127.0.0.1:0", **more: str) -> dict[str, str]:
    """The variables of a coordinator whose files are in a folder."""
    (folder / "fleet.toml").write_text(fleet_toml(a_fleet()))
    (folder / "policy.toml").write_text(POLICY_TOML)
    values = {
        "fleet_file": str(folder / "fleet.toml"),
        "policy_file": str(folder / "policy.toml"),
        "state_dir": str(folder / "state"),
        "listen": listen,
        "allow_networks": "127.0.0.0/8",
        "heartbeat_interval_ns": "200000000",
        "drain_grace_ns": "500000000",
        **more,
    }
    return {f"POOLPROOF_COORDINATOR_{name.upper()}": value for name, value in values.items()}


@contextlib.asynccontextmanager
async def coordinator(settings: CoordinatorSettings) -> AsyncIterator[str]:
    """Runs one in this process; yields its address."""
    stop = asyncio.Event()
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(serve(settings, stop=stop, on_ready=address.set_result))
    try:
        either: set[asyncio.Future[None] | asyncio.Future[str]] = {running, address}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        yield address.result()
    finally:
        stop.set()
        await running


@contextlib.asynccontextmanager
async def in_memory(folder: Path, **more: str) -> AsyncIterator[tuple[str, grpc.aio.Channel]]:
    """One without files of its own; yields its address and a channel to it."""
    settings = load(environment(folder, store="memory", **more))
    async with coordinator(settings) as address, grpc.aio.insecure_channel(address) as channel:
        yield address, channel


def stub(channel: grpc.aio.Channel) -> verification_pb2_grpc.VerificationServiceAsyncStub:
    made: verification_pb2_grpc.VerificationServiceAsyncStub = verification_pb2_grpc.VerificationServiceStub(channel)
    return made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_udp_port(address: str) -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


async def spawn(variables: dict[str, str], log: Path, within: Sequence[str] = ()) -> asyncio.subprocess.Process:
    """One in a process of its own; `within` is a command that becomes it."""
    with log.open("ab") as stream:
        return await asyncio.create_subprocess_exec(
            *within,
            sys.executable,
            "-m",
            "coordinator",
            env={**variables, "PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=stream,
            stderr=stream,
        )


async def eventually(look: Callable[[], Awaitable[T]], wanted: Callable[[T], bool], timeout_s: float = 15.0) -> T:
    """Looks again and again until what is seen is wanted."""
    async with asyncio.timeout(timeout_s):
        for _ in itertools.count():
            if wanted(seen := await look()):
                return seen
            await asyncio.sleep(0.01)
    raise AssertionError("the loop has no end")
