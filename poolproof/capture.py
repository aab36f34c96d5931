"""What a probe's tripwire caught: packets of a target that came to the probe's address and that nobody asked for.

Whoever floods a server in a verifier's name makes the server answer, or refuse, the verifier. These packets
(backscatter) show the flood; an owner who blocks the verifier causes none. Raw, like an exchange: no judgement here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MAX_UNASKED = 16
"""So many unasked packets are kept, the first ones; the others are counted."""
MAX_UNASKED_BYTES = 128
"""So much of each is kept."""


class UnaskedKind(Enum):
    """What kind of packet came."""

    UDP = "udp"
    """A datagram from the target's address and port that echoes nothing that this host sent."""
    ICMP = "icmp"
    """An ICMP or ICMPv6 error about a datagram to the target that this host did not send."""


@dataclass(frozen=True, slots=True)
class UnaskedPacket:
    """One packet that nobody here asked for.

    Attributes:
        kind: which kind.
        received_at_ns: kernel receive timestamp, Unix ns.
        sender: who sent it by its IP header: the target, or the router or host that refuses.
        destination: the address of ours that it came to.
        payload: the UDP payload, or the ICMP message from its type on; at most `MAX_UNASKED_BYTES`.
    """

    kind: UnaskedKind
    received_at_ns: int
    sender: str
    destination: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Capture:
    """What the tripwire between one source and one target has caught since it was armed.

    Attributes:
        since_ns: it has been watching without a gap since then.
        until_ns: up to when this account goes.
        unasked: the first unasked packets, in order of time, at most `MAX_UNASKED`.
        unasked_total: how many there were.
        lost: packets that the kernel could not hand over; the watch has a hole if there were any.
    """

    since_ns: int
    until_ns: int
    unasked: tuple[UnaskedPacket, ...] = ()
    unasked_total: int = 0
    lost: int = 0
