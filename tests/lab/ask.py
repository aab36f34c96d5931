"""One NTP question from a host of the lab, and what came back for it: an answer, an ICMP error or nothing.

This is the lab's own plain client, so that the product's transport can be judged against it.
"""

from __future__ import annotations

import secrets
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from poolproof.ntp import Header, client_request, decode
from tests.lab.net import Host

SILENCE_S = 0.3
"""How long nothing must come until it is silence: an answer inside one machine takes under a millisecond."""

_IP_RECVERR = 11
_IPV6_RECVERR = 25
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
"""struct sock_extended_err of linux/errqueue.h: errno, origin, type, code, pad, info, data; the offender follows."""


@dataclass(frozen=True, slots=True)
class Icmp:
    """An ICMP error from the socket's error queue.

    Attributes:
        type: ICMP type (3) or ICMPv6 type (1): destination unreachable.
        code: code within the type.
        offender: who sent it.
        quoted: the UDP payload that it quotes.
    """

    type: int
    code: int
    offender: str
    quoted: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """What one question brought.

    Attributes:
        request: UDP payload as sent.
        answer: header of the first datagram that echoes the request's transmit timestamp.
        icmp: the first ICMP error.
    """

    request: bytes
    answer: Header | None = None
    icmp: Icmp | None = None

    @property
    def silent(self) -> bool:
        """Neither an answer nor an error."""
        return self.answer is None and self.icmp is None

    @property
    def synchronised(self) -> bool:
        """An answer of a server that says it has the time (RFC 5905 figure 9: leap 3 is unsynchronised)."""
        return self.answer is not None and self.answer.leap != 3


@dataclass(slots=True)
class _Open:
    """A question under way."""

    asking: socket.socket
    heard: Heard


def ask(host: Host, server: str, *, source: str | None = None, version: int = 4, timeout_s: float = SILENCE_S) -> Heard:
    """Asks a server once, in mode 3.

    Args:
        host: who asks.
        server: address of the server; port 123.
        source: address to ask from; left out, the routing decides.
        version: NTP version.
        timeout_s: returns as soon as something came, and after this at the latest.
    """
    return ask_all([(host, source)], server, version=version, timeout_s=timeout_s)[0]


def ask_all(
    askers: Sequence[tuple[Host, str | None]], server: str, *, version: int = 4, timeout_s: float = SILENCE_S
) -> tuple[Heard, ...]:
    """Asks a server once from each of several hosts and source addresses, all at the same time.

    Returns:
        What each heard, in the order of `askers`.
    """
    questions: list[_Open] = []
    try:
        for host, source in askers:
            asking = _connected(host, source, server)
            questions.append(_Open(asking, Heard(client_request(secrets.randbits(64) | 1, version))))
        for question in questions:
            question.asking.send(question.heard.request)
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        waiting = {question.asking.fileno(): question for question in questions}
        for descriptor in waiting:
            poll.register(descriptor, select.POLLIN)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                _read(waiting[descriptor])
                if not waiting[descriptor].heard.silent:
                    poll.unregister(descriptor)
                    del waiting[descriptor]
        return tuple(question.heard for question in questions)
    finally:
        for question in questions:
            question.asking.close()


def _connected(host: Host, source: str | None, server: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    asking = host.socket(family) if source is None else host.udp(source)
    try:
        if family is socket.AF_INET6:
            asking.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            asking.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        asking.setblocking(False)
        asking.connect((server, 123))
    except BaseException:
        asking.close()
        raise
    return asking


def _read(question: _Open) -> None:
    """Takes one datagram or one error off the socket."""
    heard = question.heard
    try:
        payload = question.asking.recv(2048)
    except BlockingIOError:
        pass
    except OSError:  # the pending error of an ICMP message; the error queue has all of it
        pass
    else:
        if len(payload) >= 48 and payload[24:32] == heard.request[40:48]:
            question.heard = Heard(heard.request, answer=decode(payload))
        return
    icmp = _error(question.asking)
    if icmp is not None:
        question.heard = Heard(heard.request, icmp=icmp)


def _error(asking: socket.socket) -> Icmp | None:
    try:
        quoted, ancillary, _, _ = asking.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
    except BlockingIOError:
        return None
    for level, kind, data in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
            _, _, icmp_type, code, _, _, _ = _EXTENDED_ERROR.unpack_from(data)
            offender = data[_EXTENDED_ERROR.size :]
            if level == socket.IPPROTO_IP:
                address = socket.inet_ntop(socket.AF_INET, offender[4:8])  # struct sockaddr_in
            else:
                address = socket.inet_ntop(socket.AF_INET6, offender[8:24])  # struct sockaddr_in6
            return Icmp(icmp_type, code, address, quoted)
    return None
