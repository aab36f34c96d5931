"""One NTP question, to see whether a server of the demo is up."""

from __future__ import annotations

import asyncio
import socket
import time

from poolproof.ntp import HEADER_BYTES, client_request, decode


async def until_synchronised(address: str, port: int, patience_s: float) -> bool:
    """Ask until a synchronised answer comes; False if none does in time."""
    return await asyncio.to_thread(_until_synchronised, address, port, patience_s)


def _until_synchronised(address: str, port: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while time.monotonic() < deadline:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.3)
            asking.connect((address, port))
            try:
                asking.send(client_request(1))
                payload = asking.recv(512)
            except OSError:
                time.sleep(0.1)
                continue
        header = decode(payload) if len(payload) >= HEADER_BYTES else None
        if header is not None and header.leap != 3 and 0 < header.stratum < 16:
            return True
        time.sleep(0.3)
    return False
