"""One exchange over UDP on a fresh connected socket: the engine of all jobs.

A socket of its own gives each exchange a random source port, the kernel's word that a datagram came from the target's
address and port, and an ICMP error queue that belongs to this exchange alone. `sweep` shares one socket instead.

The loop's timer wakes an exchange PREPARE_NS before its time; it opens the socket, sleeps the rest precisely, sends,
and listens on the bare descriptor (`listening`): an asyncio datagram endpoint would add milliseconds of error.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from typing import Final, TypeAlias

from poolproof.exchange import Exchange, ExchangeKind, LocalFault
from poolproof.target import Target
from probe.listening import Listener, Listeners
from probe.sockets import close_descriptor, keep_stamping, open_udp, peer_name, words_of

PREPARE_NS: Final = 2_000_000
"""The socket is opened this long before the time to send; the most that one exchange may hold the loop up."""
MAX_TIMER_S: Final = 1.0
"""A longer wait is cut into pieces: the loop's timer follows another clock than `send_at_ns`, which may be set."""
GatePort: TypeAlias = Callable[[Target], str | None]
"""Asked just before each send: why it may not be, or None."""


class UdpEngine:
    """Makes exchanges over UDP; satisfies `probe.transport.Transport`. Any number may run at once on one loop."""

    def __init__(self, gate: GatePort | None = None) -> None:
        """Args: gate: see `probe.gate`; None lets every packet out."""
        self._listeners = Listeners()
        self._gate = gate
        # Not a socket object: the engine needs no close(), its end closes this.
        weakref.finalize(self, close_descriptor, keep_stamping())

    async def exchange(
        self,
        *,
        kind: ExchangeKind,
        request: bytes,
        source: str,
        target: Target,
        send_at_ns: int | None,
        timeout_ns: int,
        linger_ns: int,
        until_first_reply: bool = False,
    ) -> Exchange:
        """Send one request and collect what comes back. What fails locally is a fault, never an exception.

        Args:
            kind: what is asked.
            request: UDP payload.
            source: own address of the target's family; of IPv6 also any address of a prefix routed to this host.
            target: where to send to.
            send_at_ns: when to send, Unix ns; None or a past time: at once.
            timeout_ns: how long after sending an answer is in time.
            linger_ns: how long after that late and duplicate datagrams and errors are still collected.
            until_first_reply: return at the first datagram that echoes the request, without waiting for more.

        Returns:
            The exchange, with at most `listening.MAX_KEPT_REPLIES` datagrams and `MAX_KEPT_ICMP` errors.
        """
        sent_at_ns = 0
        fault: LocalFault | None = None
        detail = ""
        listener: Listener | None = None
        if send_at_ns is not None:
            await _until(send_at_ns - PREPARE_NS)
        try:
            sock = open_udp(source, target.family)
        except OSError as error:
            sent_at_ns = time.time_ns()
            fault, detail = LocalFault.BIND_FAILED, f"source {source}: {words_of(error)}"
        else:
            with sock:
                try:
                    sock.connect((target.address, target.port))
                    listener = Listener(sock, peer_name(target), kind, request, until_first_reply)
                    if send_at_ns is not None:
                        _sleep_precisely(send_at_ns)
                    refusal = self._gate(target) if self._gate else None
                    if refusal is None:
                        sent_at_ns = listener.send()
                except OSError as error:
                    sent_at_ns = time.time_ns()
                    fault, detail = LocalFault.SEND_FAILED, f"to {target} from {source}: {words_of(error)}"
                else:
                    if refusal is None:
                        await self._listeners.listen(listener, (timeout_ns + linger_ns) / 1e9)
                    else:
                        sent_at_ns = time.time_ns()
                        fault, detail = LocalFault.GUARD_REFUSED, refusal
        return Exchange(
            kind=kind,
            request=request,
            source=source,
            destination=target.address,
            port=target.port,
            sent_at_ns=sent_at_ns,
            timeout_ns=timeout_ns,
            replies=tuple(listener.replies) if listener else (),
            icmp=tuple(listener.icmp) if listener else (),
            fault=fault,
            fault_detail=detail,
        )


async def _until(at_ns: int) -> None:
    """Wait by the loop's timer; returns at once if the time has passed."""
    while (left_ns := at_ns - time.time_ns()) > 0:  # noqa: ASYNC110 (waits for a time, not an event)
        await asyncio.sleep(min(left_ns / 1e9, MAX_TIMER_S))


def _sleep_precisely(at_ns: int) -> None:
    """Block for the last stretch, at most PREPARE_NS: epoll's milliseconds would be the start's skew."""
    left_ns = at_ns - time.time_ns()
    if left_ns > 0:
        time.sleep(min(left_ns, PREPARE_NS) / 1e9)
