"""The embedded store: one SQLite file, one process, every acknowledged commit synced to disk.

Two lanes (threads) keep SQLite off the event loop. The writer takes whatever commits have gathered and makes them one
SQLite transaction with one sync (group commit); the reader serves reads from a snapshot and never waits for the writer.
A full disk refuses commits until there is room. Any other failure of the file ends the store's service in this
process: after a failed sync nobody knows what the kernel still holds, and opening the file again finds out.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

from coordinator.store.errors import InvalidRequestError, StoreClosedError, StoreError, StoreUnavailableError
from coordinator.store.lane import Lane
from coordinator.store.port import (
    MAX_PAGE_ENTRIES,
    CommitResult,
    Committed,
    Entry,
    Page,
    Transaction,
    check_key,
    check_scan,
    check_watch,
)
from coordinator.store.sqlite_file import OpenFile, open_file, primary_code, unavailable
from coordinator.store.sqlite_table import TransactionWriter, read_entry, read_history, read_page
from coordinator.store.watching import Batch, Bell, HistoryWatch

DEFAULT_HISTORY = 100_000
DEFAULT_MAX_BYTES = 2 << 30
"""etcd's default quota."""

_Query = Callable[[sqlite3.Connection], object]
_T = TypeVar("_T")
_PASSING = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SqliteStore:
    """A `Store` in one file. Made by `open`."""

    def __init__(self, file: OpenFile, history: int) -> None:
        self._file = file
        self._table = TransactionWriter(file.writer, file.revision, file.oldest, history)
        self._bell = Bell(file.revision)
        self._broken: str | None = None
        self._closed = False
        self._writer: Lane[Transaction, CommitResult] = Lane("store-writer", self._serve_commits, self._announce)
        self._reader: Lane[_Query, object] = Lane("store-reader", self._serve_reads, self._notice)

    @classmethod
    async def open(
        cls, path: Path, *, history: int = DEFAULT_HISTORY, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> SqliteStore:
        """Opens the file, or creates it with mode 0600.

        Args:
            path: the file; SQLite keeps `-wal` and `-shm` beside it, we `.lock`. On a local file system.
            history: how many revisions watches can go back, at least.
            max_bytes: quota of the file.

        Raises:
            StoreLockedError: another process has it.
            StoreIncompatibleError: not ours, or from a newer version.
            StoreUnavailableError: it cannot be used; the message says why.
        """
        if history < 1:
            raise InvalidRequestError(f"store {path}: history {history}: give 1 or more revisions")
        return cls(await asyncio.to_thread(open_file, path, max_bytes), history)

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        check_key(key)
        return await self._read(lambda connection: read_entry(connection, key))

    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_PAGE_ENTRIES) -> Page:
        """See `Store.scan`; a page ends at the first entry past 4 MiB."""
        check_scan(prefix, after, limit)
        return await self._read(lambda connection: read_page(connection, prefix, after, limit))

    async def commit(self, transaction: Transaction) -> CommitResult:
        """See `Store.commit`; commits that wait at the same time share one sync."""
        return await self._writer.submit(transaction)

    def watch(self, prefix: str, *, from_revision: int) -> HistoryWatch:
        """See `Store.watch`; history outlives the process."""
        check_watch(prefix, from_revision)
        return HistoryWatch(self._bell, self._fetch, prefix, from_revision)

    async def close(self) -> None:
        """See `Store.close`; frees the file for another process."""
        self._bell.fail(lambda: StoreClosedError("the store is closed"))
        await self._writer.close()
        await self._reader.close()
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._file.close)

    async def _fetch(self, prefix: str, from_revision: int) -> Batch:
        return await self._read(lambda connection: read_history(connection, prefix, from_revision))

    async def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return cast("_T", await self._reader.submit(query))

    def _serve_commits(self, transactions: Sequence[Transaction]) -> Sequence[CommitResult | Exception]:
        if self._broken is not None:
            return self._refusals(len(transactions))
        try:
            return self._table.apply(transactions)
        except sqlite3.Error as error:
            failure = self._failure(error)
            # One exception each: callers raise them in their own tasks and add their own tracebacks.
            return [StoreUnavailableError(str(failure)) for _ in transactions]

    def _serve_reads(self, queries: Sequence[_Query]) -> Sequence[object]:
        """All queries of a batch share a snapshot, taken after the last of them was asked."""
        if self._broken is not None:
            return self._refusals(len(queries))
        connection = self._file.reader
        try:
            connection.execute("BEGIN")
            try:
                return [self._answer(query) for query in queries]
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            failure = self._failure(error)
            return [StoreUnavailableError(str(failure)) for _ in queries]

    def _answer(self, query: _Query) -> object:
        try:
            return query(self._file.reader)
        except sqlite3.Error as error:
            return self._failure(error)
        except StoreError as error:
            return error

    def _failure(self, error: sqlite3.Error) -> StoreUnavailableError:
        failure = unavailable(self._file.path, error)
        if primary_code(error) not in _PASSING:
            self._broken = str(failure)
        return failure

    def _refusals(self, count: int) -> list[Exception]:
        return [StoreUnavailableError(self._broken or "the store failed") for _ in range(count)]

    def _announce(self, transactions: Sequence[Transaction], results: Sequence[CommitResult | Exception]) -> None:
        for transaction, result in zip(transactions, results, strict=True):
            if isinstance(result, Committed):
                self._bell.ring(result.revision, [*(put.key for put in transaction.puts), *transaction.deletes])
        self._notice()

    def _notice(self, *_: object) -> None:
        """A store that broke must not leave its watches waiting for changes that cannot come."""
        if self._broken is not None:
            broken = self._broken
            self._bell.fail(lambda: StoreUnavailableError(broken))
