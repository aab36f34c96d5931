"""Puts a coordinator together. The only place that knows which adapter stands behind each port."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata

from coordinator.attempt_telemetry import AttemptTelemetry
from coordinator.calibration.addresses import Addresses, read_place
from coordinator.calibration.calibrations import Calibrations
from coordinator.calibration.ledger import Ledger
from coordinator.calibration.play import Stage
from coordinator.calibration.sources import Sources
from coordinator.conductor import Conductor, new_id
from coordinator.draw_key import draw_key
from coordinator.fleet import load_fleet
from coordinator.metrics import METRICS, CoordinatorMetrics
from coordinator.policy_file import load_policy
from coordinator.ports import Clock
from coordinator.registry import Registry
from coordinator.resolve import Lookup, look_up
from coordinator.service import Verifications
from coordinator.session import AgentSessions
from coordinator.settings import MEMORY, CoordinatorSettings, SettingsError
from coordinator.store.memory import MemoryStore
from coordinator.store.port import Store
from coordinator.store.sqlite import SqliteStore
from coordinator.tickets import Tickets
from coordinator.traces import TraceStore
from coordinator.tracing_port import Telemetry
from coordinator.wall_clock import WallClock
from poolproof.fleet import Vantage
from poolproof.ids import PolicyId
from poolproof.metering import metering_from
from poolproof.policy import POLICIES, Policy
from poolproof.semconv import COORDINATOR
from poolproof.tracing import sink_from

STORE_FILE = "poolproof.sqlite"


@dataclass(frozen=True, slots=True)
class Composition:
    """The parts that the server needs."""

    store: Store
    registry: Registry
    conductor: Conductor
    calibrations: Calibrations
    sessions: AgentSessions
    verifications: Verifications


@asynccontextmanager
async def compose(settings: CoordinatorSettings, *, lookup: Lookup = look_up) -> AsyncIterator[Composition]:
    """A coordinator's parts; on the way out, everything taken is saved and everything opened is closed.

    Args:
        settings: all that it needs to know.
        lookup: finds a host name's addresses.

    Raises:
        SettingsError, FleetError, PolicyFileError, DrawKeyError, StoreError: see there.
    """
    fleet = load_fleet(settings.fleet_file)
    policies, policy = _policies(settings)
    key, store = await _state(settings)
    try:
        clock, resource = WallClock(), _resource()
        traces = TraceStore(store, resource)
        telemetry = _telemetry(settings, traces, resource, policies)
        writing = asyncio.create_task(telemetry.run())
        registry = Registry(fleet, clock, settings)
        tickets = Tickets(key, settings.ticket_grace_ns)
        conductor = Conductor(store, registry, clock, telemetry, policies, policy, key, tickets)
        sessions = AgentSessions(registry, conductor, clock, telemetry, tickets, settings, lambda: secrets.token_hex(8))
        calibrations = _calibrations(
            settings, fleet, store, registry, conductor, clock, telemetry, policies[policy], key
        )
        conductor.on_attempt = calibrations.attempt_begun
        verifications = Verifications(
            conductor,
            store,
            traces,
            clock,
            registry,
            policies,
            settings,
            lambda: new_id(secrets.token_bytes),
            key,
            calibrations,
            lookup,
        )
        try:
            yield Composition(store, registry, conductor, calibrations, sessions, verifications)
        finally:
            await calibrations.close()
            await conductor.close()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await telemetry.flush()
            await asyncio.to_thread(telemetry.close)
    finally:
        await store.close()


def _calibrations(
    settings: CoordinatorSettings,
    fleet: Iterable[Vantage],
    store: Store,
    registry: Registry,
    conductor: Conductor,
    clock: Clock,
    telemetry: Telemetry,
    policy: Policy,
    key: bytes,
) -> Calibrations:
    ledger = Ledger(store, registry, conductor, clock, telemetry, policy)
    return Calibrations(
        Stage(store, conductor, clock, ledger, Sources(fleet), policy),
        Addresses(map(read_place, settings.calibration_listen), secrets.randbelow),
        telemetry,
        key,
        lambda: new_id(secrets.token_bytes),
        secrets.randbits,
    )


def _policies(settings: CoordinatorSettings) -> tuple[Mapping[PolicyId, Policy], PolicyId]:
    own = load_policy(settings.policy_file) if settings.policy_file is not None else None
    policies = POLICIES if own is None else {**POLICIES, own.id: own}
    chosen = settings.policy or next(reversed(policies))
    if chosen not in policies:
        raise SettingsError(f"policy: {chosen!r}: there is none of this id; give one of {', '.join(policies)}")
    return policies, chosen


async def _state(settings: CoordinatorSettings) -> tuple[bytes, Store]:
    if settings.store == MEMORY:
        return secrets.token_bytes(32), MemoryStore()
    try:
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"state_dir: {settings.state_dir}: {error.strerror}; give one that can be made") from None
    return draw_key(settings.state_dir), await SqliteStore.open(settings.state_dir / STORE_FILE)


def _telemetry(
    settings: CoordinatorSettings,
    traces: TraceStore,
    resource: Mapping[str, str],
    policies: Mapping[PolicyId, Policy],
) -> AttemptTelemetry:
    try:
        return AttemptTelemetry(
            traces=traces,
            sink=sink_from(settings.otel, resource),
            metrics=CoordinatorMetrics(metering_from(settings.otel, resource, METRICS)),
            entropy=secrets.randbits,
            resource=resource,
            policies=policies,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _resource() -> Mapping[str, str]:
    try:
        version = metadata.version("poolproof")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        version = "unknown"
    return {"service.name": COORDINATOR, "service.version": version, "service.instance.id": secrets.token_hex(8)}
