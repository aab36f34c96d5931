"""The real tripwire ends watches by itself, learns before it accuses, and survives a socket that cannot be had."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Iterator

import pytest

from poolproof.ids import VerificationId
from poolproof.target import Target
from probe import tripwire as tripwires
from probe.settings import TripwireMode, TripwireSettings
from probe.tripwire import LEARNING_NS, NoTripwire, PacketTripwire, tripwire_by
from tests.probe.udp_peers import open_files
from tests.probe.virtual import MS, S

V = VerificationId("v")
OWN = "127.0.0.1"
PATIENCE_S = 20


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((OWN, 0))
        yield made


def target_at(server: socket.socket) -> Target:
    return Target(OWN, server.getsockname()[1])


@pytest.mark.lab
async def test_a_watch_that_nobody_asks_about_again_is_closed_at_its_end(server: socket.socket) -> None:
    tripwire = PacketTripwire(8)
    before = open_files()
    tripwire.arm(V, target_at(server), OWN, time.time_ns() + 50 * MS)
    assert len(open_files()) == len(before) + 1
    async with asyncio.timeout(PATIENCE_S):
        while open_files() != before:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0)


@pytest.mark.lab
async def test_what_waits_is_read_by_the_loop_before_anybody_asks(server: socket.socket) -> None:
    tripwire = PacketTripwire(8, learning_ns=0)
    tripwire.arm(V, target_at(server), OWN, time.time_ns() + 60 * S)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((OWN, 0))
        for _ in range(2_000):  # more than the kernel keeps for one socket
            server.sendto(b"strange", own.getsockname())
            await asyncio.sleep(0)
    capture = tripwire.harvest(V, target_at(server), OWN)
    tripwire.close()
    assert capture is not None
    assert (capture.unasked_total, capture.lost) == (2_000, 0)


@pytest.mark.lab
async def test_a_watch_accuses_nobody_while_it_learns(server: socket.socket) -> None:
    tripwire = PacketTripwire(8)
    armed_ns = time.time_ns()
    tripwire.arm(V, target_at(server), OWN, armed_ns + 60 * S)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((OWN, 0))
        server.sendto(b"perhaps an answer to what was sent before", own.getsockname())
        own.recv(100)
    capture = tripwire.harvest(V, target_at(server), OWN)
    tripwire.close()
    assert capture is not None
    assert capture.since_ns >= armed_ns + LEARNING_NS
    assert capture.unasked_total == 0


@pytest.mark.lab
async def test_a_socket_that_cannot_be_had_costs_one_watch_and_a_line_in_the_log(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_more_files(program: bytes) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    tripwire = PacketTripwire(8)
    with monkeypatch.context() as patched:
        patched.setattr(tripwires, "open_packet_socket", no_more_files)
        tripwire.arm(V, target_at(server), OWN, time.time_ns() + 60 * S)
    assert tripwire.harvest(V, target_at(server), OWN) is None
    (line,) = caplog.records
    assert (line.getMessage(), line.__dict__["detail"]) == ("no watch", "Too many open files (EMFILE)")
    tripwire.arm(V, target_at(server), OWN, time.time_ns() + 60 * S)
    assert tripwire.harvest(V, target_at(server), OWN) is not None
    tripwire.close()


async def test_a_probe_without_a_tripwire_takes_every_call() -> None:
    tripwire = tripwire_by(TripwireSettings(enabled=TripwireMode.NO))
    assert isinstance(tripwire, NoTripwire)
    assert not tripwire.can_watch
    tripwire.arm(V, Target("192.0.2.1"), "192.0.2.2", time.time_ns() + 60 * S)
    assert tripwire.harvest(V, Target("192.0.2.1"), "192.0.2.2") is None
    tripwire.close()
