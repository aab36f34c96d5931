"""What one IP packet says, as far as a tripwire cares: a UDP datagram, or an ICMP error and what it quotes.

One pure function over bytes that come from the network: it never raises, and what is cut off, malformed or something
else is None. Addresses stay packed (4 or 16 octets); checksums are not looked at, because the sending host's network
card may fill them in later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from probe.watch_filter import EXTENSIONS, FRAGMENT_OFFSET, ICMP, ICMP_ERRORS, ICMPV6, ICMPV6_INFORMATIONAL, UDP

_IPV4_HEADER: Final = 20
_IPV6_HEADER: Final = 40
_UDP_HEADER: Final = 8
_ICMP_HEADER: Final = 8
_FRAGMENT: Final = 44
_MAX_EXTENSIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram.

    Attributes:
        source, destination: packed addresses.
        source_port, port: from and to.
        payload: what there is of it.
    """

    source: bytes
    destination: bytes
    source_port: int
    port: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class IcmpAbout:
    """An ICMP or ICMPv6 error about a UDP datagram.

    Attributes:
        source, destination: packed addresses of the error itself.
        message: the error from its type on, as far as there is of it.
        quoted: the datagram that it quotes; the payload may be cut anywhere, also to nothing.
    """

    source: bytes
    destination: bytes
    message: bytes
    quoted: Datagram


class _Ip(NamedTuple):
    source: bytes
    destination: bytes
    protocol: int
    content: bytes


def read_packet(packet: bytes) -> Datagram | IcmpAbout | None:
    """The UDP datagram or the ICMP error in a packet that begins with its IPv4 or IPv6 header.

    Fragments after the first have neither; of an IPv6 packet up to eight extension headers are passed over.
    """
    ip = _ip(packet)
    if ip is None:
        return None
    if ip.protocol == UDP:
        return _datagram(ip)
    if not _is_error(ip) or len(ip.content) < _ICMP_HEADER:
        return None
    quoted_ip = _ip(ip.content[_ICMP_HEADER:])
    if quoted_ip is None or quoted_ip.protocol != UDP or len(quoted_ip.source) != len(ip.source):
        return None
    quoted = _datagram(quoted_ip)
    return None if quoted is None else IcmpAbout(ip.source, ip.destination, ip.content, quoted)


def _ip(packet: bytes) -> _Ip | None:
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        return _ipv4(packet)
    return _ipv6(packet) if version == 6 else None


def _ipv4(packet: bytes) -> _Ip | None:
    header = 4 * (packet[0] & 0xF)
    if header < _IPV4_HEADER or len(packet) < header or int.from_bytes(packet[6:8], "big") & FRAGMENT_OFFSET:
        return None
    total = int.from_bytes(packet[2:4], "big")
    # Ethernet pads short frames; a quoted packet may be longer than what is quoted of it, and a few hosts quote with
    # a length of zero.
    end = total if header <= total < len(packet) else len(packet)
    return _Ip(packet[12:16], packet[16:20], packet[9], packet[header:end])


def _ipv6(packet: bytes) -> _Ip | None:
    if len(packet) < _IPV6_HEADER:
        return None
    end = _IPV6_HEADER + int.from_bytes(packet[4:6], "big")
    kind, at = packet[6], _IPV6_HEADER
    for _ in range(_MAX_EXTENSIONS):
        if kind not in EXTENSIONS:
            break
        if len(packet) < at + 8:
            return None
        if kind == _FRAGMENT:  # RFC 8200 §4.5: 8 octets, the offset in the upper 13 bits of the third and fourth
            if int.from_bytes(packet[at + 2 : at + 4], "big") >> 3:
                return None
            length = 8
        else:
            length = 8 * (packet[at + 1] + 1)
        kind, at = packet[at], at + length
    return _Ip(packet[8:24], packet[24:40], kind, packet[at : end if end < len(packet) else len(packet)])


def _datagram(ip: _Ip) -> Datagram | None:
    if len(ip.content) < _UDP_HEADER:
        return None
    length = int.from_bytes(ip.content[4:6], "big")
    return Datagram(
        source=ip.source,
        destination=ip.destination,
        source_port=int.from_bytes(ip.content[0:2], "big"),
        port=int.from_bytes(ip.content[2:4], "big"),
        payload=ip.content[_UDP_HEADER : max(_UDP_HEADER, length)],
    )


def _is_error(ip: _Ip) -> bool:
    if not ip.content:
        return False
    if len(ip.source) == 4:
        return ip.protocol == ICMP and ip.content[0] in ICMP_ERRORS
    return ip.protocol == ICMPV6 and not ip.content[0] & ICMPV6_INFORMATIONAL
