"""Many datagrams in one system call: sendmmsg(2) and recvmmsg(2) by ctypes, for the sweep's shared socket.

Python has no call for them, and a call per datagram is what a fast sweep cannot afford. All memory is laid out once;
the kernel fills it in place, and one `struct` pass reads a whole batch. No meaning of NTP lives here but the place of
the 8 random bytes that end each request.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from poolproof.ntp import HEADER_BYTES
from poolproof.target import Family, Target
from probe.sockets import MAX_PAYLOAD_BYTES

CAPACITY: Final = 128
"""Datagrams in one call: more make the time of sending vague, fewer cost more calls and wake-ups."""
SECRET_BYTES: Final = 8

_NAME_BYTES: Final = 32
"""Room for a `sockaddr_in6` of 28 bytes."""
_CONTROL_BYTES: Final = 64
_SLOT_BYTES: Final = _NAME_BYTES + _CONTROL_BYTES + MAX_PAYLOAD_BYTES
_NAME_IPV4: Final = struct.Struct("=HH4s")
_NAME_IPV6: Final = struct.Struct("=HH4x16s")
"""Family, port, flow label (zero here) and address; what comes after in a `sockaddr` is padding or a scope."""
_NAME_USED: Final = {Family.IPV4: _NAME_IPV4.size, Family.IPV6: _NAME_IPV6.size}
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_LIBC.recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)


class _Message(ctypes.Structure):
    """`struct msghdr` of recvmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Header(ctypes.Structure):
    """`struct mmsghdr` of recvmmsg(2)."""

    _fields_ = (("message", _Message), ("length", ctypes.c_uint))


class _Vector(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("start", ctypes.c_void_p), ("length", ctypes.c_size_t))


def socket_names(targets: Sequence[Target], family: Family) -> list[bytes]:
    """The starts of the `sockaddr`s of targets of one family: what tells one peer from another."""
    number = int(socket.AF_INET if family is Family.IPV4 else socket.AF_INET6)
    pack = (_NAME_IPV4 if family is Family.IPV4 else _NAME_IPV6).pack
    to_bytes, network_order = socket.inet_pton, socket.htons
    return [pack(number, network_order(target.port), to_bytes(number, target.address)) for target in targets]


class Outbox:
    """Sends requests that differ in their last 8 bytes only."""

    def __init__(self, opening: bytes, family: Family) -> None:
        """Args: opening: what all requests begin with. family: of all receivers."""
        self._opening = opening
        self._padding = bytes(_NAME_BYTES - _NAME_USED[family])
        request_bytes = len(opening) + SECRET_BYTES
        # Views cannot be resized: the kernel holds the addresses.
        self._names = memoryview(bytearray(CAPACITY * _NAME_BYTES))
        self._requests = memoryview(bytearray(CAPACITY * request_bytes))
        names_at, requests_at = _address_of(self._names), _address_of(self._requests)
        self._vectors = (_Vector * CAPACITY)()
        self._headers = (_Header * CAPACITY)()
        name_bytes = 16 if family is Family.IPV4 else 28
        for slot in range(CAPACITY):
            self._vectors[slot] = _Vector(requests_at + slot * request_bytes, request_bytes)
            vector_at = ctypes.addressof(self._vectors) + slot * ctypes.sizeof(_Vector)
            self._headers[slot] = _Header(_Message(names_at + slot * _NAME_BYTES, name_bytes, vector_at, 1))

    def send(self, descriptor: int, names: Sequence[bytes], secrets: Sequence[bytes]) -> int:
        """Send to each name a request with its secret; returns how many of the first the kernel took, at least one.

        Raises:
            BlockingIOError: no room in the send buffer.
            OSError: the first was not sent, for its own fault or because of a pending error of another.
        """
        packed_names = self._padding.join(names) + self._padding
        packed_requests = self._opening + self._opening.join(secrets)
        self._names[: len(packed_names)] = packed_names
        self._requests[: len(packed_requests)] = packed_requests
        taken = _LIBC.sendmmsg(descriptor, self._headers, len(names), socket.MSG_DONTWAIT)
        if taken < 0:
            raise _last_error()
        return int(taken)


class Inbox:
    """Receives datagrams with their kernel timestamps."""

    def __init__(self, family: Family) -> None:
        """Args: family: of the socket."""
        used = _NAME_USED[family]
        # Name, the one control message that SO_TIMESTAMPNS makes (its header is a size and two ints), payload.
        stamp_at = _NAME_BYTES + struct.calcsize("@Pii0l")
        stamped = f"@{used}s{stamp_at - used}xll"
        payload_at = _NAME_BYTES + _CONTROL_BYTES
        rest = MAX_PAYLOAD_BYTES - HEADER_BYTES
        self._slot = struct.Struct(f"{stamped}{payload_at - struct.calcsize(stamped)}x{HEADER_BYTES}s{rest}x")
        self._lengths = struct.Struct(
            f"@{_Header.length.offset}xI{ctypes.sizeof(_Header) - _Header.length.offset - 4}x"
        )
        self._slots = memoryview(bytearray(CAPACITY * _SLOT_BYTES))
        at = _address_of(self._slots)
        self._vectors = (_Vector * CAPACITY)()
        self._headers = (_Header * CAPACITY)()
        for slot in range(CAPACITY):
            name_at = at + slot * _SLOT_BYTES
            control_at = name_at + _NAME_BYTES
            self._vectors[slot] = _Vector(control_at + _CONTROL_BYTES, MAX_PAYLOAD_BYTES)
            vector_at = ctypes.addressof(self._vectors) + slot * ctypes.sizeof(_Vector)
            self._headers[slot] = _Header(_Message(name_at, 28, vector_at, 1, control_at, _CONTROL_BYTES))
        self._blank = bytes(self._headers)
        self._headers_view = memoryview(self._headers).cast("B")

    def receive(self, descriptor: int) -> Iterator[tuple[tuple[bytes, int, int, bytes], tuple[int]]]:
        """What waits in the socket, at most CAPACITY datagrams, until the next call.

        Returns:
            For each: sender's socket name, receive time in seconds and ns, the first 48 bytes; and its length. Of a
            shorter datagram the bytes past its end mean nothing.

        Raises:
            BlockingIOError: nothing waits.
            OSError: an ICMP error is pending.
        """
        ctypes.memmove(self._headers, self._blank, len(self._blank))  # the kernel overwrites the lengths
        count = _LIBC.recvmmsg(descriptor, self._headers, CAPACITY, socket.MSG_DONTWAIT, None)
        if count < 0:
            raise _last_error()
        slots = self._slot.iter_unpack(self._slots[: count * _SLOT_BYTES])
        lengths = self._lengths.iter_unpack(self._headers_view[: count * self._lengths.size])
        return zip(slots, lengths, strict=True)

    def payload(self, slot: int, length: int) -> bytes:
        """All bytes of a datagram of the last batch that is longer than an NTP header."""
        start = slot * _SLOT_BYTES + _NAME_BYTES + _CONTROL_BYTES
        return bytes(self._slots[start : start + length])


def _address_of(memory: memoryview) -> int:
    return ctypes.addressof((ctypes.c_char * len(memory)).from_buffer(memory))


def _last_error() -> OSError:
    number = ctypes.get_errno()
    if number == errno.EAGAIN:
        return BlockingIOError(number, os.strerror(number))
    return OSError(number, os.strerror(number))
