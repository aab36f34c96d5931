"""What a host's wire carries that nobody in the host had asked for: backscatter, counted without the product.

An AF_PACKET socket sees every packet, whatever a firewall or a closed port makes of it. What was asked is known from
the datagrams that left: an answer goes to a port that asked, and an ICMP error quotes a datagram that was sent.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tests.lab.net import Host

_ALL_PROTOCOLS = 0x0003
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_BUFFER_BYTES = 1 << 26
_OUTGOING = 4
_ICMP, _UDP, _ICMPV6, _FRAGMENT = 1, 17, 58, 44
_ICMPV6_INFORMATIONAL = 128
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Unasked:
    """One unasked packet: when it came (Unix seconds), from whom, whether it is ICMP, and its bytes from IP on."""

    at_s: float
    sender: str
    icmp: bool
    packet: bytes


Endpoint = tuple[bytes, int]


class Backscatter:
    """Watches a host's wire; a context manager. `seen` has what came unasked, by address of ours."""

    KEPT_BYTES: Final = 256

    def __init__(self, host: Host) -> None:
        self._host = host
        self._asked: set[Endpoint] = set()
        self._seen: dict[str, list[Unasked]] = defaultdict(list)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"wire-{host.name}")

    def __enter__(self) -> Self:
        self._socket = self._host.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind(("eth0", _ALL_PROTOCOLS))
        self._socket.settimeout(_POLL_S)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def seen(self) -> Mapping[str, tuple[Unasked, ...]]:
        """By address of ours."""
        with self._lock:
            return {address: tuple(packets) for address, packets in self._seen.items()}

    def all(self) -> tuple[Unasked, ...]:
        """Whatever address of ours they came to."""
        return tuple(each for packets in self.seen().values() for each in packets)

    def _run(self) -> None:
        while True:
            try:
                packet, ancillary, _, address = self._socket.recvmsg(2048, 64)
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2]) if ancillary else (0, 0)
            self._look(packet, seconds + nanoseconds / 1e9, outgoing=address[2] == _OUTGOING)

    def _look(self, packet: bytes, at_s: float, *, outgoing: bool) -> None:
        parsed = _addressed(packet)
        if parsed is None:
            return
        protocol, source, destination, body = parsed
        if outgoing:
            if protocol == _UDP:
                self._asked.add((source, int.from_bytes(body[:2], "big")))
            return
        if protocol == _UDP:
            if (destination, int.from_bytes(body[2:4], "big")) in self._asked:
                return
        elif protocol == _ICMPV6 and body[0] >= _ICMPV6_INFORMATIONAL:
            return
        else:
            quoted = _addressed(body[8:])
            if quoted is not None and (quoted[1], int.from_bytes(quoted[3][:2], "big")) in self._asked:
                return
        came = Unasked(at_s, str(ipaddress.ip_address(source)), protocol != _UDP, packet[: self.KEPT_BYTES])
        with self._lock:
            self._seen[str(ipaddress.ip_address(destination))].append(came)


def _addressed(packet: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    """Protocol, source, destination and what follows of an IP packet with UDP or ICMP; None for anything else."""
    if not packet:
        return None
    if packet[0] >> 4 == 4:
        protocol, source, destination, body = packet[9], packet[12:16], packet[16:20], packet[(packet[0] & 15) * 4 :]
    elif packet[0] >> 4 == 6:
        protocol, source, destination, body = packet[6], packet[8:24], packet[24:40], packet[40:]
        if protocol == _FRAGMENT:
            protocol, body = body[0], body[8:]
    else:
        return None
    return (protocol, source, destination, body) if protocol in (_ICMP, _UDP, _ICMPV6) and len(body) >= 8 else None
