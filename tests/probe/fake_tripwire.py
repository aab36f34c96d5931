"""A tripwire without a network: a test says what was caught. Passes the contract of `test_tripwire_contract`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from poolproof.capture import MAX_UNASKED, Capture, UnaskedKind, UnaskedPacket
from poolproof.ids import VerificationId
from poolproof.target import Target
from probe.clock import Clock


def unasked(destination: str, at_ns: int, payload: bytes = b"strange") -> UnaskedPacket:
    """A datagram that nobody asked for."""
    return UnaskedPacket(UnaskedKind.UDP, at_ns, "9.9.9.9", destination, payload)


@dataclass(slots=True)
class _Watch:
    since_ns: int
    until_ns: int
    caught: list[UnaskedPacket] = field(default_factory=list)


class FakeTripwire:
    """Watches by table; satisfies `probe.tripwire.Tripwire`."""

    def __init__(self, clock: Clock, *, max_watches: int = 128) -> None:
        """Args: clock: stamps accounts. max_watches: at one time."""
        self.can_watch = True
        self._clock = clock
        self._max_watches = max_watches
        self._table: dict[tuple[VerificationId, Target, str], _Watch] = {}

    @property
    def watches(self) -> int:
        """How many there are."""
        return len(self._table)

    def receive(self, target: Target, packet: UnaskedPacket) -> None:
        """A packet of the target came to one of our addresses."""
        for (_, watched, source), watch in self._table.items():
            if watched == target and ipaddress.ip_address(packet.destination) in ipaddress.ip_network(source):
                watch.caught.append(packet)

    def arm(self, verification: VerificationId, target: Target, source: str, until_ns: int) -> None:
        """See `Tripwire`."""
        self._expire()
        key = (verification, target, source)
        if key in self._table:
            self._table[key].until_ns = until_ns
        elif len(self._table) < self._max_watches:
            self._table[key] = _Watch(self._clock.now_ns(), until_ns)

    def harvest(self, verification: VerificationId, target: Target, source: str) -> Capture | None:
        """See `Tripwire`."""
        self._expire()
        watch = self._table.get((verification, target, source))
        if watch is None:
            return None
        return Capture(watch.since_ns, self._clock.now_ns(), tuple(watch.caught[:MAX_UNASKED]), len(watch.caught))

    def close(self) -> None:
        """See `Tripwire`."""
        self._table.clear()

    def _expire(self) -> None:
        now_ns = self._clock.now_ns()
        self._table = {key: watch for key, watch in self._table.items() if watch.until_ns > now_ns}
