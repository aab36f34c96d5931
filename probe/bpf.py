"""Classic BPF programs, put together from instructions and labels (bpf(4) and Linux's `networking/filter.rst`).

Pure: bytes come out. Only what a packet filter needs: loads into the accumulator A and the index X, a little
arithmetic, jumps forward, and the two ends `accept` and `drop`. Which packets a program takes is not this module's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PROTOCOL: Final = 0xFFFF_F000
"""SKF_AD_OFF + SKF_AD_PROTOCOL: a load from here gives the packet's protocol, an ETH_P number."""
PACKET_TYPE: Final = 0xFFFF_F004
"""SKF_AD_OFF + SKF_AD_PKTTYPE: a load from here gives PACKET_HOST, PACKET_OUTGOING and so on."""

_MAX_INSTRUCTIONS: Final = 4_096
_MAX_JUMP: Final = 255
_RECORD: Final = struct.Struct("=HBBI")
"""`struct sock_filter`: code, jump if true, jump if false, k."""


@dataclass(frozen=True, slots=True)
class Label:
    """A place that jumps can name."""

    name: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; a test that goes nowhere else goes on with the next line.

    Attributes:
        code: BPF opcode.
        k: its operand, 32 bits.
        yes, no: labels to go to if a test is true, or false; "": the next line.
    """

    code: int
    k: int = 0
    yes: str = ""
    no: str = ""


Line = Label | Instruction


def load_word(at: int) -> Instruction:
    """A = 32 bits at that offset."""
    return Instruction(0x20, at)


def load_half(at: int) -> Instruction:
    """A = 16 bits at that offset."""
    return Instruction(0x28, at)


def load_byte(at: int) -> Instruction:
    """A = 8 bits at that offset."""
    return Instruction(0x30, at)


def load_word_after_x(at: int) -> Instruction:
    """A = 32 bits at X + that offset."""
    return Instruction(0x40, at)


def load_half_after_x(at: int) -> Instruction:
    """A = 16 bits at X + that offset."""
    return Instruction(0x48, at)


def load_byte_after_x(at: int) -> Instruction:
    """A = 8 bits at X + that offset."""
    return Instruction(0x50, at)


def x_from_header_length(at: int) -> Instruction:
    """X = 4 * (low four bits of the byte at that offset): the length of an IPv4 header (RFC 791 §3.1)."""
    return Instruction(0xB1, at)


def mask(bits: int) -> Instruction:
    """A = A & bits."""
    return Instruction(0x54, bits)


def if_equal(value: int, yes: str = "", no: str = "") -> Instruction:
    """Go on at `yes` if A is that value, else at `no`."""
    return Instruction(0x15, value, yes, no)


def if_any_bit(bits: int, yes: str = "", no: str = "") -> Instruction:
    """Go on at `yes` if A has any of these bits, else at `no`."""
    return Instruction(0x45, bits, yes, no)


def go_to(label: str) -> Instruction:
    """Go on at a label, whatever A is: no bit of zero is ever set."""
    return if_any_bit(0, no=label)


def accept(octets: int) -> Instruction:
    """Take the packet, cut to that many octets."""
    return Instruction(0x06, octets)


def drop() -> Instruction:
    """Leave the packet."""
    return Instruction(0x06, 0)


def assemble(lines: Iterable[Line]) -> bytes:
    """The program as the kernel takes it: an array of `struct sock_filter` in the machine's byte order.

    Raises:
        ValueError: a label that is missing, given twice or behind its jump; too long a jump or program. The kernel
            knows no jump backwards.
    """
    instructions: list[Instruction] = []
    places: dict[str, int] = {}
    for line in lines:
        if isinstance(line, Instruction):
            instructions.append(line)
        elif line.name in places:
            raise ValueError(f"label {line.name!r} is given twice")
        else:
            places[line.name] = len(instructions)
    if not 1 <= len(instructions) <= _MAX_INSTRUCTIONS:
        raise ValueError(f"{len(instructions)} instructions; the kernel takes 1 to {_MAX_INSTRUCTIONS}")

    def jump(index: int, label: str) -> int:
        if not label:
            return 0
        if label not in places:
            raise ValueError(f"no label {label!r}")
        ahead = places[label] - index - 1
        if not 0 <= ahead <= _MAX_JUMP or places[label] == len(instructions):
            raise ValueError(f"label {label!r} is {ahead} instructions ahead; 0 to {_MAX_JUMP}, before the end")
        return ahead

    return b"".join(
        _RECORD.pack(each.code, jump(index, each.yes), jump(index, each.no), each.k)
        for index, each in enumerate(instructions)
    )
