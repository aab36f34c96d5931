"""The gRPC server: both services, standard health and reflection, and an orderly end.

Health says SERVING while the store answers, so that nobody is sent to a coordinator that can save nothing. On SIGTERM
it says NOT_SERVING, agents are told to finish and connect anew, what is under way is saved, and then the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer  # health.aio, which type checkers do not see
from grpc_reflection.v1alpha import reflection

from coordinator.compose import Composition, compose
from coordinator.rpc import AGENT_SERVICE, VERIFICATION_SERVICE, add_services
from coordinator.settings import CoordinatorSettings
from coordinator.store.errors import StoreError
from coordinator.store.port import Store
from poolproof.policy import SECOND_NS

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
READINESS_PERIOD_S = 2.0
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    # Agents may ping as often as they like: a default server answers frequent pings with GOAWAY.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    # A hung peer (SIGSTOP) is found by pings alone when nothing else is to be said.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Two coordinators on one port would share its agents without knowing of each other.
    ("grpc.so_reuseport", 0),
)
_log = logging.getLogger(__name__)


class ListenError(RuntimeError):
    """The listener could not be opened."""


async def serve(
    settings: CoordinatorSettings,
    *,
    stop: asyncio.Event | None = None,
    on_ready: Callable[[str], Awaitable[None] | None] | None = None,
) -> None:
    """Runs a coordinator until it is told to stop.

    Args:
        settings: all that it needs to know.
        stop: set it to end; SIGTERM and SIGINT are taken if there is none.
        on_ready: called with `host:port` once calls are served.

    Raises:
        ListenError: the address cannot be listened on.
        SettingsError, FleetError, PolicyFileError, DrawKeyError, UnknownPolicyError, StoreError: see there.
    """
    with _signals(stop) as stopping:
        async with compose(settings) as parts:
            await _run(settings, parts, stopping, on_ready)


async def _run(
    settings: CoordinatorSettings,
    parts: Composition,
    stopping: asyncio.Event,
    on_ready: Callable[[str], Awaitable[None] | None] | None,
) -> None:
    server = grpc.aio.server(options=_OPTIONS)
    add_services(server, parts.sessions, parts.verifications)
    readiness = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(readiness, server)
    services = (AGENT_SERVICE, VERIFICATION_SERVICE)
    reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = _listen(settings, server)
    carried_on = await parts.conductor.start()
    try:
        await parts.calibrations.start()
    except OSError as error:
        raise ListenError(
            f"calibration_listen: {error.strerror}; give addresses of this host, or routed to it"
        ) from None
    await server.start()
    _log.info("listening on %s; %d open verifications carried on", address, carried_on)
    watching = asyncio.create_task(_watch_readiness(readiness, parts.store, services))
    try:
        if on_ready is not None and (waiting := on_ready(address)) is not None:
            await waiting
        await stopping.wait()
    finally:
        _log.info("stopping: agents are told, calls under way may take %g s", settings.drain_grace_ns / SECOND_NS)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await readiness.enter_graceful_shutdown()
        parts.registry.leave("the coordinator is stopping; finish what is under way and connect again")
        await server.stop(settings.drain_grace_ns / SECOND_NS)


def _listen(settings: CoordinatorSettings, server: grpc.aio.Server) -> str:
    host, port = settings.endpoint
    shown = f"[{host}]" if host.version == 6 else str(host)
    try:
        bound = server.add_insecure_port(f"{shown}:{port}")
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise ListenError(
            f"listen: {settings.listen}: cannot be opened; is another coordinator running, or the address not this"
            " host's?"
        )
    return f"{shown}:{bound}"


async def _watch_readiness(readiness: HealthServicer, store: Store, services: tuple[str, ...]) -> None:
    """Says what is so: ready while the store can be read."""
    said: int | None = None
    while True:
        try:
            async with asyncio.timeout(READINESS_PERIOD_S):
                await store.get("health/readiness")
            status = health_pb2.HealthCheckResponse.SERVING
        except (StoreError, TimeoutError) as error:
            _log.error("not ready: %s", error or "the store does not answer")
            status = health_pb2.HealthCheckResponse.NOT_SERVING
        if status != said:
            for service in ("", *services):
                await readiness.set(service, status)
            said = status
        await asyncio.sleep(READINESS_PERIOD_S)


@contextlib.contextmanager
def _signals(stop: asyncio.Event | None) -> Iterator[asyncio.Event]:
    if stop is not None:
        yield stop
        return
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    taken = (signal.SIGTERM, signal.SIGINT)
    for each in taken:
        loop.add_signal_handler(each, stopping.set)
    try:
        yield stopping
    finally:
        for each in taken:
            loop.remove_signal_handler(each)
