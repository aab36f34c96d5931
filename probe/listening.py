"""Listening on the socket of one exchange until its window is over, and on very many of them at once.

Theory of operation. All sockets of an engine are in one epoll set of its own, and that set is the one descriptor that
the loop knows: a reader and a timer of the loop for each exchange would cost more than its packets. Windows end at
whole ticks, so that exchanges that began together share a timer. A pending ICMP error makes the next call on a socket
fail once: whatever call that is, the error queue is drained and the call repeated.

A stranger who forges the target's address can flood the port. Datagrams that echo the request's random origin are
therefore kept apart from those that do not, so that rubbish never crowds out an answer, and reading stops at a bound.
"""

from __future__ import annotations

import asyncio
import math
import select
import socket
import time
from dataclasses import replace
from typing import Final, assert_never

from poolproof.exchange import ExchangeKind, IcmpError, Reply
from poolproof.ntp import HEADER_BYTES
from probe.errqueue import drain
from probe.sockets import receive

MAX_KEPT_REPLIES: Final = 16
MAX_KEPT_STRANGE: Final = 8
"""Of the kept replies, at most so many that do not echo our request."""
MAX_KEPT_BYTES: Final = 4_096
"""Of the kept replies that echo together, and half as much of those that do not: tens of thousands of exchanges may be
under way, and whoever asks for them can choose a target that answers as much as it can."""
MAX_KEPT_ICMP: Final = 16
MAX_KEPT_QUOTE: Final = 256
"""Bytes of each; our own packet is far shorter."""
MAX_READ_DATAGRAMS: Final = 4_096
"""After so many datagrams of one exchange nothing more is read: it is a flood."""
TICKS_PER_S: Final = 250
"""A window may last up to one tick longer than asked."""
_READ_AT_ONCE: Final = 64
"""Datagrams read before other exchanges get a turn."""


class Listener:
    """What comes to one connected socket: replies in order of arrival, ICMP errors in order of reading."""

    __slots__ = (
        "_kind",
        "_peer",
        "_read",
        "_request",
        "_room",
        "_strange",
        "_until_first",
        "done",
        "icmp",
        "replies",
        "sock",
    )

    def __init__(
        self, sock: socket.socket, peer: tuple[str, int], kind: ExchangeKind, request: bytes, until_first: bool
    ) -> None:
        """Args: sock: connected to peer. request: what an answer echoes. until_first: the first echo is enough."""
        self.replies: list[Reply] = []
        self.icmp: list[IcmpError] = []
        self.sock = sock
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._peer = peer
        self._kind = kind
        self._request = request
        self._until_first = until_first
        self._strange = 0
        self._room = {True: MAX_KEPT_BYTES, False: MAX_KEPT_BYTES // 2}
        self._read = 0

    def send(self) -> int:
        """Send the request; returns the time just before the kernel took it, Unix ns.

        Raises:
            OSError: it was not sent.
        """
        sent_at_ns = time.time_ns()
        try:
            self.sock.send(self._request)
        except OSError:
            # Perhaps a pending ICMP error, in which case nothing was sent. A second failure is the send's own.
            self._drain()
            sent_at_ns = time.time_ns()
            self.sock.send(self._request)
        return sent_at_ns

    def ready(self) -> bool:
        """Read what waits, datagrams and errors; False if this is a flood and should not be called again."""
        for _ in range(_READ_AT_ONCE):
            try:
                reply = receive(self.sock, self._peer)
            except BlockingIOError:
                break
            except OSError:
                self._drain()
                continue
            self._read += 1
            if reply is not None and self._keep(reply) and self._until_first:
                self.finish()
                break
        return self._read < MAX_READ_DATAGRAMS

    def finish(self) -> None:
        """The window is over."""
        if not self.done.done():
            self.done.set_result(None)

    def _keep(self, reply: Reply) -> bool:
        """Keep a reply if there is room; whether it echoes the request."""
        echo = echoes(self._kind, self._request, reply.payload)
        fits = len(self.replies) < MAX_KEPT_REPLIES and len(reply.payload) <= self._room[echo]
        if fits and (echo or self._strange < MAX_KEPT_STRANGE):
            self.replies.append(reply)
            self._room[echo] -= len(reply.payload)
            self._strange += not echo
        return echo

    def _drain(self) -> None:
        room = MAX_KEPT_ICMP - len(self.icmp)
        self.icmp.extend(
            replace(error.icmp, quoted=error.icmp.quoted[:MAX_KEPT_QUOTE]) for error in drain(self.sock)[:room]
        )


class Listeners:
    """All listeners of one engine. Uses the loop that is running while there are any."""

    def __init__(self) -> None:
        self._epoll = select.epoll()  # closes itself when it is no longer referred to
        self._by_descriptor: dict[int, Listener] = {}
        self._due: dict[int, list[Listener]] = {}

    async def listen(self, listener: Listener, window_s: float) -> None:
        """Until the window is over, or the listener finishes by itself."""
        loop = asyncio.get_running_loop()
        descriptor = listener.sock.fileno()
        if not self._by_descriptor:
            loop.add_reader(self._epoll.fileno(), self._ready)
        self._by_descriptor[descriptor] = listener
        try:
            self._epoll.register(descriptor, select.EPOLLIN)
            self._end_at(loop, loop.time() + window_s, listener)
            await listener.done
        finally:
            del self._by_descriptor[descriptor]  # closing the socket takes it out of the set
            if not self._by_descriptor:
                loop.remove_reader(self._epoll.fileno())
                self._due.clear()

    def _end_at(self, loop: asyncio.AbstractEventLoop, at_s: float, listener: Listener) -> None:
        tick = math.ceil(at_s * TICKS_PER_S)
        together = self._due.get(tick)
        if together is None:
            self._due[tick] = [listener]
            loop.call_at(tick / TICKS_PER_S, self._tick, tick)
        else:
            together.append(listener)

    def _tick(self, tick: int) -> None:
        for listener in self._due.pop(tick, ()):
            if not listener.done.done():
                # What waits in the socket came in time by the kernel's stamp, even if this loop is late.
                listener.ready()
                listener.finish()

    def _ready(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            listener = self._by_descriptor.get(descriptor)
            if listener is not None and not listener.done.done() and not listener.ready():
                self._epoll.unregister(descriptor)


def echoes(kind: ExchangeKind, request: bytes, payload: bytes) -> bool:
    """Whether a datagram repeats the secret of a request; says nothing about what else it says."""
    match kind:
        case ExchangeKind.CLIENT_V4:  # origin = our transmit timestamp (RFC 5905 §8)
            return len(payload) >= HEADER_BYTES and payload[24:32] == request[40:48]
        case _:
            assert_never(kind)
