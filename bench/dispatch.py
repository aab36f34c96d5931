"""How fast the coordinator hands jobs to 100 and 1,000 agents, beside a raw grpc.aio echo of the same messages.

The agents are in this process, the coordinator's sessions and the echo in one each (`bench.dispatch_server`). An agent
answers each lease with one message, as a probe says that it has accepted. Rounds alternate and the ratio is the median
of the rounds' ratios: rates change by half on a shared machine, ratios less.

    python -m bench.dispatch
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc

from bench.dispatch_server import COHORT
from bench.sessions import a_fleet
from coordinator.rpc import AGENT_SERVICE
from poolproof.exchange import ExchangeKind
from poolproof.fleet import Vantage
from poolproof.ids import VantageId
from poolproof.target import Family
from poolproof.v1 import agent_pb2 as pb
from poolproof.wire import Capabilities, Hello, hello_to_wire

FLEETS = (100, 1_000)
ROUNDS = 5
BURST_JOBS = 6_000
PACED_COHORTS = 150
KINDS = ("sessions", "echo")
WARM_AGENTS = 10
"""Agents that connect before memory is first read: what the first ones load is loaded once."""
_TIMEOUT_S = 60.0
_ABLE = Capabilities(frozenset({Family.IPV4}), False, True, True, frozenset({ExchangeKind.CLIENT_V4}), 4096)
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


def measure() -> dict[str, float]:
    """Jobs per second, ratios to the echo, latencies in milliseconds, kilobytes per agent."""
    figures: dict[str, float] = {}
    for size in FLEETS:
        figures |= {f"{name}_{size}": value for name, value in asyncio.run(_measure(size)).items()}
    return figures


async def _measure(size: int) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        servers = {kind: await stack.enter_async_context(_server(kind, size)) for kind in KINDS}
        memory = {kind: await servers[kind].connect(stack) for kind in KINDS}
        bursts: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
        for _ in range(ROUNDS + 1):  # one to warm up
            for kind in KINDS:
                bursts[kind].append(await servers[kind].handed("burst", BURST_JOBS // COHORT))
        paced = {kind: await servers[kind].handed("paced", PACED_COHORTS) for kind in KINDS}
    ours, echo = bursts["sessions"][1:], bursts["echo"][1:]
    return {
        "jobs_per_s": statistics.median(each["jobs_per_s"] for each in ours),
        "echo_jobs_per_s": statistics.median(each["jobs_per_s"] for each in echo),
        "cpu_us_per_job": statistics.median(each["cpu_us"] for each in ours),
        "echo_cpu_us_per_job": statistics.median(each["cpu_us"] for each in echo),
        "ratio_to_echo": statistics.median(a["jobs_per_s"] / b["jobs_per_s"] for a, b in zip(ours, echo, strict=True)),
        "latency_p50_ms": paced["sessions"]["p50_ms"],
        "latency_p99_ms": paced["sessions"]["p99_ms"],
        "echo_latency_p99_ms": paced["echo"]["p99_ms"],
        "kb_per_agent": memory["sessions"],
        "echo_kb_per_agent": memory["echo"],
    }


class _Server:
    """One server process and the agents that are connected to it."""

    def __init__(self, process: asyncio.subprocess.Process, size: int) -> None:
        self._process = process
        self._fleet = a_fleet(size)
        self._received: dict[str, list[int]] = {vantage.id: [] for vantage in self._fleet}
        self.port = 0

    async def ask(self, command: str) -> dict[str, Any]:
        """Give a command and take the answer."""
        assert self._process.stdin is not None
        if command:
            self._process.stdin.write(f"{command}\n".encode())
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """The next line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_TIMEOUT_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("bench.dispatch_server ended; what it printed above says why")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def connect(self, stack: AsyncExitStack) -> float:
        """Connect all agents; kilobytes (1,000 bytes) that the server then occupies more for each."""
        await self._connect(stack, self._fleet[:WARM_AGENTS])
        before = await self.ask("memory")
        await self._connect(stack, self._fleet[WARM_AGENTS:])
        after = await self.ask("memory")
        growth: int = after["resident_bytes"] - before["resident_bytes"]
        return growth / 1e3 / len(self._fleet[WARM_AGENTS:])

    async def _connect(self, stack: AsyncExitStack, fleet: Sequence[Vantage]) -> None:
        welcomed = [await stack.enter_async_context(_agent(each.id, self.port, self._received)) for each in fleet]
        async with asyncio.timeout(_TIMEOUT_S):
            await asyncio.gather(*(each.wait() for each in welcomed))

    async def handed(self, how: str, cohorts: int) -> dict[str, float]:
        """Let jobs be handed out.

        Returns:
            Rate, CPU microseconds per job, median and 99th percentile of handed-out to received.
        """
        for times in self._received.values():
            times.clear()
        answer = await self.ask(f"{how} {cohorts}")
        delays = sorted(
            received - handed
            for vantage, times in answer["handed_ns"].items()
            for handed, received in zip(times, self._received[vantage], strict=True)
        )
        return {
            "jobs_per_s": answer["jobs"] / answer["seconds"],
            "cpu_us": answer["cpu_s"] * 1e6 / answer["jobs"],
            "p50_ms": delays[len(delays) // 2] / 1e6,
            "p99_ms": delays[len(delays) * 99 // 100] / 1e6,
        }


@asynccontextmanager
async def _server(kind: str, size: int) -> AsyncIterator[_Server]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.dispatch_server",
        kind,
        str(size),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        server = _Server(process, size)
        server.port = (await server.answer())["port"]
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()  # it ends with its input
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def _agent(name: VantageId, port: int, received: dict[str, list[int]]) -> AsyncIterator[asyncio.Event]:
    """An agent on a connection of its own; the event is set once it is welcome."""
    welcome = asyncio.Event()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
        task = asyncio.create_task(_session(channel, name, received[name], welcome))
        try:
            yield welcome
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _session(channel: grpc.aio.Channel, name: VantageId, received: list[int], welcome: asyncio.Event) -> None:
    hello = pb.SessionRequest(hello=hello_to_wire(Hello(name, "bench", 1, name.encode().ljust(16, b"."), _ABLE)))
    accepted = pb.SessionRequest(job_accepted=pb.JobAccepted(job_ids=[f"k100/1/r1/{name}"])).SerializeToString()
    method = channel.stream_stream(f"/{AGENT_SERVICE}/Session", bytes, bytes)
    call = method()  # type: ignore[call-arg]  # the stubs do not know that a call can be read and written
    await call.write(hello.SerializeToString())
    await call.read()
    welcome.set()
    while isinstance(await call.read(), bytes):
        received.append(time.time_ns())
        await call.write(accepted)


if __name__ == "__main__":
    for figure, value in measure().items():
        print(f"{figure:32} {value:12.2f}")
