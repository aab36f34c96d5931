"""ICMP errors from a socket's error queue (ip(7) and ipv6(7), IP_RECVERR): type, code, sender and our quoted payload.

The kernel puts an error here when a router or host answers one of this socket's packets with ICMP, and makes the next
call on the socket fail once. The failure itself tells nothing that the queue does not tell better; no root is needed.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from typing import Final, NamedTuple

from poolproof.exchange import IcmpError
from probe.sockets import ANCILLARY_BYTES, IP_RECVERR, IPV6_RECVERR, MAX_PAYLOAD_BYTES, stamp_of

_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")
"""`struct sock_extended_err` of `linux/errqueue.h`: errno, origin, type, code, pad, info, data."""
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
_UNKNOWN: Final = {socket.IPPROTO_IP: "0.0.0.0", socket.IPPROTO_IPV6: "::"}
"""For a sender that the kernel does not know: an empty address would make the whole report invalid."""

MAX_DRAINED: Final = 64
"""Errors read in one go: whoever sends more at once must not hold up the loop."""


class QueuedError(NamedTuple):
    """One error, and where the packet that it is about was going."""

    icmp: IcmpError
    destination: tuple[str, int]


def drain(sock: socket.socket) -> list[QueuedError]:
    """Read the error queue empty, at most MAX_DRAINED entries. Errors made by our own kernel are left out."""
    found: list[QueuedError] = []
    for _ in range(MAX_DRAINED):
        try:
            quoted, ancillary, _, address = sock.recvmsg(MAX_PAYLOAD_BYTES, ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
        except OSError:  # EAGAIN: empty
            break
        error = parse(quoted, ancillary)
        if error is not None:
            found.append(QueuedError(error, (address[0], address[1]) if address else ("", 0)))
    return found


def parse(quoted: bytes, ancillary: list[tuple[int, int, bytes]]) -> IcmpError | None:
    """The ICMP error that one message of the error queue describes, or None if it is not about ICMP."""
    for level, kind, content in ancillary:
        if (level, kind) not in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
            continue
        if len(content) < _EXTENDED_ERROR.size:  # cut off (MSG_CTRUNC): nothing of it can be relied on
            return None
        _, origin, icmp_type, code, _, _, _ = _EXTENDED_ERROR.unpack_from(content)
        if origin not in (_ORIGIN_ICMP, _ORIGIN_ICMP6):
            return None
        return IcmpError(
            type=icmp_type,
            code=code,
            offender=_sender(content[_EXTENDED_ERROR.size :]) or _UNKNOWN[level],
            quoted=quoted,
            received_at_ns=stamp_of(ancillary),
        )
    return None


def _sender(name: bytes) -> str:
    """Canonical address in a `sockaddr_in` or `sockaddr_in6`; empty if the kernel does not know it."""
    family = int.from_bytes(name[:2], sys.byteorder)
    if family == socket.AF_INET and len(name) >= 8:
        return str(ipaddress.IPv4Address(name[4:8]))
    if family == socket.AF_INET6 and len(name) >= 24:
        address = ipaddress.IPv6Address(name[8:24])
        return str(address.ipv4_mapped or address)
    return ""
