"""UDP sockets as the engines need them: bound to a chosen source, stamped by the kernel, with an ICMP error queue.

Only the making of sockets and the reading of one datagram live here. Linux only. Python 3.11's `socket` does not know
these options; the numbers are those of Linux's `asm-generic/socket.h`, `linux/in.h`, `in6.h` and `rtnetlink.h`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from typing import Final

from poolproof.exchange import Reply
from poolproof.target import Family, Target

MAX_PAYLOAD_BYTES: Final = 2_048
"""More of a datagram than this is cut off and lost: the largest NTP answer that means anything is far shorter."""

SO_TIMESTAMPNS: Final = 35
IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25
IPV6_FREEBIND: Final = 78

TIMESPEC: Final = struct.Struct("@ll")
"""`struct timespec` of the SO_TIMESTAMPNS control message, in the machine's own width."""
ANCILLARY_BYTES: Final = 512
"""Room for a timestamp, an extended error and the address of its sender."""

_NLMSG_HEADER: Final = struct.Struct("=IHHII")
_ROUTE_MESSAGE: Final = struct.Struct("=8BI")
_ROUTE_ATTRIBUTE: Final = struct.Struct("=HH")
_RTM_NEWROUTE, _RTM_GETROUTE, _NLM_F_REQUEST, _RTA_DST, _RTN_LOCAL = 24, 26, 1, 1, 2


def open_udp(source: str, family: Family) -> socket.socket:
    """A non-blocking UDP socket bound to `source` and a random port, with receive timestamps and an error queue.

    An IPv6 source may be any address of a prefix that is routed to this host (`ip -6 route add local PREFIX dev lo`):
    it need not be assigned to an interface. An address that is not ours at all is refused, because its answers would
    go elsewhere and look like the target's silence.

    Args:
        source: canonical address of that family.
        family: family of the target.

    Raises:
        OSError: no socket, or the source is not an address of this host and family.
    """
    number = socket.AF_INET6 if family is Family.IPV6 else socket.AF_INET
    try:
        packed = socket.inet_pton(number, source)  # refuses host names: a probe never resolves its own source
    except OSError:
        raise OSError(errno.EAFNOSUPPORT, f"not an IPv{family.value} address, as the target is") from None
    made = socket.socket(number, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if family is Family.IPV4:
            made.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            made.bind((source, 0))
        else:
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            _bind_ipv6(made, source, packed)
    except BaseException:
        made.close()
        raise
    return made


def peer_name(target: Target) -> tuple[str, int]:
    """How the socket calls write a target: not quite as `ipaddress` does (`::192.0.2.1` against `::c000:201`)."""
    if target.family is Family.IPV4:
        return target.address, target.port
    return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, target.address)), target.port


def receive(sock: socket.socket, peer: tuple[str, int]) -> Reply | None:
    """The next datagram with its kernel timestamp, or None if it came from elsewhere than `peer`.

    A connected socket holds datagrams of strangers that came between bind and connect; `peer` keeps them out.

    Raises:
        BlockingIOError: nothing is waiting.
        OSError: an ICMP error is pending; raised once, the queue then holds its details.
    """
    payload, ancillary, _, address = sock.recvmsg(MAX_PAYLOAD_BYTES, ANCILLARY_BYTES)
    if address[:2] != peer:
        return None
    return Reply(payload=payload, received_at_ns=stamp_of(ancillary))


def stamp_of(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The kernel's receive timestamp among control messages, in Unix ns; the time now if there is none."""
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(content) >= TIMESPEC.size:
            seconds, nanoseconds = TIMESPEC.unpack_from(content)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()


def keep_stamping() -> int:
    """A file descriptor that keeps the kernel's packet timestamping switched on until it is closed.

    Linux stamps packets on arrival only while some socket asks for it, and switches over with a delay. Without this,
    the first exchange after a quiet time would be stamped when it is read, milliseconds late on a busy machine.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as made:
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        return made.detach()


def _bind_ipv6(made: socket.socket, source: str, packed: bytes) -> None:
    try:
        made.bind((source, 0))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL or not _routed_here(packed):
            raise
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        made.bind((source, 0))


def _routed_here(packed: bytes) -> bool:
    """Whether the kernel would deliver packets for this IPv6 address to this host (route type local)."""
    route = _ROUTE_MESSAGE.pack(socket.AF_INET6, 128, 0, 0, 0, 0, 0, 0, 0)
    attribute = _ROUTE_ATTRIBUTE.pack(_ROUTE_ATTRIBUTE.size + len(packed), _RTA_DST) + packed
    length = _NLMSG_HEADER.size + len(route) + len(attribute)
    request = _NLMSG_HEADER.pack(length, _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + route + attribute
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        netlink.send(request)
        answer = netlink.recv(4_096)
    kind = _NLMSG_HEADER.unpack_from(answer)[1]
    return bool(kind == _RTM_NEWROUTE and _ROUTE_MESSAGE.unpack_from(answer, _NLMSG_HEADER.size)[7] == _RTN_LOCAL)


def words_of(error: OSError) -> str:
    """The operating system's words for an error, for people."""
    return f"{error.strerror or error} ({errno.errorcode.get(error.errno or 0, 'no errno')})"


def close_descriptor(descriptor: int) -> None:
    """Close a bare file descriptor; the finaliser of whoever holds one."""
    os.close(descriptor)
