"""Asks this machine's kernel what a BPF program does with some bytes: a filter on a local socket, without any right."""

from __future__ import annotations

import ctypes
import socket

_SO_ATTACH_FILTER = 26


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def passed(program: bytes, packet: bytes) -> bytes | None:
    """What a program lets through of a packet, or None.

    Raises:
        OSError: the kernel does not take the program.
    """
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.setblocking(False)
        receiver.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(_FilterProgram(len(program) // 8, program)))
        sender.send(packet)
        try:
            return receiver.recv(4_096)
        except BlockingIOError:
            return None
