"""The SQL of the SQLite store: plain functions over a connection. Blocking; they run in the store's lanes.

Reads happen inside a transaction of the caller, so that what one of them returns is of one snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from coordinator.store.errors import CompactedError
from coordinator.store.port import CommitResult, Committed, Conflict, Entry, Page, Transaction, prefix_end
from coordinator.store.watching import Batch, Change, batch_of

PAGE_BYTES_BUDGET = 4 << 20
_INDEX_BITS = 7
"""A transaction writes at most 128 keys, so index and revision share one integer."""
_COMPACT_EVERY = 1024
_COMPACT_AT_ONCE = 4096
"""Revisions: history is cut in steps, so that no commit pays for a great deal of it."""


class DamagedError(sqlite3.DatabaseError):
    """The tables contradict each other."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    sqlite_errorname = "SQLITE_CORRUPT"


def read_entry(connection: sqlite3.Connection, key: str) -> Entry | None:
    """The record at `key`."""
    row = connection.execute(
        "SELECT e.key, v.value, e.version, e.create_revision FROM entry e LEFT JOIN version v ON v.id = e.version"
        " WHERE e.key = ?",
        (key,),
    ).fetchone()
    return None if row is None else _entry(row)


def read_page(connection: sqlite3.Connection, prefix: str, after: str, limit: int) -> Page:
    """A page as `Store.scan` promises it."""
    (revision,) = connection.execute("SELECT revision FROM state").fetchone()
    rows = connection.execute(
        "SELECT e.key, v.value, e.version, e.create_revision FROM entry e LEFT JOIN version v ON v.id = e.version"
        " WHERE e.key >= ? AND e.key > ? AND e.key < ? ORDER BY e.key LIMIT ?",
        (prefix, after, prefix_end(prefix), limit + 1),
    )
    entries: list[Entry] = []
    size = 0
    more = False
    for row in rows:
        if len(entries) == limit or size >= PAGE_BYTES_BUDGET:
            more = True
            break
        entry = _entry(row)
        entries.append(entry)
        size += len(entry.value)
    rows.close()
    return Page(entries=tuple(entries), more=more, revision=revision)


def read_history(connection: sqlite3.Connection, prefix: str, from_revision: int) -> Batch:
    """A batch of changes for a watch.

    Raises:
        CompactedError: `from_revision` is no longer kept.
    """
    revision, oldest = connection.execute("SELECT revision, oldest FROM state").fetchone()
    if from_revision < oldest:
        raise CompactedError(from_revision, oldest)
    rows = connection.execute(
        "SELECT id, key, value FROM version WHERE id >= ? AND key >= ? AND key < ? ORDER BY id",
        (from_revision << _INDEX_BITS, prefix, prefix_end(prefix)),
    )
    batch = batch_of(_changes(rows), revision)
    rows.close()
    return batch


class TransactionWriter:
    """Applies batches of transactions, each batch as one durable commit. Belongs to one thread.

    Args:
        connection: the only one that writes.
        revision: the state row's.
        oldest: the state row's.
        history: how many revisions watches can go back.
    """

    def __init__(self, connection: sqlite3.Connection, revision: int, oldest: int, history: int) -> None:
        self._connection = connection
        self._revision = revision
        self._oldest = oldest
        self._history = history
        self._compact_every = min(_COMPACT_EVERY, history)

    def apply(self, transactions: Sequence[Transaction]) -> list[CommitResult]:
        """All of them in order; when it returns, the file is synced. When it raises, none took effect as far as known.

        Raises:
            sqlite3.Error: from any step; the transaction is rolled back.
        """
        before = (self._revision, self._oldest)
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            results = [self._apply_one(transaction) for transaction in transactions]
            self._compact()
            if (self._revision, self._oldest) != before:
                self._connection.execute("UPDATE state SET revision = ?, oldest = ?", (self._revision, self._oldest))
            self._connection.execute("COMMIT")
        except BaseException:
            self._revision, self._oldest = before
            # SQLite has already rolled back after some errors (disk full, I/O).
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return results

    def _apply_one(self, transaction: Transaction) -> CommitResult:
        standing: dict[str, tuple[int, int] | None] = {}
        for compare in transaction.compares:
            found = standing[compare.key] = self._locate(compare.key)
            actual = found[0] >> _INDEX_BITS if found else 0
            if actual != compare.mod_revision:
                return Conflict(compare.key, actual)
        revision = self._revision + 1
        version = revision << _INDEX_BITS
        for put in transaction.puts:
            found = standing[put.key] if put.key in standing else self._locate(put.key)
            self._record(version, put.key, put.value, found)
            self._connection.execute(
                "INSERT INTO entry VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET version = excluded.version",
                (put.key, version, revision),
            )
            version += 1
        for key in transaction.deletes:
            found = standing[key] if key in standing else self._locate(key)
            if found is not None:
                self._record(version, key, None, found)
                self._connection.execute("DELETE FROM entry WHERE key = ?", (key,))
                version += 1
        if version != revision << _INDEX_BITS:
            self._revision = revision
        return Committed(self._revision)

    def _locate(self, key: str) -> tuple[int, int] | None:
        row: tuple[int, int] | None = self._connection.execute(
            "SELECT version, create_revision FROM entry WHERE key = ?", (key,)
        ).fetchone()
        return row

    def _record(self, version: int, key: str, value: bytes | None, superseded: tuple[int, int] | None) -> None:
        self._connection.execute("INSERT INTO version VALUES (?, ?, ?)", (version, key, value))
        # Compaction has already passed that version and spared it because it stood.
        if superseded is not None and superseded[0] < self._oldest << _INDEX_BITS:
            self._connection.execute("DELETE FROM version WHERE id = ?", (superseded[0],))

    def _compact(self) -> None:
        oldest = self._revision - self._history + 1
        if oldest - self._oldest < self._compact_every:
            return
        oldest = min(oldest, self._oldest + _COMPACT_AT_ONCE)
        self._connection.execute(
            "DELETE FROM version WHERE id >= ? AND id < ? AND NOT EXISTS"
            " (SELECT 1 FROM entry WHERE entry.key = version.key AND entry.version = version.id)",
            (self._oldest << _INDEX_BITS, oldest << _INDEX_BITS),
        )
        self._oldest = oldest


def _entry(row: tuple[str, bytes | None, int, int]) -> Entry:
    key, value, version, create_revision = row
    if value is None:
        raise DamagedError(f"the value of {key} is missing")
    return Entry(key, value, version >> _INDEX_BITS, create_revision)


def _changes(rows: sqlite3.Cursor) -> Iterator[Change]:
    for version, key, value in rows:
        yield Change(version >> _INDEX_BITS, key, value)
