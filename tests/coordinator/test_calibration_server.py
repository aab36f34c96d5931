"""Calibration targets: where they are, what they answer, and that they remember exactly that."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.calibration import server as module
from coordinator.calibration.addresses import Addresses, read_place
from coordinator.calibration.server import CalibrationServer
from coordinator.calibration.sources import Sources
from coordinator.server import ListenError, serve
from coordinator.settings import CoordinatorSettings, SettingsError, load
from poolproof.calibration import Heard, Truth
from poolproof.fleet import Rir, Vantage
from poolproof.ids import VantageId
from poolproof.ntp import client_request, decode, from_ntp
from poolproof.policy import SECOND_NS
from poolproof.serving import Behaviour
from poolproof.target import InvalidTargetError, Target
from tests.coordinator.running import environment, eventually, free_udp_port

HOST, ASKER, STRANGER = "127.7.8.1", "127.7.0.1", "127.7.0.99"


@asynccontextmanager
async def serving(looks: Behaviour | None = None) -> AsyncIterator[CalibrationServer]:
    target = Target(HOST, free_udp_port(HOST))
    server = CalibrationServer(target, looks or Behaviour(stratum=2), time.time_ns, secrets.randbits)
    server.open()
    try:
        yield server
    finally:
        server.close()


def ask(server: CalibrationServer, request: bytes, source: str = ASKER) -> socket.socket:
    """Sends one request; the socket gets the answer."""
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asking.setblocking(False)
    asking.bind((source, 0))
    asking.connect((server.target.address, server.target.port))
    asking.send(request)
    return asking


async def answer(asking: socket.socket) -> bytes:
    with asking:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(asking, 2048), 5)


async def heard(server: CalibrationServer, requests: int) -> Truth:
    async def look() -> Truth:
        return server.truth or {}

    return await eventually(look, lambda truth: sum(map(len, truth.values())) >= requests, 5.0)


async def test_it_remembers_to_the_byte_what_it_answered_whom() -> None:
    async with serving() as server:
        server.play(lambda source: source == ASKER, lambda source: source == ASKER)
        before_ns = time.time_ns()
        got = await answer(ask(server, client_request(7)))
        with ask(server, client_request(8), STRANGER):
            truth = await heard(server, 2)
        (told,), (refused,) = truth[(7).to_bytes(8, "big")], truth[(8).to_bytes(8, "big")]
        assert (told.source, told.answer) == (ASKER, got)
        assert before_ns - SECOND_NS < told.received_at_ns <= told.answered_at_ns < time.time_ns() + SECOND_NS
        assert refused == Heard(STRANGER, refused.received_at_ns)


async def test_it_tells_the_true_time_and_no_two_answers_are_alike() -> None:
    async with serving(Behaviour(stratum=2, precision=-22)) as server:
        told = [decode(await answer(ask(server, client_request(n)))) for n in (1, 2)]
        for each in told:
            assert abs(from_ntp(each.transmit, time.time_ns()) - time.time_ns()) < SECOND_NS
            assert each.receive <= each.transmit + (1 << 10)
        low = [(each.receive % 1024, each.transmit % 1024) for each in told]
        assert low[0] != low[1], "2^-40 that they are by chance"


async def test_between_calibrations_it_answers_everybody_and_remembers_nothing() -> None:
    async with serving() as server:
        assert await answer(ask(server, client_request(1)))
        assert server.truth is None
        server.play(lambda _: False, lambda _: True)
        with ask(server, client_request(2)):
            await heard(server, 1)
        server.rest()
        assert await answer(ask(server, client_request(3)))
        assert server.truth is None


async def test_a_flood_in_vantages_names_voids_a_calibration_and_one_of_strangers_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_HEARD", 3)
    monkeypatch.setattr(module, "MAX_STRANGERS", 2)
    async with serving() as server:
        server.play(lambda _: True, lambda source: source == ASKER)
        for n in range(1, 6):
            await answer(ask(server, client_request(n), STRANGER))
        truth = server.truth
        assert truth is not None
        assert len(truth) == 2
        for n in range(6, 9):
            await answer(ask(server, client_request(n)))
        assert server.truth is not None
        await answer(ask(server, client_request(9)))
        assert server.truth is None, "it does not know all that it was asked"


async def test_a_stray_goes_to_somebody_who_did_not_ask_and_answers_nothing_of_theirs() -> None:
    async with serving() as server:
        caught = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with caught:
            caught.setblocking(False)
            caught.bind((ASKER, 0))
            # Random bits of the port: the one that is listened on here.
            server._bits = lambda bits: caught.getsockname()[1] - 32_768 if bits == 14 else secrets.randbits(bits)
            sent = server.stray(ASKER)
            assert sent is not None
            came = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(caught, 2048), 5)
        assert came == sent.payload
        assert (decode(came).mode, sent.destination) == (4, ASKER)
    assert server.stray(ASKER) is None, "a closed server sends nothing"


async def test_a_coordinator_whose_target_cannot_be_bound_says_which_setting_it_is(tmp_path: Path) -> None:
    port = free_udp_port(HOST)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, port))
        listen = {"calibration_listen": f"{HOST}:{port}", "allow_ports": str(port)}
        settings = load(environment(tmp_path, store="memory", **listen))
        with pytest.raises(ListenError, match=r"calibration_listen: .*addresses of this host"):
            await serve(settings, stop=asyncio.Event())


async def test_rubbish_is_neither_answered_nor_remembered() -> None:
    async with serving() as server:
        server.play(lambda _: True, lambda _: True)
        with ask(server, b"x" * 47), ask(server, b""):
            await answer(ask(server, client_request(1)))
            assert server.truth is not None
            assert len(server.truth) == 1


async def test_an_address_of_a_prefix_can_be_bound_that_no_interface_has() -> None:
    server = CalibrationServer(Target("2001:db8:c::77", 11123), Behaviour(), time.time_ns, secrets.randbits)
    server.open()
    server.close()


def below(number: int) -> Callable[[int], int]:
    return lambda limit: number % limit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("192.0.2.10", "192.0.2.10:123"),
        ("192.0.2.10:1123", "192.0.2.10:1123"),
        ("[2001:db8::10]:123", "[2001:db8::10]:123"),
        ("[2001:db8:c::/64]:1123", "[2001:db8:c::/64]:1123"),
        ("2001:db8:c::/64", "[2001:db8:c::/64]:123"),
    ],
)
def test_a_place_is_read_as_it_is_shown(text: str, shown: str) -> None:
    place = read_place(text)
    assert str(place) == shown
    assert read_place(shown) == place


@pytest.mark.parametrize("text", ["", "example.org", "192.0.2.0/24", "[2001:db8::/113]:123", "[2001:db8::1/64]:123"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidTargetError):
        read_place(text)


@given(st.integers(0, (1 << 64) - 1))
def test_addresses_of_a_prefix_are_random_ones_of_it(number: int) -> None:
    taken = Addresses([read_place("[2001:db8:c::/64]:123")], below(number)).take()
    assert taken is not None
    assert taken.address.startswith("2001:db8:c:")
    assert taken.address != "2001:db8:c::"


def test_an_address_is_of_one_calibration_at_a_time_and_a_prefix_never_runs_out() -> None:
    single = Addresses([read_place("192.0.2.10"), read_place("192.0.2.11")], below(0))
    first, second = single.take(), single.take()
    assert (first, second, single.take()) == (Target("192.0.2.10"), Target("192.0.2.11"), None)
    assert first is not None
    single.give_back(first)
    assert single.take() == first
    prefix = Addresses([read_place("[2001:db8:c::/64]:123")], secrets.randbelow)
    assert len({prefix.take() for _ in range(50)}) == 50
    assert Addresses([], below(0)).take() is None


def test_sources_know_their_vantages() -> None:
    rir = Rir.RIPE
    sources = Sources(
        [
            Vantage(VantageId("a"), "192.0.2.1", "2001:db8::1", None, 64500, rir),
            Vantage(VantageId("b"), None, None, "2001:db8:7::/64", 64501, rir),
        ]
    )
    known = {source: sources.vantage_of(source) for source in ("192.0.2.1", "2001:db8::1", "2001:db8:7::99")}
    assert known == {"192.0.2.1": "a", "2001:db8::1": "a", "2001:db8:7::99": "b"}
    assert [sources.vantage_of(each) for each in ("192.0.2.2", "2001:db8:8::1")] == [None, None]


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ("nowhere", "give an IPv4 or IPv6 address"),
        ("127.7.8.1:11", "give one of 123"),
        ("192.0.2.10", "where no probe asks"),
    ],
)
def test_a_setting_that_would_give_targets_away_is_refused(tmp_path: Path, given_: str, said: str) -> None:
    with pytest.raises(SettingsError, match="calibration_listen: .*" + said):
        load(environment(tmp_path, calibration_listen=given_))


def test_places_come_from_file_and_environment(tmp_path: Path) -> None:
    listen = "127.7.8.1, [2a01:3f7:9::/64]:123"
    assert load(environment(tmp_path, calibration_listen=listen)).calibration_listen == (
        "127.7.8.1",
        "[2a01:3f7:9::/64]:123",
    )
    assert CoordinatorSettings(tmp_path / "fleet.toml").calibration_listen == ()
