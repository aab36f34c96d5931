"""A TCP proxy on loopback that resets, swallows and lets through: what networks do to a long stream."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK = 4_096
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST and throws away what waits."""


class Proxy:
    """Between agents and a coordinator.

    Attributes:
        reset_after: a new connection is reset once so many bytes have passed through it, drawn for each; None: never.
        swallows: bytes that come from now on go nowhere, in both directions, and nobody is told.
        connections: made so far.
        resets: connections that were reset.
    """

    def __init__(self, port: int, chance: random.Random) -> None:
        self._to = port
        self._chance = chance
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.reset_after: tuple[int, int] | None = None
        self.swallows = False
        self.connections = self.resets = self.swallowed = 0

    def reset_all(self) -> None:
        """Every connection that there is ends now, by RST."""
        for writer in tuple(self._open):
            self._reset(writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            self._reset(writer)
            return
        self._open |= {writer, back}
        room = [self._chance.randrange(*self.reset_after)] if self.reset_after else []
        # A connection that swallows keeps doing so: it is half open until somebody gives it up.
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, back, room))
                group.create_task(self._pass_on(there, writer, room))
        except* (OSError, EOFError):
            pass
        finally:
            for each in (writer, back):
                self._reset(each)
            self._tasks.discard(task)

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.reset_all()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, room: list[int]) -> None:
        deaf = False
        while chunk := await reader.read(_CHUNK):
            deaf = deaf or self.swallows
            if deaf:
                self.swallowed += len(chunk)
                continue
            if room and room[0] < len(chunk):
                writer.write(chunk[: room[0]])
                self.resets += 1
                raise ConnectionResetError
            if room:
                room[0] -= len(chunk)
            writer.write(chunk)
            await writer.drain()
        if deaf:
            # The end is swallowed as well: the other side must find out by itself.
            await asyncio.get_running_loop().create_future()
        raise EOFError

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        raw = writer.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()


@asynccontextmanager
async def proxied(port: int, seed: int = 1) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy in front of a port of loopback, and its own port."""
    proxy = Proxy(port, random.Random(seed))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
