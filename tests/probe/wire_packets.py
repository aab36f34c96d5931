"""Whole IP packets, written by Scapy: an encoder that is none of ours."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from scapy.layers.inet import ICMP, IP, UDP, IPOption
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Raw

OPTIONS = (b"", bytes.fromhex("94040000"), bytes.fromhex("94040000") * 10)
"""IPv4 options: none, router alert, as many as fit."""
EXTENSIONS: dict[str, Any] = {
    "hop-by-hop": IPv6ExtHdrHopByHop,
    "destination": IPv6ExtHdrDestOpt,
    "routing": IPv6ExtHdrRouting,
    "fragment": IPv6ExtHdrFragment,
}


def udp(
    source: str,
    source_port: int,
    destination: str,
    port: int,
    payload: bytes,
    *,
    options: bytes = b"",
    extensions: Sequence[str] = (),
    offset: int = 0,
) -> bytes:
    """A UDP datagram in an IP packet."""
    inner = UDP(sport=source_port, dport=port) / Raw(payload)
    return bytes(_ip(source, destination, options, extensions, offset, 17) / inner)


def icmp(
    source: str,
    destination: str,
    kind: int,
    quoted: bytes,
    *,
    options: bytes = b"",
    extensions: Sequence[str] = (),
) -> bytes:
    """An ICMP or ICMPv6 message of some type, code 3, and what it quotes."""
    if _version(source) == 4:
        return bytes(_ip(source, destination, options, (), 0, 1) / ICMP(type=kind, code=3) / Raw(quoted))
    message = bytes((kind, 3)) + bytes(6) + quoted
    return bytes(_ip(source, destination, b"", extensions, 0, 58) / Raw(message))


def tcp_like(source: str, destination: str) -> bytes:
    """A packet that is neither."""
    return bytes(_ip(source, destination, b"", (), 0, 6) / Raw(bytes(20)))


def _ip(source: str, destination: str, options: bytes, extensions: Sequence[str], offset: int, kind: int) -> Any:
    if _version(source) == 4:
        listed = [IPOption(options)] if options else []
        return IP(src=source, dst=destination, options=listed, frag=offset, proto=kind)
    packet = IPv6(src=source, dst=destination)
    chain = [EXTENSIONS[name]() for name in extensions]
    if offset:
        chain.append(IPv6ExtHdrFragment(offset=offset))
    (chain[-1] if chain else packet).nh = kind
    for header in chain:
        packet = packet / header
    return packet


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version
