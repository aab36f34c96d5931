"""The store in memory: for tests and simulation. No threads and no clock, so it runs on a virtual-time loop."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice

from coordinator.store.errors import CompactedError, StoreClosedError
from coordinator.store.port import (
    MAX_PAGE_ENTRIES,
    CommitResult,
    Committed,
    Conflict,
    Entry,
    Page,
    Transaction,
    check_key,
    check_scan,
    check_watch,
    prefix_end,
)
from coordinator.store.watching import Batch, Bell, Change, HistoryWatch, batch_of


class MemoryStore:
    """A `Store` that is gone with its process.

    Args:
        history: how many revisions watches can go back.
    """

    def __init__(self, *, history: int = 10_000) -> None:
        self._entries: dict[str, Entry] = {}
        self._keys: list[str] = []
        self._log: deque[tuple[Change, ...]] = deque(maxlen=history)
        """One item per revision, the newest revision last."""
        self._revision = 1
        self._bell = Bell(self._revision)
        self._closed = False

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        check_key(key)
        await self._turn()
        return self._entries.get(key)

    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_PAGE_ENTRIES) -> Page:
        """See `Store.scan`; pages are not bounded in bytes."""
        check_scan(prefix, after, limit)
        await self._turn()
        first = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
        end = bisect_left(self._keys, prefix_end(prefix))
        last = min(first + limit, end)
        return Page(
            entries=tuple(self._entries[key] for key in self._keys[first:last]),
            more=last < end,
            revision=self._revision,
        )

    async def commit(self, transaction: Transaction) -> CommitResult:
        """See `Store.commit`; durable means as long as the process lives."""
        await self._turn()
        for compare in transaction.compares:
            standing = self._entries.get(compare.key)
            actual = standing.mod_revision if standing else 0
            if actual != compare.mod_revision:
                return Conflict(compare.key, actual)
        revision = self._revision + 1
        changes = [Change(revision, put.key, put.value) for put in transaction.puts]
        changes += [Change(revision, key, None) for key in transaction.deletes if key in self._entries]
        if not changes:
            return Committed(self._revision)
        for change in changes:
            self._apply(change)
        self._revision = revision
        self._log.append(tuple(changes))
        self._bell.ring(revision, [change.key for change in changes])
        return Committed(revision)

    def watch(self, prefix: str, *, from_revision: int) -> HistoryWatch:
        """See `Store.watch`."""
        check_watch(prefix, from_revision)
        return HistoryWatch(self._bell, self._fetch, prefix, from_revision)

    async def close(self) -> None:
        """See `Store.close`."""
        self._closed = True
        self._bell.fail(_closed)

    def _apply(self, change: Change) -> None:
        if change.value is None:
            del self._entries[change.key]
            del self._keys[bisect_left(self._keys, change.key)]
            return
        standing = self._entries.get(change.key)
        if standing is None:
            insort(self._keys, change.key)
        created = standing.create_revision if standing else change.revision
        self._entries[change.key] = Entry(change.key, change.value, change.revision, created)

    async def _fetch(self, prefix: str, from_revision: int) -> Batch:
        await self._turn()
        oldest = self._revision - len(self._log) + 1
        # Revision 1 is the empty store: nothing ever happened in it, so nothing is missing before revision 2.
        if from_revision < oldest and oldest > 2:
            raise CompactedError(from_revision, oldest)
        return batch_of(self._changes(prefix, max(0, from_revision - oldest)), self._revision)

    def _changes(self, prefix: str, skip: int) -> Iterator[Change]:
        changes = chain.from_iterable(islice(self._log, skip, None))
        return (change for change in changes if change.key.startswith(prefix))

    async def _turn(self) -> None:
        """Lets other tasks in, as a store that does I/O would: interleavings are then tested as they happen."""
        await asyncio.sleep(0)
        if self._closed:
            raise _closed()


def _closed() -> StoreClosedError:
    return StoreClosedError("the in-memory store is closed")
