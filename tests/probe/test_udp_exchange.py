"""The engine of one exchange, against small servers on loopback: what comes back is kept as it came, and no more."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import ntplib
import pytest

from poolproof.exchange import Exchange, ExchangeKind, LocalFault
from poolproof.ntp import client_request, decode, to_ntp
from poolproof.target import Target
from probe.listening import MAX_KEPT_BYTES, MAX_KEPT_REPLIES, MAX_KEPT_STRANGE
from probe.sockets import MAX_PAYLOAD_BYTES, open_udp, peer_name, receive
from probe.udp import UdpEngine
from tests.probe.udp_peers import answer_to, answering, closed_port, open_files, server

MS = 1_000_000
BOTH = pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
OWN = {"127.0.0.1": "127.0.0.9", "::1": "::1"}
REQUEST = client_request(0x0123_4567_89AB_CDEF)


async def ask(target: Target, engine: UdpEngine | None = None, **changed: object) -> Exchange:
    arguments: dict[str, object] = {
        "kind": ExchangeKind.CLIENT_V4,
        "request": REQUEST,
        "source": OWN["::1" if ":" in target.address else "127.0.0.1"],
        "target": target,
        "send_at_ns": None,
        "timeout_ns": 5_000 * MS,
        "linger_ns": 0,
        "until_first_reply": True,
        **changed,
    }
    return await (engine or UdpEngine()).exchange(**arguments)  # type: ignore[arg-type]


@BOTH
async def test_an_answer_is_kept_with_the_kernels_time(address: str) -> None:
    senders: list[tuple[str, int]] = []

    def play(sock: socket.socket, payload: bytes, sender: tuple[str, int]) -> None:
        senders.append(sender)
        answering(answer_to)(sock, payload, sender)

    before_ns = time.time_ns()
    with server(address, play) as target:
        exchange = await ask(target)
    (reply,) = exchange.replies
    assert reply.payload == answer_to(REQUEST)
    assert before_ns <= exchange.sent_at_ns < reply.received_at_ns < time.time_ns()
    assert senders[0][0] == exchange.source == OWN[address]
    assert (exchange.destination, exchange.port, exchange.request) == (address, target.port, REQUEST)
    assert (exchange.fault, exchange.icmp) == (None, ())


async def test_the_kernels_time_is_the_arrival_and_not_the_reading() -> None:
    answered = threading.Event()

    def play(sock: socket.socket, payload: bytes, sender: tuple[str, int]) -> None:
        answering(answer_to)(sock, payload, sender)
        answered.set()

    with server("127.0.0.1", play) as target:
        task = asyncio.create_task(ask(target))
        await asyncio.sleep(0)  # the request leaves
        assert answered.wait(5)  # with the loop held up, as on a busy probe
        arrived_by_ns = time.time_ns()
        held_up_until = time.monotonic() + 0.02
        while time.monotonic() < held_up_until:
            pass
        (reply,) = (await task).replies
    assert reply.received_at_ns <= arrived_by_ns


@BOTH
async def test_duplicates_and_late_answers_are_kept_until_the_linger_is_over(address: str) -> None:
    def play(sock: socket.socket, payload: bytes, sender: tuple[str, int]) -> None:
        answering(answer_to, answer_to)(sock, payload, sender)
        time.sleep(0.05)  # past the timeout, well before the end of the linger
        answering(answer_to)(sock, payload, sender)

    with server(address, play) as target:
        exchange = await ask(target, timeout_ns=30 * MS, linger_ns=600 * MS, until_first_reply=False)
    late = [reply.received_at_ns - exchange.sent_at_ns > exchange.timeout_ns for reply in exchange.replies]
    assert late[-1:] == [True]
    assert len(late) == 3


async def test_silence_lasts_as_long_as_the_window() -> None:
    with server("127.0.0.1", answering()) as target:
        start = time.monotonic()
        exchange = await ask(target, timeout_ns=40 * MS, linger_ns=30 * MS)
        lasted_s = time.monotonic() - start
    assert (exchange.replies, exchange.icmp, exchange.fault) == ((), (), None)
    assert lasted_s >= 0.07


@BOTH
async def test_datagrams_from_elsewhere_are_left_out(address: str) -> None:
    def play(sock: socket.socket, payload: bytes, sender: tuple[str, int]) -> None:
        with socket.socket(sock.family, socket.SOCK_DGRAM) as other_port:
            other_port.bind((address, 0))
            other_port.sendto(answer_to(payload), sender)
        if address == "127.0.0.1":
            with socket.socket(sock.family, socket.SOCK_DGRAM) as other_address:
                other_address.bind(("127.0.0.2", sock.getsockname()[1]))
                other_address.sendto(answer_to(payload), sender)

    with server(address, play) as target:
        exchange = await ask(target, timeout_ns=60 * MS)
    assert (exchange.replies, exchange.fault) == ((), None)


def test_a_stranger_who_comes_before_the_connect_is_left_out() -> None:
    target = closed_port("127.0.0.1")
    with (
        open_udp("127.0.0.9", target.family) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        peer.bind((target.address, target.port))
        stranger.sendto(b"forged", sock.getsockname())
        sock.connect((target.address, target.port))
        peer.sendto(b"real", sock.getsockname())
        assert receive(sock, peer_name(target)) is None
        reply = receive(sock, peer_name(target))
        assert reply is not None
        assert reply.payload == b"real"


async def test_rubbish_neither_ends_an_exchange_nor_crowds_out_the_answer() -> None:
    rubbish = [lambda _request, number=number: bytes(48 + number) for number in range(40)]
    with server("127.0.0.1", answering(*rubbish, answer_to)) as target:
        exchange = await ask(target)
    assert len(exchange.replies) == MAX_KEPT_STRANGE + 1
    assert exchange.replies[-1].payload == answer_to(REQUEST)


async def test_what_is_kept_is_bounded_in_number_and_size() -> None:
    oversize = [lambda request: answer_to(request) + bytes(3_000)] * 100
    with server("127.0.0.1", answering(*oversize)) as target:
        exchange = await ask(target, timeout_ns=200 * MS, until_first_reply=False)
    assert [len(reply.payload) for reply in exchange.replies] == [MAX_PAYLOAD_BYTES] * (
        MAX_KEPT_BYTES // MAX_PAYLOAD_BYTES
    )
    small = [lambda request: answer_to(request)] * 100
    with server("127.0.0.1", answering(*small)) as target:
        exchange = await ask(target, timeout_ns=200 * MS, until_first_reply=False)
    assert len(exchange.replies) == MAX_KEPT_REPLIES


async def test_large_rubbish_leaves_room_for_a_large_answer() -> None:
    rubbish = [lambda _request: bytes(3_000)] * 20
    with server("127.0.0.1", answering(*rubbish, lambda request: answer_to(request) + bytes(3_000))) as target:
        exchange = await ask(target)
    *strange, answer = (len(reply.payload) for reply in exchange.replies)
    assert (sum(strange), answer) == (MAX_KEPT_BYTES // 2, MAX_PAYLOAD_BYTES)


async def test_the_first_answer_is_enough_where_no_more_is_wanted() -> None:
    with server("127.0.0.1", answering(answer_to)) as target:
        async with asyncio.timeout(5):
            exchange = await ask(target, timeout_ns=60_000 * MS)
    assert len(exchange.replies) == 1


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("192.0.2.77", Target("127.0.0.1"), "EADDRNOTAVAIL"),
        ("2001:db8:7::77", Target("::1"), "EADDRNOTAVAIL"),
        ("::1", Target("127.0.0.1"), "not an IPv4 address"),
        ("localhost", Target("::1"), "not an IPv6 address"),
    ],
)
async def test_a_source_that_is_not_ours_is_a_fault(source: str, target: Target, words: str) -> None:
    before_ns = time.time_ns()
    exchange = await ask(target, source=source)
    assert exchange.fault is LocalFault.BIND_FAILED
    assert source in exchange.fault_detail
    assert words in exchange.fault_detail
    assert before_ns <= exchange.sent_at_ns <= time.time_ns()


@pytest.mark.parametrize("target", [Target("255.255.255.255"), Target("127.0.0.1")])
async def test_a_target_that_the_kernel_will_not_send_to_is_a_fault(target: Target) -> None:
    exchange = await ask(target, request=bytes(70_000))  # longer than any datagram; and broadcast is not allowed
    assert exchange.fault is LocalFault.SEND_FAILED
    assert target.address in exchange.fault_detail
    assert (exchange.replies, exchange.icmp) == ((), ())


@BOTH
async def test_a_request_leaves_at_its_time(address: str) -> None:
    with server(address, answering(answer_to)) as target:
        engine = UdpEngine()
        at_ns = time.time_ns() + 150 * MS
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(target, engine, send_at_ns=at_ns)) for _ in range(16)]
    for exchange in (task.result() for task in tasks):
        assert (
            0 <= exchange.sent_at_ns - at_ns < 100 * MS
        )  # a bound for a crowded CI machine; `make bench` has the skew
        assert len(exchange.replies) == 1


async def test_a_time_that_has_passed_means_now() -> None:
    with server("127.0.0.1", answering(answer_to)) as target:
        exchange = await ask(target, send_at_ns=time.time_ns() - 5_000 * MS)
    assert len(exchange.replies) == 1


@pytest.fixture
def nothing_left_open() -> Iterator[None]:
    before = open_files()
    yield
    assert open_files() == before


async def _cancelled_everywhere() -> None:
    engine = UdpEngine()
    with server("127.0.0.1", answering()) as target:
        waiting = asyncio.create_task(ask(target, engine, send_at_ns=time.time_ns() + 60_000 * MS))
        listening = [asyncio.create_task(ask(target, engine, timeout_ns=60_000 * MS)) for _ in range(8)]
        before = sum("socket" in file for file in open_files())
        await asyncio.sleep(0)  # each runs until it waits
        assert sum("socket" in file for file in open_files()) == before + len(listening)
        for task in (waiting, *listening):
            task.cancel()
        results = await asyncio.gather(waiting, *listening, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)


@pytest.mark.usefixtures("nothing_left_open")
def test_cancelling_leaves_nothing_open() -> None:
    asyncio.run(asyncio.wait_for(_cancelled_everywhere(), 20))


@pytest.mark.usefixtures("nothing_left_open")
def test_one_engine_serves_one_loop_after_another() -> None:
    engine = UdpEngine()
    with server("127.0.0.1", answering(answer_to)) as target:
        for _ in range(2):
            assert len(asyncio.run(ask(target, engine)).replies) == 1
            silent = asyncio.run(ask(closed_port("127.0.0.1"), engine, timeout_ns=20 * MS))
            assert silent.replies == ()
    del engine


async def test_ntplib_computes_the_same_offset() -> None:
    off_ns = 1_234_567_890

    def play(sock: socket.socket, payload: bytes, sender: tuple[str, int]) -> None:
        now = to_ntp(time.time_ns() + off_ns)
        sock.sendto(answer_to(payload)[:32] + now.to_bytes(8, "big") * 2, sender)

    with server("127.0.0.1", play) as target:
        exchange = await ask(target)
    (reply,) = exchange.replies
    theirs = ntplib.NTPStats()
    theirs.from_data(reply.payload)
    theirs.orig_timestamp = ntplib.system_to_ntp_time(exchange.sent_at_ns / 1e9)  # ours is random on the wire
    theirs.dest_timestamp = ntplib.system_to_ntp_time(reply.received_at_ns / 1e9)
    header = decode(reply.payload)
    middle_ns = (exchange.sent_at_ns + reply.received_at_ns) // 2
    ours_s = ((header.receive + header.transmit) // 2 - to_ntp(middle_ns)) / 2**32
    assert ours_s == pytest.approx(theirs.offset, abs=2e-6)  # ntplib's floats
    assert ours_s == pytest.approx(off_ns / 1e9, abs=0.25)
