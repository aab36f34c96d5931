"""The shared-socket sweep: each answer goes to its own request, and one target's error never costs another."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack

import pytest

from poolproof.exchange import LocalFault, Reply
from poolproof.ntp import client_request
from poolproof.target import Family, Target
from probe.batches import socket_names
from probe.errqueue import drain
from probe.sockets import open_udp
from probe.sweep import Swept, sweep
from tests.probe.udp_peers import answer_to, answering, closed_port, open_files, server

MS = 1_000_000
SOURCES = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}


async def swept(
    targets: list[Target],
    *,
    sources: Mapping[Family, str] = SOURCES,
    timeout_ns: int = 3_000 * MS,
    in_flight: int = 16,
) -> list[Swept]:
    """What became of the targets, in the order in which they were given."""
    told: list[Swept] = []
    await sweep(targets, told.append, sources=sources, timeout_ns=timeout_ns, in_flight=in_flight)
    assert Counter(result.target for result in told) == Counter(targets)
    return [told.pop([result.target for result in told].index(target)) for target in targets]


async def test_each_target_gets_its_own_answer() -> None:
    def told_by(number: int) -> object:
        return answering(lambda request: answer_to(request) + bytes([number] * 4))

    before_ns = time.time_ns()
    with ExitStack() as servers:
        addresses = ["127.0.0.1", "::1", "127.0.0.2", "127.0.0.3"]
        targets = [servers.enter_context(server(at, told_by(n))) for n, at in enumerate(addresses)]  # type: ignore[arg-type]
        results = await swept(targets * 50)
    for number, result in enumerate(results):
        assert result.payload == answer_to(client_request(int.from_bytes(result.secret, "big"))) + bytes(
            [number % 4] * 4
        )
        assert before_ns <= result.sent_at_ns < result.received_at_ns < time.time_ns()
    assert len({result.secret for result in results}) == len(results)


async def test_a_result_is_evidence_like_any_other() -> None:
    with server("127.0.0.1", answering(answer_to)) as target:
        (result,) = await swept([target])
    exchange = result.exchange()
    assert exchange.replies == (Reply(answer_to(exchange.request), result.received_at_ns),)
    assert (exchange.source, exchange.destination, exchange.port) == ("127.0.0.1", target.address, target.port)
    assert (exchange.sent_at_ns, exchange.timeout_ns) == (result.sent_at_ns, 3_000 * MS)
    assert (exchange.icmp, exchange.fault) == ((), None)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_refusal_of_one_never_costs_another(address: str) -> None:
    with server(address, answering(answer_to)) as target:
        closed = [closed_port(address) for _ in range(3)]
        results = await swept([*closed, target, *closed, target, target] * 20, timeout_ns=400 * MS, in_flight=64)
    answered = [result for result in results if result.target == target]
    assert all(result.payload is not None and result.fault is None for result in answered)
    refused = [result for result in results if result.icmp is not None]
    assert refused  # the kernel limits how many errors it sends
    for result in refused:
        assert result.target in closed
        assert result.icmp is not None
        assert result.icmp.quoted == result.exchange().request
    assert all(result.fault is None and result.payload is None for result in results if result.target in closed)


def test_the_trap_is_there() -> None:
    """A pending error about one peer makes the send to the next fail, unsent: what the sweep must live with."""
    closed = closed_port("127.0.0.1")
    with open_udp("127.0.0.1", Family.IPV4) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        sock.sendto(b"x" * 48, (closed.address, closed.port))
        with pytest.raises(ConnectionRefusedError):
            sock.sendto(b"y" * 48, peer.getsockname())
        with pytest.raises(BlockingIOError):
            peer.recv(100)
        assert [error.destination for error in drain(sock)] == [(closed.address, closed.port)]


async def test_answers_from_elsewhere_are_left_out() -> None:
    def play(sock: socket.socket, payload: bytes, sender: tuple[str, int]) -> None:
        for bind in (("127.0.0.2", sock.getsockname()[1]), ("127.0.0.1", 0)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(bind)
                other.sendto(answer_to(payload), sender)

    with server("127.0.0.1", play) as target:
        (result,) = await swept([target], timeout_ns=100 * MS)
    assert (result.payload, result.icmp, result.fault) == (None, None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda request: answer_to(client_request(int.from_bytes(request[40:], "big") ^ 1)),
        lambda request: answer_to(request)[:47],
        lambda request: request,
    ],
    ids=["another origin", "too short", "our own bytes"],
)
async def test_an_answer_that_does_not_echo_is_left_out(wrong: object) -> None:
    with server("127.0.0.1", answering(wrong, answer_to)) as target:  # type: ignore[arg-type]
        (result,) = await swept([target])
    assert result.payload == answer_to(result.exchange().request)


async def test_silent_targets_give_way_to_others() -> None:
    with server("127.0.0.1", answering()) as silent, server("127.0.0.2", answering(answer_to)) as target:
        results = await swept([silent] * 5 + [target] * 5, timeout_ns=60 * MS, in_flight=2)
    assert [result.payload is not None for result in results] == [False] * 5 + [True] * 5


async def test_what_the_kernel_will_not_send_is_a_fault_of_that_one_alone() -> None:
    with server("127.0.0.1", answering(answer_to)) as target:
        broadcast = Target("255.255.255.255")
        results = await swept([target, broadcast, target])
    assert [result.fault for result in results] == [None, LocalFault.SEND_FAILED, None]
    assert "255.255.255.255" in results[1].fault_detail
    assert [result.payload is not None for result in results] == [True, False, True]


async def test_a_source_that_is_not_ours_is_a_fault_of_all() -> None:
    results = await swept([Target("127.0.0.1")] * 2, sources={Family.IPV4: "192.0.2.77"}, timeout_ns=MS)
    assert [result.fault for result in results] == [LocalFault.BIND_FAILED] * 2


@pytest.mark.parametrize("changed", [{"in_flight": 0}, {"sources": {Family.IPV6: "::1"}}])
async def test_what_cannot_be_done_is_named(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"in_flight 0|no IPV4 address"):
        await swept([Target("127.0.0.1")], **changed)  # type: ignore[arg-type]


async def test_an_error_of_whoever_is_told_ends_the_sweep() -> None:
    def tell(_result: Swept) -> None:
        raise LookupError("ours")

    with server("127.0.0.1", answering(answer_to)) as target, pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(5):
            await sweep([target] * 3, tell, sources=SOURCES, timeout_ns=60_000 * MS)
    assert [str(error) for error in raised.value.exceptions] == ["ours"]


async def test_nothing_is_left_open() -> None:
    assert await swept([]) == []
    before = open_files()
    with server("127.0.0.1", answering(answer_to)) as target:
        await swept([target, closed_port("::1")], timeout_ns=50 * MS)
    assert open_files() == before


def test_a_peers_name_is_the_start_of_its_socket_address() -> None:
    (ipv4,) = socket_names([Target("192.0.2.1", 0x1234)], Family.IPV4)
    (ipv6,) = socket_names([Target("2001:db8::1", 123)], Family.IPV6)
    assert ipv4[2:] == b"\x12\x34\xc0\x00\x02\x01"
    assert ipv6[2:] == b"\x00\x7b" + bytes(4) + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
