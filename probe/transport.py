"""The port that exchanges leave by. `udp.UdpEngine` is the real one; tests bring their own."""

from __future__ import annotations

from typing import Protocol

from poolproof.exchange import Exchange, ExchangeKind
from poolproof.target import Target


class Transport(Protocol):
    """Makes one exchange and brings back everything that was seen."""

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
        """Send one request and collect what comes back. Remote and local network failures never raise.

        Args:
            kind: what is asked; copied into the exchange.
            request: UDP payload.
            source: own address to send from, of the target's family.
            target: address and port to send to.
            send_at_ns: when to send, Unix ns; None or a past time: at once.
            timeout_ns: how long after sending an answer is in time.
            linger_ns: how long after the timeout late datagrams and errors are still collected.
            until_first_reply: return at the first datagram that echoes the request, without waiting for more.

        Returns:
            The exchange. What failed locally is in its `fault` and `fault_detail`.
        """
        ...
