"""A thread that serves requests in order and in batches, for work that must not block the event loop.

While one batch is served the next one gathers: that is the whole of group commit. Results of a batch come back to the
loop in one wake-up.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from coordinator.store.errors import StoreClosedError

Request = TypeVar("Request")
Result = TypeVar("Result")

MAX_BATCH = 256
MAX_WAITING = 1024
"""Callers beyond this wait before they hand their request in."""


class Lane(Generic[Request, Result]):
    """One serving thread.

    Args:
        name: the thread's name.
        serve: runs in the thread; one result per request, in order, where an exception is raised at its caller.
        settled: runs on the loop with a batch and its results, before any caller sees its own.
    """

    def __init__(
        self,
        name: str,
        serve: Callable[[Sequence[Request]], Sequence[Result | Exception]],
        settled: Callable[[Sequence[Request], Sequence[Result | Exception]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._serve = serve
        self._settled = settled
        self._waiting: queue.SimpleQueue[tuple[Request, asyncio.Future[Result]] | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._closing = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a process that exits without close() must not hang; what was acknowledged is on disk.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, request: Request) -> Result:
        """Hands a request in and waits for its result. Cancelling does not take it back.

        Raises:
            StoreClosedError: the lane is closed.
        """
        await self._room.acquire()
        if self._closing:
            self._room.release()
            raise StoreClosedError("the store is closed")
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.put((request, future))
        return await future

    async def close(self) -> None:
        """Serves what was handed in and ends the thread. May be repeated."""
        if not self._closing:
            self._closing = True
            self._waiting.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._next_batch()
            if batch:
                requests = [request for request, _ in batch]
                try:
                    results = self._serve(requests)
                except Exception as error:
                    # A bug; each caller must hear of it, or all of them would wait for ever.
                    results = [error] * len(requests)
                if not self._post(self._deliver, batch, results):
                    return
        self._post(self._ended.set_result, None)

    def _next_batch(self) -> tuple[list[tuple[Request, asyncio.Future[Result]]], bool]:
        batch: list[tuple[Request, asyncio.Future[Result]]] = []
        item = self._waiting.get()
        while item is not None:
            batch.append(item)
            if len(batch) == MAX_BATCH:
                return batch, True
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _post(self, callback: Callable[..., object], *args: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            return False  # The loop is closed: nobody is left to tell.
        return True

    def _deliver(
        self, batch: Sequence[tuple[Request, asyncio.Future[Result]]], results: Sequence[Result | Exception]
    ) -> None:
        self._settled([request for request, _ in batch], results)
        for (_, future), result in zip(batch, results, strict=True):
            self._room.release()
            if future.done():
                continue  # Its caller was cancelled.
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
