"""The served side of `bench.dispatch`, in a process of its own so that its CPU and memory are its own.

    python -m bench.dispatch_server sessions|echo AGENTS

`sessions` is the coordinator's own code; `echo` is the least that grpc.aio can do: the same messages, serialised
beforehand, through a queue per stream. Both are driven by lines on standard input and answer with a line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import grpc

from bench.sessions import SERVER_OPTIONS, Sessions, a_fleet, serving
from coordinator.rpc import AGENT_SERVICE
from poolproof.exchange import ExchangeKind
from poolproof.fleet import Vantage
from poolproof.ids import JobId, VerificationId
from poolproof.job import Job, Step
from poolproof.policy import SECOND_NS
from poolproof.target import Target
from poolproof.v1 import agent_pb2 as pb
from poolproof.wire import lease_to_wire

COHORT = 12
"""Jobs that are handed out at once: one for each perspective of a verification."""
PACE_S = 0.02
TIMEOUT_S = 60.0
_TRACEPARENT = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


class Side(Protocol):
    """What is compared."""

    port: int

    def heard(self) -> int:
        """Messages that came from agents so far."""
        ...

    def on_heard(self, callback: Callable[[], None] | None) -> None:
        """Call back for each further message."""
        ...

    def prepare(self, cohorts: Sequence[tuple[Job, ...]]) -> None:
        """What may be done before the clock runs."""
        ...

    def hand_out(self, number: int) -> None:
        """Hand out the cohort of this number."""
        ...


class CoordinatorSide:
    """The coordinator's own sessions."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self.port = sessions.port
        self._cohorts: Sequence[tuple[Job, ...]] = ()

    def heard(self) -> int:
        return self._sessions.registry.heard_messages

    def on_heard(self, callback: Callable[[], None] | None) -> None:
        self._sessions.registry.on_heard = callback

    def prepare(self, cohorts: Sequence[tuple[Job, ...]]) -> None:
        self._sessions.registry.forget_jobs()
        self._cohorts = cohorts

    def hand_out(self, number: int) -> None:
        self._sessions.hand_out(self._cohorts[number])


class EchoSide:
    """Bytes through a queue per stream, and nothing else."""

    def __init__(self) -> None:
        self.port = 0
        self._queues: dict[str, asyncio.Queue[bytes]] = {}
        self._heard = 0
        self._on_heard: Callable[[], None] | None = None
        self._cohorts: list[list[tuple[str, bytes]]] = []

    def heard(self) -> int:
        return self._heard

    def on_heard(self, callback: Callable[[], None] | None) -> None:
        self._on_heard = callback

    def prepare(self, cohorts: Sequence[tuple[Job, ...]]) -> None:
        self._cohorts = [
            [(job.vantage, pb.SessionResponse(lease=lease_to_wire((job,))).SerializeToString()) for job in jobs]
            for jobs in cohorts
        ]

    def hand_out(self, number: int) -> None:
        for vantage, message in self._cohorts[number]:
            self._queues[vantage].put_nowait(message)

    async def session(self, stream: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        """One agent's stream."""
        hello = pb.SessionRequest.FromString(await anext(stream))
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues[hello.hello.vantage_id] = queue
        reading = asyncio.create_task(self._read(stream))
        try:
            yield pb.SessionResponse(welcome=pb.Welcome(session_id="echo")).SerializeToString()
            while True:
                yield await queue.get()
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self, stream: AsyncIterator[bytes]) -> None:
        async for _ in stream:
            self._heard += 1
            if self._on_heard is not None:
                self._on_heard()


@asynccontextmanager
async def _coordinator_side(fleet: Sequence[Vantage]) -> AsyncIterator[Side]:
    async with serving(fleet) as (sessions, _):
        yield CoordinatorSide(sessions)


@asynccontextmanager
async def _echo_side(fleet: Sequence[Vantage]) -> AsyncIterator[Side]:
    side = EchoSide()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(side.session)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(AGENT_SERVICE, {"Session": handler}),))
    side.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield side
    finally:
        await server.stop(None)


SIDES: dict[str, Callable[[Sequence[Vantage]], AbstractAsyncContextManager[Side]]] = {
    "sessions": _coordinator_side,
    "echo": _echo_side,
}


async def _handed(side: Side, fleet: Sequence[Vantage], cohorts: int, pace_s: float) -> dict[str, object]:
    """Hands out cohorts and waits until every agent has answered each job.

    Returns:
        Seconds from the first job handed out to the last answer heard, CPU seconds, and per vantage when each of its
        jobs was handed out (Unix ns).
    """
    jobs = list(_cohorts(fleet, cohorts))
    side.prepare(jobs)
    until, all_heard = side.heard() + sum(map(len, jobs)), asyncio.Event()
    side.on_heard(lambda: all_heard.set() if side.heard() >= until else None)
    handed: dict[str, list[int]] = {vantage.id: [] for vantage in fleet}
    gc.collect()
    start_s, cpu_s = time.perf_counter(), time.process_time()
    for number, cohort in enumerate(jobs):
        now_ns = time.time_ns()
        for job in cohort:
            handed[job.vantage].append(now_ns)
        side.hand_out(number)
        # Turns of verifications end with an await as well: streams write while others hand out.
        await asyncio.sleep(max(0.0, start_s + (number + 1) * pace_s - time.perf_counter()) if pace_s else 0)
    async with asyncio.timeout(TIMEOUT_S):
        await all_heard.wait()
    took_s, used_s = time.perf_counter() - start_s, time.process_time() - cpu_s
    side.on_heard(None)
    return {"jobs": sum(map(len, jobs)), "seconds": took_s, "cpu_s": used_s, "handed_ns": handed}


def _cohorts(fleet: Sequence[Vantage], number: int) -> Iterator[tuple[Job, ...]]:
    """Every agent is asked as often as the others, give or take one."""
    start_ns = time.time_ns() + 60 * SECOND_NS
    for cohort in range(number):
        yield tuple(
            _job(fleet[at % len(fleet)], f"k{cohort}", start_ns) for at in range(cohort * COHORT, (cohort + 1) * COHORT)
        )


def _job(vantage: Vantage, verification: str, start_ns: int) -> Job:
    return Job(
        JobId(f"{verification}/1/r1/{vantage.id}"),
        VerificationId(verification),
        vantage.id,
        Target("127.9.9.9"),
        vantage.ipv4 or "",
        start_ns,
        (Step(ExchangeKind.CLIENT_V4, 0),),
        SECOND_NS,
        SECOND_NS,
        _TRACEPARENT,
    )


def resident_bytes() -> int:
    """What this process occupies in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def _main(kind: str, agents: int) -> None:
    fleet = a_fleet(agents)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with SIDES[kind](fleet) as side:
        print(json.dumps({"port": side.port}), flush=True)
        while command := (await commands.readline()).decode().split():
            if command[0] == "memory":
                gc.collect()
                print(json.dumps({"resident_bytes": resident_bytes()}), flush=True)
            else:
                pace_s = PACE_S if command[0] == "paced" else 0.0
                print(json.dumps(await _handed(side, fleet, int(command[1]), pace_s)), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
