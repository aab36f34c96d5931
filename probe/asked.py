"""What this host has asked a target of late, and whether something that came from there belongs to it.

Whichever program asked: the vantage's own time daemon may use the target too. So this is fed with packets as they
leave, and nothing else decides. Bounded: of very many questions the latest are remembered. Pure; times are arguments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, TypeVar

from poolproof.ntp import HEADER_BYTES
from probe.packets import Datagram

REMEMBERED: Final = 512
"""So many questions of each kind."""
PORT_NS: Final = 30 * 1_000_000_000
"""An error that quotes too little is believed to be about us if we used that port this long before."""

_CONTROL_MODE: Final = 6
_CONTROL_HEADER: Final = 4
_OPCODE: Final = 0x1F
_TRANSMIT: Final = slice(40, 48)
_RECEIVE: Final = slice(32, 40)
_ORIGIN: Final = slice(24, 32)
_NONE: Final = bytes(8)

Key = TypeVar("Key", bound=Hashable)
Port = tuple[bytes, int]
"""An address and a port of ours."""


class Asked:
    """The questions of one host to one target."""

    def __init__(self) -> None:
        self._stamps: OrderedDict[tuple[Port, bytes], int] = OrderedDict()
        self._controls: OrderedDict[tuple[Port, bytes], int] = OrderedDict()
        self._ports: OrderedDict[Port, int] = OrderedDict()

    def sent(self, datagram: Datagram, at_ns: int) -> None:
        """This host sent that to the target."""
        port = datagram.source, datagram.source_port
        payload = datagram.payload
        _remember(self._ports, port, at_ns)
        if _is_control(payload):
            _remember(self._controls, (port, _question(payload)), at_ns)
        elif len(payload) >= HEADER_BYTES:
            # An answer's origin is our transmit timestamp (RFC 5905 §8), in interleaved mode our receive timestamp
            # (RFC 9769 §2). Zero is "none" and echoes nothing.
            for stamp in (payload[_TRANSMIT], payload[_RECEIVE]):
                if stamp != _NONE:
                    _remember(self._stamps, (port, stamp), at_ns)

    def answered_by(self, datagram: Datagram) -> bool:
        """Whether a datagram of the target echoes something that was sent from the port that it came to."""
        port = datagram.destination, datagram.port
        payload = datagram.payload
        if _is_control(payload):
            return (port, _question(payload)) in self._controls
        return len(payload) >= HEADER_BYTES and (port, payload[_ORIGIN]) in self._stamps

    def quoted_by(self, datagram: Datagram, at_ns: int) -> bool:
        """Whether a datagram that an ICMP error quotes is one that was sent.

        RFC 792 asks for no more than the ports. Without the timestamp, the port decides, if it was used of late.
        """
        port = datagram.source, datagram.source_port
        payload = datagram.payload
        if _is_control(payload):
            return (port, _question(payload)) in self._controls
        if len(payload) >= HEADER_BYTES:
            return (port, payload[_TRANSMIT]) in self._stamps
        used_at_ns = self._ports.get(port)
        return used_at_ns is not None and at_ns - used_at_ns <= PORT_NS


def _is_control(payload: bytes) -> bool:
    return len(payload) >= _CONTROL_HEADER and payload[0] & 7 == _CONTROL_MODE


def _question(payload: bytes) -> bytes:
    """What a mode 6 response repeats of its request: opcode and sequence number (RFC 9327 §2)."""
    return bytes((payload[1] & _OPCODE,)) + payload[2:4]


def _remember(memory: OrderedDict[Key, int], key: Key, at_ns: int) -> None:
    memory[key] = at_ns
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
