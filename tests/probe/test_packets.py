"""The filter in the kernel and the parser agree on packets that Scapy wrote, and neither fails on any bytes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.target import Target
from probe.packets import Datagram, IcmpAbout, read_packet
from probe.watch_filter import SNAP_BYTES, watch_filter
from tests.probe.kernel_filter import passed
from tests.probe.wire_packets import EXTENSIONS, OPTIONS, icmp, tcp_like, udp

_PREAMBLE_BYTES = 4 * 8
"""The filter's first four instructions ask for the packet's protocol and direction, which a local socket has not."""


@dataclass(frozen=True, slots=True)
class Side:
    """Addresses of one family."""

    target: str
    own: str
    other: str
    source: str
    error: int
    other_kinds: tuple[int, ...]


V4 = Side("198.51.100.9", "192.0.2.7", "203.0.113.1", "192.0.2.7", 3, (0, 8, 13))
V6 = Side("2001:db8:9::9", "2001:db8:7:0:1:2:3:4", "2001:db8:ffff::1", "2001:db8:7:0:1:2:3:4", 1, (128, 129, 135))
PREFIX = Side(V6.target, V6.own, V6.other, "2001:db8:7::/64", 1, V6.other_kinds)
ODD_PREFIX = Side(V6.target, V6.own, V6.other, "2001:db8:6::/47", 1, V6.other_kinds)
SIDES = (V4, V6, PREFIX, ODD_PREFIX)
PORT = 1123
PAYLOAD = bytes(range(48))

sides = pytest.mark.parametrize("side", SIDES, ids=["ipv4", "ipv6", "prefix", "odd-prefix"])


def takes(side: Side, packet: bytes) -> bool:
    program = watch_filter(Target(side.target, PORT), ipaddress.ip_network(side.source))
    return passed(program[_PREAMBLE_BYTES:], packet) == packet[:SNAP_BYTES]


def variants(side: Side) -> list[dict[str, Any]]:
    """Ways to write one packet: IPv4 options, one IPv6 extension header."""
    if side is V4:
        return [{"options": options} for options in OPTIONS]
    return [{"extensions": names} for names in ((), *((name,) for name in EXTENSIONS))]


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


@sides
def test_what_the_target_says_to_us_is_taken_and_read(side: Side) -> None:
    for how in variants(side):
        packet = udp(side.target, PORT, side.own, 40_000, PAYLOAD, **how)
        assert takes(side, packet), how
        assert read_packet(packet) == Datagram(packed(side.target), packed(side.own), PORT, 40_000, PAYLOAD), how


@sides
def test_what_we_say_to_the_target_is_taken_and_read(side: Side) -> None:
    for how in variants(side):
        packet = udp(side.own, 40_000, side.target, PORT, PAYLOAD, **how)
        assert takes(side, packet), how
        assert read_packet(packet) == Datagram(packed(side.own), packed(side.target), 40_000, PORT, PAYLOAD), how


@sides
def test_an_error_of_anybody_about_our_packet_to_the_target_is_taken_and_read(side: Side) -> None:
    for how in variants(side):
        quoted = udp(side.own, 40_000, side.target, PORT, PAYLOAD)
        packet = icmp(side.other, side.own, side.error, quoted, **how)
        assert takes(side, packet), how
        read = read_packet(packet)
        assert isinstance(read, IcmpAbout)
        assert (read.source, read.destination) == (packed(side.other), packed(side.own))
        assert read.message[:2] == bytes((side.error, 3))
        assert read.message[8:] == quoted
        assert read.quoted == Datagram(packed(side.own), packed(side.target), 40_000, PORT, PAYLOAD)


@sides
def test_a_quote_may_be_cut_after_the_ports_and_have_options_of_its_own(side: Side) -> None:
    for how in variants(side):
        whole = udp(side.own, 40_000, side.target, PORT, PAYLOAD, **how)
        for cut in (len(PAYLOAD), 20, 1):
            packet = icmp(side.other, side.own, side.error, whole[:-cut])
            assert takes(side, packet), how
            read = read_packet(packet)
            assert isinstance(read, IcmpAbout)
            assert read.quoted.payload == PAYLOAD[:-cut]


@sides
def test_everything_else_is_left_in_the_kernel(side: Side) -> None:
    quoted = udp(side.own, 40_000, side.target, PORT, PAYLOAD)
    others = [
        udp(side.target, PORT + 1, side.own, 40_000, PAYLOAD),
        udp(side.other, PORT, side.own, 40_000, PAYLOAD),
        udp(side.target, PORT, side.other, 40_000, PAYLOAD),
        udp(side.own, 40_000, side.target, PORT + 1, PAYLOAD),
        udp(side.own, 40_000, side.other, PORT, PAYLOAD),
        udp(side.other, 40_000, side.target, PORT, PAYLOAD),
        icmp(side.other, side.own, side.error, udp(side.own, 40_000, side.other, PORT, PAYLOAD)),
        icmp(side.other, side.own, side.error, udp(side.other, 40_000, side.target, PORT, PAYLOAD)),
        icmp(side.target, side.other, side.error, quoted),
        *(icmp(side.target, side.own, kind, quoted) for kind in side.other_kinds),
        tcp_like(side.target, side.own),
        tcp_like(side.own, side.target),
        b"",
        b"\x45",
    ]
    assert [packet.hex() for packet in others if takes(side, packet)] == []


def test_a_later_fragment_has_nothing_to_say() -> None:
    for side in SIDES:
        later = udp(side.target, PORT, side.own, 40_000, PAYLOAD, offset=5)
        assert read_packet(later) is None
        if side is V4:
            assert not takes(side, later)


def test_several_ipv6_extension_headers_are_passed_over_by_the_parser() -> None:
    packet = udp(V6.target, PORT, V6.own, 40_000, PAYLOAD, extensions=("hop-by-hop", "destination", "fragment"))
    assert read_packet(packet) == Datagram(packed(V6.target), packed(V6.own), PORT, 40_000, PAYLOAD)
    too_many = udp(V6.target, PORT, V6.own, 40_000, PAYLOAD, extensions=("destination",) * 9)
    assert read_packet(too_many) is None


def test_padding_and_octets_behind_the_datagram_are_left_off() -> None:
    for side in (V4, V6):
        packet = udp(side.target, PORT, side.own, 40_000, b"short")
        read = read_packet(packet + bytes(20))
        assert isinstance(read, Datagram)
        assert read.payload == b"short"


def test_only_udp_is_quoted_and_only_within_one_family() -> None:
    assert read_packet(icmp(V4.other, V4.own, 3, tcp_like(V4.own, V4.target))) is None
    assert read_packet(icmp(V4.other, V4.own, 3, udp(V6.own, 1, V6.target, PORT, b""))) is None
    assert read_packet(icmp(V4.other, V4.own, 3, udp(V4.own, 1, V4.target, PORT, b"")[:-1])) is None
    assert read_packet(icmp(V4.other, V4.own, 3, icmp(V4.own, V4.target, 3, b""))) is None


def _cut_and_spoilt() -> st.SearchStrategy[bytes]:
    """Packets of the right kind with some octets changed and the end cut off."""
    wholes = []
    for side in (V4, V6):
        for how in variants(side):
            inner = udp(side.own, 40_000, side.target, PORT, PAYLOAD, **how)
            wholes += [inner, icmp(side.other, side.own, side.error, inner, **how)]

    def spoil(whole: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
        octets = bytearray(whole)
        for at, value in changes:
            octets[at % len(octets)] = value
        return bytes(octets[: len(octets) - cut])

    return st.builds(
        spoil,
        st.sampled_from(wholes),
        st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
        st.integers(0, 60),
    )


@given(st.binary(max_size=200) | _cut_and_spoilt())
def test_any_bytes_are_read_or_left_and_what_is_read_fits(octets: bytes) -> None:
    read = read_packet(octets)
    datagram = read.quoted if isinstance(read, IcmpAbout) else read
    if datagram is not None:
        assert len(datagram.source) == len(datagram.destination)
        assert len(datagram.source) in (4, 16)
        assert 0 <= datagram.source_port <= 65_535
        assert 0 <= datagram.port <= 65_535
        assert datagram.payload in octets


@given(_cut_and_spoilt(), st.sampled_from(SIDES))
def test_the_kernels_filter_drops_nothing_that_matters(octets: bytes, side: Side) -> None:
    """Behind at most one IPv6 extension header: more are not followed in the kernel."""
    read = read_packet(octets)
    source = ipaddress.ip_network(side.source)
    target = packed(side.target)

    def ours(address: bytes) -> bool:
        return len(address) * 8 == source.max_prefixlen and ipaddress.ip_address(address) in source

    match read:
        case Datagram():
            matters = (read.source, read.source_port) == (target, PORT) and ours(read.destination)
            matters |= (read.destination, read.port) == (target, PORT) and ours(read.source)
        case IcmpAbout(quoted=quoted):
            matters = ours(read.destination) and quoted.destination == target and ours(quoted.source)
        case None:
            matters = False
    if matters:
        assert takes(side, octets)
