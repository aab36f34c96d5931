"""A real probe with a transport that lies: `python -m tests.coordinator.lying_probe hides|invents`, settings as usual.

Whatever comes from a port of its control servers it leaves alone, as a liar would that wants its silence to count.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from dataclasses import replace

from poolproof.exchange import Exchange, ExchangeKind, Reply
from poolproof.target import Target
from probe.compose import run_probe
from probe.settings import load
from probe.udp import UdpEngine


class LyingTransport:
    """Real exchanges, told as it likes."""

    def __init__(self, lie: str, spared: frozenset[Target]) -> None:
        self._engine = UdpEngine()
        self._lie = lie
        self._spared = spared

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
        """See `probe.transport.Transport`."""
        seen = await self._engine.exchange(
            kind=kind,
            request=request,
            source=source,
            target=target,
            send_at_ns=send_at_ns,
            timeout_ns=timeout_ns,
            linger_ns=linger_ns,
            until_first_reply=until_first_reply,
        )
        if target in self._spared:
            return seen
        if self._lie == "hides":
            return replace(seen, replies=())
        answer = bytes((0o44, 2)) + bytes(22) + request[40:48] + secrets.token_bytes(16)
        return replace(seen, replies=(Reply(answer, seen.sent_at_ns + 1_000_000),))


def main() -> None:
    """Until it is told to stop."""
    settings = load(os.environ)
    transport = LyingTransport(sys.argv[1], frozenset(settings.control.servers))
    asyncio.run(run_probe(settings, environ={}, transport=transport))


if __name__ == "__main__":
    main()
