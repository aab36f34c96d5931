"""Which packets a tripwire between a source and a target lets the kernel hand over, as a classic BPF program.

    UDP   target:port -> source            what the target says to us
    UDP   source -> target:port            what this host says to the target, whichever program does
    ICMP  anybody -> source, an error that quotes a packet source -> target

The packet begins with its IP header (a cooked packet socket). The filter is a coarse sieve: `packets` reads what comes
through, and looks at the ports that an error quotes. What is not looked at: fragments after the first (they have no
ports, and each datagram has a first one), and UDP or ICMPv6 behind two or more IPv6 extension headers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from poolproof.target import Family, Target
from probe.bpf import (
    PACKET_TYPE,
    PROTOCOL,
    Label,
    Line,
    accept,
    assemble,
    drop,
    go_to,
    if_any_bit,
    if_equal,
    load_byte,
    load_byte_after_x,
    load_half,
    load_half_after_x,
    load_word,
    load_word_after_x,
    mask,
    x_from_header_length,
)

SNAP_BYTES: Final = 512
"""So much of a packet is handed over: both IP headers of an ICMP error at their longest, and 128 bytes of payload."""

ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD
PACKET_OTHERHOST: Final = 3
UDP: Final = 17
ICMP: Final = 1
ICMPV6: Final = 58
ICMP_ERRORS: Final = (3, 4, 5, 11, 12)
"""Types that quote a packet (RFC 792, RFC 1122 §3.2.2): unreachable, quench, redirect, time exceeded, parameter."""
ICMPV6_INFORMATIONAL: Final = 0x80
"""ICMPv6 types with this bit are no errors (RFC 4443 §2.1)."""
EXTENSIONS: Final = (0, 43, 44, 60)
"""IPv6 extension headers (RFC 8200 §4): hop-by-hop options, routing, fragment, destination options."""
FRAGMENT_OFFSET: Final = 0x1FFF
"""Bits of IPv4's flags and offset field that are zero in a first fragment (RFC 791 §3.1)."""

Source = ipaddress.IPv4Network | ipaddress.IPv6Network
_WORD: Final = 0xFFFF_FFFF


def watch_filter(target: Target, source: Source) -> bytes:
    """The program for one watch.

    Args:
        target: address and port.
        source: our address, as a network of one, or our IPv6 prefix; of the target's family.
    """
    host = ipaddress.ip_network(target.address)
    lines = _ipv4(source, host, target.port) if target.family is Family.IPV4 else _ipv6(source, host, target.port)
    return assemble(lines)


def _begin(protocol: int) -> Iterator[Line]:
    yield load_word(PROTOCOL)
    yield if_equal(protocol, no="drop")
    yield load_word(PACKET_TYPE)
    yield if_equal(PACKET_OTHERHOST, yes="drop")


def _end() -> Iterator[Line]:
    yield Label("take")
    yield accept(SNAP_BYTES)
    yield Label("drop")
    yield drop()


def _ipv4(source: Source, target: Source, port: int) -> Iterator[Line]:
    yield from _begin(ETH_P_IP)
    yield load_half(6)
    yield if_any_bit(FRAGMENT_OFFSET, yes="drop")
    yield x_from_header_length(0)
    yield load_byte(9)
    yield if_equal(ICMP, yes="icmp")
    yield if_equal(UDP, no="drop")
    yield from _is(target, 12, no="sent")
    yield from _is(source, 16, no="sent")
    yield load_half_after_x(0)
    yield if_equal(port, yes="take")
    yield Label("sent")
    yield from _is(source, 12, no="drop")
    yield from _is(target, 16, no="drop")
    yield load_half_after_x(2)
    yield if_equal(port, yes="take", no="drop")
    yield Label("icmp")
    yield from _is(source, 16, no="drop")
    yield load_byte_after_x(0)
    for kind in ICMP_ERRORS:
        yield if_equal(kind, yes="quote")
    yield go_to("drop")
    yield Label("quote")
    yield from _is(source, 8 + 12, no="drop", after_x=True)
    yield from _is(target, 8 + 16, no="drop", after_x=True)
    yield from _end()


def _ipv6(source: Source, target: Source, port: int) -> Iterator[Line]:
    yield from _begin(ETH_P_IPV6)
    yield load_byte(6)
    yield if_equal(UDP, yes="udp")
    yield if_equal(ICMPV6, yes="icmp")
    for extension in EXTENSIONS:
        yield if_equal(extension, yes="extended")
    yield go_to("drop")
    # Behind one extension header; its own length is for the parser.
    yield Label("extended")
    yield load_byte(40)
    yield if_equal(UDP, yes="udp-extended")
    yield if_equal(ICMPV6, no="drop")
    yield from _is(source, 24, yes="take", no="drop")
    yield Label("udp-extended")
    yield from _is(target, 8, no="sent-extended")
    yield from _is(source, 24, yes="take", no="sent-extended")
    yield Label("sent-extended")
    yield from _is(source, 8, no="drop")
    yield from _is(target, 24, yes="take", no="drop")
    yield Label("udp")
    yield from _is(target, 8, no="sent")
    yield from _is(source, 24, no="sent")
    yield load_half(40)
    yield if_equal(port, yes="take")
    yield Label("sent")
    yield from _is(source, 8, no="drop")
    yield from _is(target, 24, no="drop")
    yield load_half(42)
    yield if_equal(port, yes="take", no="drop")
    yield Label("icmp")
    yield from _is(source, 24, no="drop")
    yield load_byte(40)
    yield if_any_bit(ICMPV6_INFORMATIONAL, yes="drop")
    yield from _is(source, 40 + 8 + 8, no="drop")
    yield from _is(target, 40 + 8 + 24, no="drop")
    yield from _end()


def _is(network: Source, at: int, *, yes: str = "", no: str, after_x: bool = False) -> Iterator[Line]:
    """Whether the address at an offset lies in a network; only the words in which it has bits are looked at."""
    prefix, bits = network.network_address.packed, network.netmask.packed
    words = [
        (int.from_bytes(prefix[n : n + 4], "big"), int.from_bytes(bits[n : n + 4], "big"), at + n)
        for n in range(0, len(prefix), 4)
    ]
    kept = [each for each in words if each[1]] or words[:1]
    for number, (value, wanted, offset) in enumerate(kept):
        yield load_word_after_x(offset) if after_x else load_word(offset)
        if wanted != _WORD:
            yield mask(wanted)
        yield if_equal(value, yes=yes if number == len(kept) - 1 else "", no=no)
