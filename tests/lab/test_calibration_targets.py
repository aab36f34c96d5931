"""Calibration targets in a network: random addresses of a prefix answer, and real tripwires catch their strays."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from coordinator.calibration.addresses import Addresses, read_place
from coordinator.calibration.server import CalibrationServer
from poolproof.calibration import Finding, examine_watch
from poolproof.capture import Capture
from poolproof.enactment import draw_looks
from poolproof.ids import VerificationId
from poolproof.ntp import decode
from poolproof.policy import SECOND_NS
from poolproof.target import Target
from probe.tripwire import PacketTripwire
from tests.kernel.calibrations import exchange, report
from tests.lab.ask import ask
from tests.lab.net import Host, Network

PREFIX = "2001:db8:c::/64"
V = VerificationId("v1")
PATIENCE_S = 15.0


@asynccontextmanager
async def serving(host: Host, target: Target) -> AsyncIterator[CalibrationServer]:
    server = CalibrationServer(target, draw_looks(b"k" * 32, target.address), time.time_ns, secrets.randbits)
    with host.entered():
        server.open()
    try:
        yield server
    finally:
        server.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 (what is waited for is in the kernel)
            await asyncio.sleep(0.01)


async def test_a_target_at_a_random_address_of_a_prefix_is_a_server_like_any_other(net: Network) -> None:
    house = net.host("coordinator", ipv6="2001:db8:1::1", prefix=PREFIX)
    probe = net.host("probe", ipv6="2001:db8:2::1")
    target = Addresses([read_place(f"[{PREFIX}]:123")], secrets.randbelow).take()
    assert target is not None
    async with serving(house, target) as server:
        server.play(lambda _: True, lambda source: source == probe.ipv6)
        heard = await asyncio.to_thread(ask, probe, target.address, timeout_s=PATIENCE_S)
        assert heard.synchronised
        assert server.truth is not None
        ((told,),) = server.truth.values()
        assert (told.source, decode(told.answer)) == (probe.ipv6, heard.answer)
        server.play(lambda _: False, lambda source: source == probe.ipv6)
        silent = await asyncio.to_thread(ask, probe, target.address)
        assert silent.silent, "and not refused: its socket is open"
        await until(lambda: bool(server.truth))


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_a_real_tripwire_catches_a_stray_and_one_that_was_blind_is_found(net: Network, family: str) -> None:
    house = net.host("coordinator", ipv4="198.18.1.1", ipv6="2001:db8:1::1")
    probe = net.host("probe", ipv4="198.18.2.1", ipv6="2001:db8:2::1")
    target, source = Target(getattr(house, family)), getattr(probe, family)
    tripwire = PacketTripwire(8, learning_ns=0)
    try:
        with probe.entered():
            tripwire.arm(V, target, source, time.time_ns() + 600 * SECOND_NS)

        def capture() -> Capture:
            seen = tripwire.harvest(V, target, source)
            assert seen is not None
            return seen

        async with serving(house, target) as server:
            stray = server.stray(source)
            assert stray is not None
            await until(lambda: capture().unasked_total > 0)
        caught = capture()
    finally:
        tripwire.close()
    # As if it had been watching for some time before, and some time after.
    watched = replace(caught, since_ns=caught.since_ns - 5 * SECOND_NS, until_ns=caught.until_ns + 5 * SECOND_NS)
    blind = replace(watched, unasked=(), unasked_total=0)
    told = report([exchange(1)])
    assert examine_watch(replace(told, capture=watched), [stray]).finding is Finding.TRUE
    assert examine_watch(replace(told, capture=blind), [stray]).finding is Finding.MISSING
