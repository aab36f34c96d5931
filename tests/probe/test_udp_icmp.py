"""ICMP errors: read from the error queue with our quoted payload, and never mistaken for a failure of our own."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest

from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault
from poolproof.ntp import client_request
from poolproof.target import Family, Target
from probe.errqueue import drain, parse
from probe.listening import Listener
from probe.sockets import open_udp, peer_name
from probe.udp import UdpEngine
from tests.probe.udp_peers import answer_to, answering, closed_port, server

MS = 1_000_000
REQUEST = client_request(0xFEDC_BA98_7654_3210)
NEEDS_RAW = pytest.mark.skipif(os.geteuid() != 0, reason="forging ICMP needs root")
BOTH = pytest.mark.parametrize(("address", "kind"), [("127.0.0.1", (3, 3)), ("::1", (1, 4))])


async def ask(target: Target, *, timeout_ns: int = 60 * MS, request: bytes = REQUEST) -> Exchange:
    return await UdpEngine().exchange(
        kind=ExchangeKind.CLIENT_V4,
        request=request,
        source="::1" if target.family is Family.IPV6 else "127.0.0.1",
        target=target,
        send_at_ns=None,
        timeout_ns=timeout_ns,
        linger_ns=0,
    )


def icmp_seen(exchange: Exchange) -> IcmpError:
    (error,) = exchange.icmp
    return error


@BOTH
async def test_a_closed_port_is_reported_with_our_packet(address: str, kind: tuple[int, int]) -> None:
    exchange = await ask(closed_port(address))
    error = icmp_seen(exchange)
    assert (error.type, error.code) == kind
    assert error.offender == address
    assert error.quoted == REQUEST
    assert 0 <= error.received_at_ns - exchange.sent_at_ns < 60 * MS
    assert (exchange.fault, exchange.replies) == (None, ())


@BOTH
def test_an_error_that_is_pending_before_the_send_does_not_stop_it(address: str, kind: tuple[int, int]) -> None:
    async def send_after_refusal() -> None:
        target = closed_port(address)
        with open_udp(address, target.family) as sock, socket.socket(sock.family, socket.SOCK_DGRAM) as peer:
            sock.connect((target.address, target.port))
            sock.send(b"refused" * 7)  # on loopback the error is back when this returns
            peer.bind((target.address, target.port))
            listener = Listener(sock, peer_name(target), ExchangeKind.CLIENT_V4, REQUEST, False)
            listener.send()
            peer.settimeout(5)
            assert peer.recv(100) == REQUEST
            assert [(error.type, error.code) for error in listener.icmp] == [kind]

    asyncio.run(send_after_refusal())


ADDRESS_V4 = struct.pack("=HHI", socket.AF_INET, 0, 0)[:4] + socket.inet_aton("192.0.2.9") + bytes(8)
ADDRESS_V6 = struct.pack("=HHI", socket.AF_INET6, 0, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8::9") + bytes(4)
V4, V6, LOCAL = (socket.IPPROTO_IP, 11, 2), (socket.IPPROTO_IPV6, 25, 3), (socket.IPPROTO_IP, 11, 1)


def queued(place: tuple[int, int, int], kind: int, code: int, sender: bytes) -> list[tuple[int, int, bytes]]:
    level, option, origin = place
    return [
        (socket.SOL_SOCKET, 35, struct.pack("@ll", 5, 7)),
        (level, option, struct.pack("=IBBBBII", 113, origin, kind, code, 0, 0, 0) + sender),
    ]


@pytest.mark.parametrize(
    ("place", "kind", "code", "sender", "offender"),
    [
        (V4, 3, 1, ADDRESS_V4, "192.0.2.9"),
        (V4, 3, 13, ADDRESS_V4, "192.0.2.9"),
        (V4, 11, 0, ADDRESS_V4, "192.0.2.9"),
        (V6, 1, 1, ADDRESS_V6, "2001:db8::9"),
        (V6, 1, 4, ADDRESS_V6, "2001:db8::9"),
        # The kernel does not know who sent it: the report must be valid all the same.
        (V6, 1, 4, bytes(28), "::"),
        (V4, 3, 1, b"", "0.0.0.0"),
    ],
)
def test_each_kind_of_error_is_read(
    place: tuple[int, int, int], kind: int, code: int, sender: bytes, offender: str
) -> None:
    error = parse(b"ours", queued(place, kind, code, sender))
    assert error == IcmpError(kind, code, offender, b"ours", 5_000_000_007)


def test_an_error_of_our_own_kernel_is_no_icmp() -> None:
    assert parse(b"", queued(LOCAL, 0, 0, bytes(16))) is None
    assert parse(b"", []) is None


def test_control_messages_that_were_cut_off_say_nothing() -> None:
    """MSG_CTRUNC: a reader that raised would end the exchanges of all jobs."""
    (stamp, error) = queued(V4, 3, 3, ADDRESS_V4)
    assert parse(b"", [(*error[:2], error[2][:15])]) is None
    cut = parse(b"ours", [(*stamp[:2], stamp[2][:15]), error])
    assert cut is not None
    assert cut.received_at_ns > 5_000_000_007, "without a stamp it is the time now"


def checksum(message: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def forge(kind: int, code: int, payload: bytes, source: tuple[str, int], target: Target) -> None:
    """Send an ICMP error about a packet, as a router at 127.0.0.66 would."""
    udp = struct.pack("!HHHH", source[1], target.port, 8 + len(payload), 0) + payload
    ends = socket.inet_aton(source[0]) + socket.inet_aton(target.address)
    packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + ends + udp
    message = struct.pack("!BBHI", kind, code, checksum(struct.pack("!BBHI", kind, code, 0, 0) + packet), 0) + packet
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.bind(("127.0.0.66", 0))
        raw.sendto(message, (source[0], 0))


@NEEDS_RAW
@pytest.mark.lab
@pytest.mark.parametrize(("kind", "code"), [(3, 1), (3, 3), (3, 13), (11, 0)])
async def test_errors_of_routers_arrive_with_sender_and_quote(kind: int, code: int) -> None:
    def play(sock: socket.socket, payload: bytes, sender: tuple[str, int]) -> None:
        forge(kind, code, payload, sender, Target(*sock.getsockname()))
        answering(answer_to)(sock, payload, sender)

    with server("127.0.0.1", play) as target:
        exchange = await ask(target)
    error = icmp_seen(exchange)
    assert (error.type, error.code, error.offender, error.quoted) == (kind, code, "127.0.0.66", REQUEST)
    assert [reply.payload for reply in exchange.replies] == [answer_to(REQUEST)]


@NEEDS_RAW
@pytest.mark.lab
async def test_a_flood_of_errors_is_bounded_and_does_not_hide_the_answer() -> None:
    def play(sock: socket.socket, payload: bytes, sender: tuple[str, int]) -> None:
        for _ in range(40):
            forge(3, 3, payload, sender, Target(*sock.getsockname()))
        answering(answer_to)(sock, payload, sender)

    with server("127.0.0.1", play) as target:
        exchange = await ask(target)
    assert len(exchange.icmp) == 16
    assert len(exchange.replies) == 1


def test_an_empty_queue_is_empty() -> None:
    with open_udp("127.0.0.1", Family.IPV4) as sock:
        assert drain(sock) == []


async def test_a_send_that_fails_by_itself_is_the_probes_fault_although_an_error_is_pending() -> None:
    exchange = await ask(closed_port("127.0.0.1"), request=bytes(70_000))
    assert exchange.fault is LocalFault.SEND_FAILED
