"""Linux's packet sockets (packet(7)), as a tripwire needs them: filtered from the first packet on, stamped, both ways.

Only the opening and reading of one live here. Needs CAP_NET_RAW. The numbers are those of `linux/if_packet.h`,
`linux/if_ether.h` and `asm-generic/socket.h`.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Final, NamedTuple

from probe.sockets import ANCILLARY_BYTES, SO_TIMESTAMPNS, stamp_of
from probe.watch_filter import SNAP_BYTES

RECEIVE_BUFFER_BYTES: Final = 128 * 1024
"""The kernel doubles it, and counts some 800 bytes for a short packet: room for about 300."""

_SO_ATTACH_FILTER: Final = 26
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_PACKET_OUTGOING: Final = 4
_ETH_P_ALL: Final = 3
_STATISTICS: Final = struct.Struct("=II")
_SOCK_FILTER_BYTES: Final = 8
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class _FilterProgram(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class _LinkAddress(ctypes.Structure):
    """`struct sockaddr_ll`."""

    _fields_ = (
        ("family", ctypes.c_ushort),
        ("protocol", ctypes.c_uint16),
        ("interface", ctypes.c_int),
        ("hardware_type", ctypes.c_ushort),
        ("packet_type", ctypes.c_ubyte),
        ("length", ctypes.c_ubyte),
        ("address", ctypes.c_ubyte * 8),
    )


class Captured(NamedTuple):
    """One packet, from its IP header on, cut to `watch_filter.SNAP_BYTES`."""

    packet: bytes
    at_ns: int
    outgoing: bool


def open_packet_socket(program: bytes) -> socket.socket:
    """A non-blocking packet socket that gets what a filter lets through, of all interfaces and in both directions.

    Args:
        program: as `bpf.assemble` gives it.

    Raises:
        OSError: no CAP_NET_RAW (EPERM), no packet sockets in this kernel, or too many open files.
    """
    # Protocol 0 receives nothing: the filter is in place before the first packet can come in. ETH_P_ALL, since only
    # such sockets see what this host sends.
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        made.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(_FilterProgram(len(program) // _SOCK_FILTER_BYTES, program))
        )
        _bind_anywhere(made)
    except BaseException:
        made.close()
        raise
    return made


def read_captured(sock: socket.socket) -> Captured:
    """The next packet.

    Raises:
        BlockingIOError: nothing is waiting.
    """
    packet, ancillary, _, address = sock.recvmsg(SNAP_BYTES, ANCILLARY_BYTES)
    return Captured(packet, stamp_of(ancillary), address[2] == _PACKET_OUTGOING)


def dropped(sock: socket.socket) -> int:
    """Packets that passed the filter and found no room, since this was last asked."""
    _, drops = _STATISTICS.unpack(sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
    return int(drops)


def _bind_anywhere(made: socket.socket) -> None:
    """Begin to receive, from all interfaces. Python's own bind() wants the name of one."""
    anywhere = _LinkAddress(family=socket.AF_PACKET, protocol=socket.htons(_ETH_P_ALL), interface=0)
    if _LIBC.bind(made.fileno(), ctypes.byref(anywhere), ctypes.sizeof(anywhere)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
