"""Puts a probe together. The only module of the probe that knows which concrete parts there are."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from collections.abc import Mapping
from types import MappingProxyType

from poolproof import semconv
from poolproof.metering import metering_from
from poolproof.tracing import sink_from
from poolproof.wire.session import NONCE_BYTES
from probe.agent import Agent, AgentTimings
from probe.backoff import Backoff
from probe.clock import Clock, SystemClock
from probe.gate import Gate
from probe.guard import Guard
from probe.journal import Journal
from probe.metrics import METRICS, ProbeMetrics
from probe.outbox import Outbox
from probe.runner import Runner
from probe.session import Session, decode_report, encode_report
from probe.settings import ProbeSettings
from probe.transport import Transport
from probe.tripwire import Tripwire, tripwire_by
from probe.udp import UdpEngine
from probe.workload import Workload


async def run_probe(
    settings: ProbeSettings,
    *,
    environ: Mapping[str, str],
    timings: AgentTimings | None = None,
    transport: Transport | None = None,
    tripwire: Tripwire | None = None,
    clock: Clock | None = None,
    stop_on: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT),
) -> None:
    """Be a probe until one of the signals comes; a second one ends it at once.

    Args:
        settings: the probe's.
        environ: what OpenTelemetry's standard variables are read from.
        timings: how patient it is.
        transport: real UDP unless given.
        tripwire: what the settings and this host allow, unless given.
        clock: the machine's unless given.
        stop_on: signals that begin a graceful end.

    Raises:
        RejectedError: the coordinator will not have this agent.
        JournalError: the journal cannot be used.
        SettingsError: the settings insist on a tripwire, and there can be none.
        ValueError: OpenTelemetry's variables ask for what there is not.
    """
    timings = timings or AgentTimings()
    clock = clock or SystemClock()
    resource = MappingProxyType(
        {
            "service.name": semconv.PROBE,
            "service.instance.id": str(settings.vantage),
            "service.version": settings.version or "unknown",
            "host.name": socket.gethostname(),
        }
    )
    tripwire = tripwire or tripwire_by(settings.tripwire)
    sink = sink_from(environ, resource)
    metrics = ProbeMetrics(metering_from(environ, resource, METRICS))
    journal = await asyncio.to_thread(lambda: Journal(settings.journal, encode=encode_report, decode=decode_report))
    try:
        guard, gate = Guard(settings), Gate(settings)
        now_ns = clock.now_ns()
        for permit in await asyncio.to_thread(journal.permits, now_ns):
            guard.recall(permit, now_ns)
            gate.recall(permit, now_ns)
        runner = Runner(
            settings,
            transport=transport or UdpEngine(gate.refuses),
            tripwire=tripwire,
            journal=journal,
            guard=guard,
            clock=clock,
            entropy=secrets.randbits,
        )
        outbox = Outbox(journal, clock)
        workload = Workload(
            runner=runner,
            journal=journal,
            outbox=outbox,
            clock=clock,
            entropy=secrets.randbits,
            metrics=metrics,
            sink=sink,
            resource=resource,
            capacity=settings.guard.max_jobs,
            jobs_per_minute=settings.guard.jobs_per_minute,
        )
        agent = build_agent(
            settings,
            workload=workload,
            outbox=outbox,
            clock=clock,
            metrics=metrics,
            timings=timings,
            can_watch=tripwire.can_watch,
        )
        await _until_stopped(agent, stop_on)
    finally:
        tripwire.close()
        journal.close()
        # Both may wait for a collector that is not there.
        await asyncio.to_thread(sink.close)
        await asyncio.to_thread(metrics.close)


def build_agent(
    settings: ProbeSettings,
    *,
    workload: Workload,
    outbox: Outbox,
    clock: Clock,
    metrics: ProbeMetrics,
    timings: AgentTimings,
    can_watch: bool,
) -> Agent:
    """An agent that dials the settings' coordinator, and tells it whether there is a tripwire here."""
    nonce = secrets.token_bytes(NONCE_BYTES)

    def new_session(stopping: asyncio.Event) -> Session:
        return Session(
            settings,
            workload=workload,
            outbox=outbox,
            clock=clock,
            nonce=nonce,
            stopping=stopping,
            patience_s=timings.patience_s,
            can_watch=can_watch,
        )

    backoff = Backoff(
        secrets.randbits,
        floor_s=timings.backoff_floor_s,
        first_s=timings.backoff_first_s,
        cap_s=timings.backoff_cap_s,
    )
    return Agent(
        new_session=new_session, workload=workload, outbox=outbox, backoff=backoff, metrics=metrics, timings=timings
    )


async def _until_stopped(agent: Agent, stop_on: tuple[signal.Signals, ...]) -> None:
    running = asyncio.ensure_future(agent.run())
    loop = asyncio.get_running_loop()
    asked = False

    def asked_to_stop() -> None:
        nonlocal asked
        if asked:
            running.cancel()
        asked = True
        agent.stop()

    for each in stop_on:
        loop.add_signal_handler(each, asked_to_stop)
    try:
        await running
    finally:
        for each in stop_on:
            loop.remove_signal_handler(each)
