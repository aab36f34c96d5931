"""The account of one watch: packets go in, in the order in which the kernel saw them, and a `Capture` comes out.

Pure: it decides what nobody here asked for, keeps the first few of these, counts the rest, and says when it is enough.
Sockets and the event loop are `tripwire`'s.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from poolproof.capture import MAX_UNASKED, MAX_UNASKED_BYTES, Capture, UnaskedKind, UnaskedPacket
from poolproof.target import Target, canonical_address
from probe.asked import Asked
from probe.packets import Datagram, IcmpAbout, read_packet
from probe.watch_filter import Source

ENOUGH_UNASKED: Final = 2_048
"""After so many unasked packets nothing more is read: what matters is known."""
MAX_PER_MINUTE: Final = 20_000
"""More packets of any kind within a minute are a flood: reading ends, and the watch has a hole from there on."""
_MINUTE_NS: Final = 60 * 1_000_000_000


class Account:
    """What one watch has seen between a source and a target."""

    def __init__(self, target: Target, source: Source, since_ns: int) -> None:
        """Args: since_ns: what comes before is not held against anybody: it may answer what was sent earlier still."""
        self.full = False
        self._target = ipaddress.ip_address(target.address).packed
        self._port = target.port
        self._source = source
        self._since_ns = since_ns
        self._asked = Asked()
        self._unasked: list[UnaskedPacket] = []
        self._total = 0
        self._lost = 0
        self._minute = 0
        self._in_minute = 0

    def see(self, packet: bytes, at_ns: int, *, outgoing: bool) -> None:
        """One packet, from its IP header on.

        Args:
            packet: as much of it as was captured.
            at_ns: kernel timestamp, Unix ns.
            outgoing: it was about to leave this host; on the loopback each packet comes by a second time, arriving.
        """
        self._count(at_ns)
        seen = read_packet(packet)
        match seen:
            case Datagram() if outgoing and self._is_ours(seen):
                self._asked.sent(seen, at_ns)
            case Datagram() if not outgoing and self._is_the_targets(seen) and not self._asked.answered_by(seen):
                self._keep(UnaskedKind.UDP, at_ns, seen.source, seen.destination, seen.payload)
            case IcmpAbout(quoted=quoted) if not outgoing and self._is_ours(quoted):
                if not self._asked.quoted_by(quoted, at_ns):
                    self._keep(UnaskedKind.ICMP, at_ns, seen.source, seen.destination, seen.message)
            case _:
                pass

    def lose(self, packets: int) -> None:
        """The kernel dropped so many."""
        self._lost += packets

    def capture(self, until_ns: int) -> Capture:
        """The account up to a time."""
        return Capture(
            since_ns=self._since_ns,
            until_ns=max(self._since_ns, until_ns),
            unasked=tuple(self._unasked),
            unasked_total=self._total,
            lost=self._lost,
        )

    def _count(self, at_ns: int) -> None:
        minute = at_ns // _MINUTE_NS
        if minute != self._minute:
            self._minute, self._in_minute = minute, 0
        self._in_minute += 1
        if self._in_minute > MAX_PER_MINUTE:
            self.full = True

    def _keep(self, kind: UnaskedKind, at_ns: int, sender: bytes, destination: bytes, payload: bytes) -> None:
        if at_ns < self._since_ns:
            return
        self._total += 1
        if len(self._unasked) < MAX_UNASKED:
            self._unasked.append(
                UnaskedPacket(kind, at_ns, _text(sender), _text(destination), payload[:MAX_UNASKED_BYTES])
            )
        if self._total >= ENOUGH_UNASKED:
            self.full = True

    def _is_ours(self, datagram: Datagram) -> bool:
        return datagram.destination == self._target and datagram.port == self._port and self._is_source(datagram.source)

    def _is_the_targets(self, datagram: Datagram) -> bool:
        return (
            datagram.source == self._target
            and datagram.source_port == self._port
            and self._is_source(datagram.destination)
        )

    def _is_source(self, packed: bytes) -> bool:
        return len(packed) * 8 == self._source.max_prefixlen and ipaddress.ip_address(packed) in self._source


def _text(packed: bytes) -> str:
    # A forged packet may come from an IPv4-mapped address (`::ffff:192.0.2.1`), which is not how reports write it.
    return canonical_address(str(ipaddress.ip_address(packed)))
