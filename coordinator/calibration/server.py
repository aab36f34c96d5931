"""A calibration target: an ordinary NTP server to whoever asks it, which remembers what it was asked and answered.

It tells this machine's time. Between calibrations it answers everybody, like any server. What it received is kept for
one calibration at a time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterable

from poolproof.calibration import Heard, Stray, Truth
from poolproof.ntp import HEADER_BYTES, client_request
from poolproof.policy import SECOND_NS
from poolproof.serving import Behaviour, reply_to
from poolproof.target import Family, Target, canonical_address

MAX_HEARD = 20_000
"""Requests in vantages' names that one calibration remembers; after more of them it says nothing of anybody."""
MAX_STRANGERS = 4_096
"""Requests of others that are remembered, because a vantage may show another address than it should."""
_BATCH = 64
"""Datagrams read before other tasks get a turn."""
_MAX_DATAGRAM = 2048
_TIMESPEC = struct.Struct("@ll")
_SO_TIMESTAMPNS = 35
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_TRANSMIT = slice(40, 48)
_EPHEMERAL = 32_768
"""The first port that Linux gives to a socket that asks for none."""
_log = logging.getLogger(__name__)


def _everybody(_: str) -> bool:
    return True


def _nobody(_: str) -> bool:
    return False


class CalibrationServer:
    """The server at one address.

    Args:
        target: where; the address may be of a prefix that is routed to this host.
        looks: how its answers look.
        now_ns: Unix time.
        bits: that many random bits.
    """

    def __init__(self, target: Target, looks: Behaviour, now_ns: Callable[[], int], bits: Callable[[int], int]) -> None:
        self.target = target
        self._looks = looks
        self._now_ns = now_ns
        self._bits = bits
        self._serves: Callable[[str], bool] = _everybody
        self._heard: dict[bytes, list[Heard]] | None = None
        self._is_vantage: Callable[[str], bool] = _nobody
        self._vantages = 0
        self._strangers = 0
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Binds and answers.

        Raises:
            OSError: the address cannot be bound.
        """
        ipv6 = self.target.family is Family.IPV6
        opened = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            if ipv6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            else:
                opened.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            opened.bind((self.target.address, self.target.port))
        except OSError:
            opened.close()
            raise
        self._socket = opened
        asyncio.get_running_loop().add_reader(opened, self._readable, opened)

    def close(self) -> None:
        """Answers nobody any more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def play(self, serves: Callable[[str], bool], is_vantage: Callable[[str], bool]) -> None:
        """From now on remembers what it is asked.

        Args:
            serves: whether an address is answered.
            is_vantage: whether an address is one of a vantage.
        """
        self._serves, self._is_vantage, self._heard = serves, is_vantage, {}
        self._vantages = self._strangers = 0

    def rest(self) -> None:
        """From now on answers everybody again and remembers nothing."""
        self._serves, self._heard = _everybody, None

    def stray(self, destination: str) -> Stray | None:
        """Sends a packet to an address that has not asked for it; None if it could not be sent.

        It looks like the answer to a request that somebody made in that address's name.
        """
        now_ns = self._now_ns()
        payload = reply_to(
            client_request(1 + self._bits(63)),
            behaviour=self._looks,
            blocked=False,
            hurried=False,
            received_ns=now_ns,
            transmit_ns=now_ns,
            noise=self._bits(64),
        )
        if payload is None or self._socket is None:
            return None
        try:
            self._socket.sendto(payload, (destination, _EPHEMERAL + self._bits(14)))
        except OSError as error:
            _log.debug("calibration target %s: %s: %s", self.target, destination, error)
            return None
        return Stray(destination, now_ns, payload)

    @property
    def truth(self) -> Truth | None:
        """What it received since `play`; None if that is not all."""
        return None if self._heard is None or self._vantages > MAX_HEARD else self._heard

    def _readable(self, opened: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                request, ancillary, _, peer = opened.recvmsg(_MAX_DATAGRAM, 64)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error for an earlier answer: whoever asked is gone
                continue
            if peer[1] != 0:
                self._answer(opened, request, self._received_ns(ancillary), peer)

    def _received_ns(self, ancillary: Iterable[tuple[int, int, bytes]]) -> int:
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack_from(content)
                return int(seconds * SECOND_NS + nanoseconds)
        return self._now_ns()

    def _answer(self, opened: socket.socket, request: bytes, received_ns: int, peer: tuple[str, int]) -> None:
        source = canonical_address(peer[0].partition("%")[0])
        now_ns = self._now_ns()
        answer = reply_to(
            request,
            behaviour=self._looks,
            blocked=not self._serves(source),
            hurried=False,
            received_ns=received_ns,
            transmit_ns=now_ns,
            noise=self._bits(64),
        )
        sent = b""
        if answer is not None:
            try:
                opened.sendto(answer, peer)
                sent = answer
            except OSError as error:  # no route back, or no buffer: whoever asked gets nothing, and that is the truth
                _log.debug("calibration target %s: %s: %s", self.target, source, error)
        self._remember(request, Heard(source, received_ns, sent, now_ns if sent else 0))

    def _remember(self, request: bytes, heard: Heard) -> None:
        if self._heard is None or len(request) < HEADER_BYTES:
            return
        if self._is_vantage(heard.source):
            self._vantages += 1
            room = self._vantages <= MAX_HEARD
        else:
            self._strangers += 1
            room = self._strangers <= MAX_STRANGERS
        if room:
            self._heard.setdefault(request[_TRANSMIT], []).append(heard)
