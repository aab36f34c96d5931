"""A coordinator's real sessions without verifications behind them: what the benches hand jobs out with.

Sessions, registry and handing are the coordinator's own, on a gRPC server with its options. The conductor is the real
one on an empty store in memory, and telemetry is silent: neither takes part in handing a job to its agent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import grpc

from coordinator.conductor import Conductor
from coordinator.handing import Handing
from coordinator.registry import Agent, Registry
from coordinator.server import _OPTIONS
from coordinator.session import AgentSessions
from coordinator.settings import CoordinatorSettings
from coordinator.store.memory import MemoryStore
from coordinator.tickets import Tickets
from coordinator.wall_clock import WallClock
from poolproof.challenge import Method
from poolproof.fleet import Rir, Vantage
from poolproof.ids import VantageId, VerificationId
from poolproof.job import Job
from poolproof.policy import POLICIES, POLICY_2026_11, SECOND_NS
from poolproof.target import Target
from poolproof.v1 import agent_pb2_grpc
from poolproof.variant import Variant
from poolproof.verification import Verification
from tests.coordinator.doubles import NoTelemetry

SERVER_OPTIONS = _OPTIONS
SETTINGS = CoordinatorSettings(Path("never-read"), heartbeat_interval_ns=60 * SECOND_NS)


class HeardRegistry(Registry):
    """Counts the messages that came from agents."""

    heard_messages = 0
    on_heard: Callable[[], None] | None = None

    def heard(self, agent: Agent) -> None:
        """See `Registry.heard`."""
        super().heard(agent)
        self.heard_messages += 1
        if self.on_heard is not None:
            self.on_heard()

    def forget_jobs(self) -> None:
        """What the agents' reports would do: nothing is outstanding any more."""
        for state in self.states():
            if state.agent is not None:
                state.agent.outstanding.clear()


@dataclass(frozen=True, slots=True)
class Sessions:
    """What is served.

    Attributes:
        port: on 127.0.0.1.
        registry: who is connected.
        handing: hands out jobs.
        verification: the one that all jobs are said to be of.
    """

    port: int
    registry: HeardRegistry
    handing: Handing
    verification: Verification

    def hand_out(self, jobs: Iterable[Job]) -> None:
        """Hands out jobs as a verification's turn does.

        Raises:
            RuntimeError: a job could not be put into its agent's stream.
        """
        self.handing.hand_out(self.verification, jobs)


def a_fleet(size: int) -> tuple[Vantage, ...]:
    """Vantages on loopback, each on a network of its own."""
    rirs = tuple(Rir)
    return tuple(
        Vantage(
            VantageId(f"v{n:04}"), f"127.8.{n // 200}.{n % 200 + 1}", None, None, 4_200_000_000 + n, rirs[n % len(rirs)]
        )
        for n in range(size)
    )


@asynccontextmanager
async def serving(
    fleet: Iterable[Vantage], conductor: type[Conductor] = Conductor, settings: CoordinatorSettings = SETTINGS
) -> AsyncIterator[tuple[Sessions, Conductor]]:
    """Serves agents until the block ends."""
    clock, telemetry, numbers = WallClock(), NoTelemetry(), count(1)
    registry = HeardRegistry(fleet, clock, settings)
    tickets = Tickets(bytes(32), settings.ticket_grace_ns)
    conducting = conductor(MemoryStore(), registry, clock, telemetry, POLICIES, POLICY_2026_11.id, bytes(32), tickets)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    sessions = AgentSessions(registry, conducting, clock, telemetry, tickets, settings, lambda: f"s{next(numbers)}")
    agent_pb2_grpc.add_AgentServiceServicer_to_server(sessions, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    def later(when_ns: int, callback: Callable[[], None]) -> None:
        raise RuntimeError("an agent took no job: its stream's queue is full, it is at capacity, or it is gone")

    handing = Handing(registry, clock, telemetry, tickets, later, lambda jobs: None)
    try:
        yield Sessions(port, registry, handing, verification_of_bench(clock.now_ns())), conducting
    finally:
        await conducting.close()
        await server.stop(None)


def verification_of_bench(now_ns: int) -> Verification:
    """The one that all jobs are said to be of."""
    target = Target("127.9.9.9")
    return Verification(
        VerificationId("bench"),
        target,
        str(target),
        "bench",
        Method.DIFFERENTIAL,
        Variant.BLOCK,
        POLICY_2026_11.id,
        now_ns,
    )
