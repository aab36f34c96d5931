"""Exchanges with the probe's own control servers, before and after a job, from the job's source address.

Silence of a target means something only between two answers from servers that are known to answer: they show that the
probe, its address and its way into the network worked. Each side asks every control server of the family at once, and
again until one of them has answered or the tries are used up. All attempts are reported, the vain ones too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from poolproof.exchange import Exchange, ExchangeKind
from poolproof.ntp import client_request
from poolproof.target import Target, family_of
from probe.clock import Clock, server_answer
from probe.settings import ControlSettings
from probe.transport import Transport

Entropy = Callable[[int], int]
"""That many random bits, as `secrets.randbits`."""


def fresh_transmit(entropy: Entropy) -> int:
    """64 random bits for a request's transmit timestamp; never zero, which would mean "none" (RFC 5905 §8)."""
    while True:
        bits = entropy(64)
        if bits:
            return bits


class ControlCheck:
    """Asks the control servers."""

    def __init__(self, settings: ControlSettings, transport: Transport, clock: Clock, entropy: Entropy) -> None:
        """Args: settings: servers and bounds. transport, clock, entropy: the probe's ports."""
        self._settings = settings
        self._transport = transport
        self._clock = clock
        self._entropy = entropy

    async def side(
        self, source: str, *, send_before_ns: int | None = None, seen: list[Exchange] | None = None
    ) -> tuple[Exchange, ...]:
        """Ask until one server answered.

        Args:
            source: own address to send from.
            send_before_ns: from this time on nothing is asked again; the first try goes out in any case.
            seen: gets each exchange when it ends, for somebody who cannot wait for the last.

        Returns:
            All exchanges, by try and then by server.
        """
        servers = self._settings.of_family(family_of(source))
        exchanges: list[Exchange] = []
        for attempt in range(self._settings.tries):
            if attempt and send_before_ns is not None and self._clock.now_ns() >= send_before_ns:
                break
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._ask(source, server, seen)) for server in servers]
            exchanges += [task.result() for task in tasks]
            if any(server_answer(task.result()) is not None for task in tasks):
                break
        return tuple(exchanges)

    async def _ask(self, source: str, server: Target, seen: list[Exchange] | None) -> Exchange:
        exchange = await self._transport.exchange(
            kind=ExchangeKind.CLIENT_V4,
            request=client_request(fresh_transmit(self._entropy)),
            source=source,
            target=server,
            send_at_ns=None,
            timeout_ns=self._settings.timeout_ns,
            linger_ns=0,
            until_first_reply=True,
        )
        if seen is not None:
            seen.append(exchange)
        return exchange
