"""How watches are served by adapters that keep their own history (memory, SQLite).

A watch is a cursor over the store's history and nothing else: it holds at most one fetched batch, so a slow consumer
costs no memory and no writer waits for it. While it is caught up it waits at the `Bell`, which the store rings after
each commit; the bell tells where the first change under the watch's prefix is, so that a quiet prefix skips the rest
of the history instead of falling behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from coordinator.store.errors import StoreError
from coordinator.store.port import Event, EventKind

BATCH_EVENTS = 256
BATCH_BYTES = 4 << 20
"""A batch ends after the revision that passes one of these."""


@dataclass(frozen=True, slots=True)
class Change:
    """An event as history holds it; `value` is None for a delete."""

    revision: int
    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What a watch fetched at once.

    Attributes:
        events: whole revisions only.
        next_revision: where to fetch next; everything under the prefix before it was in this batch or an earlier one.
    """

    events: tuple[Event, ...]
    next_revision: int


def batch_of(changes: Iterable[Change], snapshot_revision: int) -> Batch:
    """Takes whole revisions from `changes` (in order, up to the snapshot) until the batch is full."""
    taken: list[Change] = []
    size = 0
    next_revision = snapshot_revision + 1
    for change in changes:
        full = len(taken) >= BATCH_EVENTS or size >= BATCH_BYTES
        if full and change.revision != taken[-1].revision:
            next_revision = change.revision
            break
        taken.append(change)
        size += len(change.value or b"")
    following = [*(change.revision for change in taken), next_revision][1:] if taken else []
    return Batch(
        events=tuple(
            Event(
                kind=EventKind.DELETE if change.value is None else EventKind.PUT,
                key=change.key,
                value=change.value or b"",
                mod_revision=change.revision,
                resume_revision=change.revision if after == change.revision else change.revision + 1,
            )
            for change, after in zip(taken, following, strict=True)
        ),
        next_revision=next_revision,
    )


class Bell:
    """Wakes the watches that a commit concerns. Lives on the event loop.

    Attributes:
        revision: the newest revision that was rung.
    """

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self._waiting: dict[asyncio.Future[int], tuple[str, int]] = {}
        self._failure: Callable[[], StoreError] | None = None

    def ring(self, revision: int, keys: Sequence[str]) -> None:
        """Says that `revision` changed `keys`. To be called in order of revisions; repeating one is harmless."""
        self.revision = max(self.revision, revision)
        for future, (prefix, start) in list(self._waiting.items()):
            if revision >= start and not future.done() and any(key.startswith(prefix) for key in keys):
                future.set_result(revision)

    def fail(self, failure: Callable[[], StoreError]) -> None:
        """From now on every wait raises; the first failure stays."""
        self._failure = self._failure or failure
        for future in self._waiting:
            if not future.done():
                future.set_exception(self._failure())

    async def wait(self, prefix: str, start: int) -> int:
        """The first revision >= `start` that changes something under `prefix`; `start` must be ahead of `revision`."""
        if self._failure is not None:
            raise self._failure()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[future] = (prefix, start)
        try:
            return await future
        finally:
            del self._waiting[future]


class HistoryWatch:
    """A `Watch` over a history that can be fetched in batches.

    Args:
        bell: rung by the store.
        fetch: (prefix, from_revision) -> Batch; raises CompactedError if that revision is gone.
        prefix: which keys.
        from_revision: where to begin.
    """

    def __init__(
        self, bell: Bell, fetch: Callable[[str, int], Awaitable[Batch]], prefix: str, from_revision: int
    ) -> None:
        self._bell = bell
        self._fetch = fetch
        self._prefix = prefix
        self._cursor = from_revision
        self._fetched: deque[Event] = deque()
        self._closed = False

    def __aiter__(self) -> HistoryWatch:
        return self

    async def __anext__(self) -> Event:
        while not self._closed:
            if self._fetched:
                return self._fetched.popleft()
            # State changes only after an await has succeeded: a cancelled call leaves the cursor where it was.
            if self._cursor <= self._bell.revision:
                batch = await self._fetch(self._prefix, self._cursor)
                self._cursor = batch.next_revision
                self._fetched.extend(batch.events)
            else:
                self._cursor = await self._bell.wait(self._prefix, self._cursor)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the watch. It held nothing of the store, so forgetting one is harmless."""
        self._closed = True
        self._fetched.clear()
