"""How far apart the probes of one round send, by the times in their reports.

Twelve `poolproof probe` processes, each with its own address on loopback, are connected to a coordinator's sessions
and get jobs with one start time for each round. All share this machine's processors, which real probes do not, and
fire several rounds a second, which real ones do not either.

    python -m bench.skew
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from bench.sessions import Sessions, a_fleet, serving, verification_of_bench
from coordinator.conductor import Conductor
from coordinator.records import Held
from coordinator.settings import CoordinatorSettings
from poolproof.exchange import ExchangeKind
from poolproof.fleet import Vantage
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import Job, Report, Step
from poolproof.policy import SECOND_NS
from poolproof.span import Span
from poolproof.target import Target

PROBES = 12
ROUNDS = 210
CADENCE_NS = SECOND_NS // 9
LEAD_NS = 3 * SECOND_NS
"""A job is handed out this long before its start; a probe asks its control servers first."""
TIMEOUT_NS = SECOND_NS // 4
GOAL_MS = 20.0
_CONTROL = "127.0.6.254"
_PATIENCE_S = 40.0
_SETTINGS = CoordinatorSettings(Path("never-read"))


class Reports(Conductor):
    """Keeps reports instead of judging them."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.kept: dict[JobId, Report] = {}
        self.complete, self.all_here = asyncio.Event(), asyncio.Event()
        self._here: set[VantageId] = set()

    async def reported(self, report: Report, raw: bytes, spans: tuple[Span, ...] = ()) -> Held:
        """See `Conductor.reported`."""
        self.kept[report.job] = report
        if len(self.kept) == ROUNDS * PROBES:
            self.complete.set()
        return Held(verification_of_bench(0), 1)

    def joined(self, vantage: VantageId) -> None:
        """See `Conductor.joined`."""
        self._here.add(vantage)
        if len(self._here) == PROBES:
            self.all_here.set()


def measure() -> dict[str, float]:
    """Milliseconds between the first and the last probe's first packet of a round, over all complete rounds."""
    rounds = asyncio.run(_rounds())
    skews = sorted((max(sent) - min(sent)) / 1e6 for sent in rounds if len(sent) == PROBES)
    if not skews:
        raise RuntimeError(f"none of {ROUNDS} rounds was complete: did the probes refuse the jobs?")
    return {
        "skew_p50_ms": skews[len(skews) // 2],
        "skew_p99_ms": skews[len(skews) * 99 // 100],
        "skew_max_ms": skews[-1],
        "rounds_complete": float(len(skews)),
        "rounds_asked": float(ROUNDS),
    }


async def _rounds() -> list[list[int]]:
    """When each probe sent in each round; a probe that could not send is left out."""
    fleet = a_fleet(PROBES)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="poolproof-bench-")))
        port = await stack.enter_async_context(_responder())
        sessions, conductor = await stack.enter_async_context(serving(fleet, Reports, _SETTINGS))
        assert isinstance(conductor, Reports)
        for vantage in fleet:
            await stack.enter_async_context(_probe(vantage, sessions.port, port, folder))
        async with asyncio.timeout(_PATIENCE_S):
            await conductor.all_here.wait()
        jobs = await _fire(sessions, fleet, port)
        kept = conductor.kept
        with contextlib.suppress(TimeoutError):  # a round that stays incomplete is counted as such
            async with asyncio.timeout(_PATIENCE_S / 4):
                await conductor.complete.wait()
    return [
        [
            kept[job.id].exchanges[0].sent_at_ns
            for job in each
            if job.id in kept and kept[job.id].exchanges[0].fault is None
        ]
        for each in jobs
    ]


async def _fire(sessions: Sessions, fleet: Sequence[Vantage], port: int) -> list[tuple[Job, ...]]:
    """Hands out all rounds, each when it is due."""
    first_ns = time.time_ns() + LEAD_NS
    rounds: list[tuple[Job, ...]] = []
    for number in range(ROUNDS):
        start_ns = first_ns + number * CADENCE_NS
        await asyncio.sleep(max(0, start_ns - LEAD_NS - time.time_ns()) / 1e9)
        jobs = tuple(
            Job(
                JobId(f"bench/{number}/r1/{vantage.id}"),
                VerificationId("bench"),
                vantage.id,
                Target(_target(number), port),
                vantage.ipv4 or "",
                start_ns,
                (Step(ExchangeKind.CLIENT_V4, 0),),
                TIMEOUT_NS,
                0,
            )
            for vantage in fleet
        )
        sessions.hand_out(jobs)
        rounds.append(jobs)
    return rounds


def _target(number: int) -> str:
    """Each round asks another address: a probe's guard forbids asking one so often."""
    return f"127.0.6.{number + 1}"


@asynccontextmanager
async def _responder() -> AsyncIterator[int]:
    """Answers at every round's address and as control server; yields the port."""
    port = _free_port()
    listen = [f"{address}:{port}" for address in (_CONTROL, *map(_target, range(ROUNDS)))]
    arguments = [part for each in listen for part in ("--listen", each)]
    async with _process([sys.executable, "-m", "probe.responder", *arguments], {}, None):
        yield port


@asynccontextmanager
async def _probe(vantage: Vantage, coordinator: int, port: int, folder: Path) -> AsyncIterator[None]:
    settings = {
        "VANTAGE": vantage.id,
        "COORDINATOR": f"127.0.0.1:{coordinator}",
        "IPV4": vantage.ipv4 or "",
        "CONTROL_SERVERS": f"{_CONTROL}:{port}",
        "GUARD_ALLOW_NETWORKS": "127.0.0.0/8",
        "GUARD_ALLOW_PORTS": str(port),
        "JOURNAL_DIRECTORY": str(folder / vantage.id),
    }
    variables = {f"POOLPROOF_PROBE_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-c", "from coordinator.cli import main; main()", "probe"]
    async with _process(command, variables, folder / f"{vantage.id}.log"):
        yield


@asynccontextmanager
async def _process(command: Sequence[str], variables: dict[str, str], log: Path | None) -> AsyncIterator[None]:
    with (log or Path(os.devnull)).open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | variables, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield
        if process.returncode is not None:
            raise RuntimeError(f"`{' '.join(command[1:5])} ...` ended with {process.returncode} while it was needed")
    finally:
        if process.returncode is None:
            process.kill()  # nothing of it is to be kept
            await process.wait()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind((_CONTROL, 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    for figure, value in measure().items():
        print(f"{figure:32} {value:12.2f}")
