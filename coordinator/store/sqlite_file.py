"""The SQLite store's file: who may open it, what is in it, and what SQLite's errors mean.

The file is guarded by `<file>.lock` (flock, so it frees itself when its process dies): SQLite alone would let a second
coordinator in. The guard is another file because closing a descriptor of the database file itself would drop SQLite's
own POSIX locks.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from coordinator.store.errors import StoreIncompatibleError, StoreLockedError, StoreUnavailableError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x70707266
"""In the file's header ("pprf"), so that another application's database is never taken for ours."""
BUSY_TIMEOUT_S = 5.0
PAGE_BYTES = 4096

_SCHEMA = """
-- All versions of all keys, in order; at once the values and the history that watches read.
-- id = revision << 7 | index within the transaction. A NULL value is a delete.
CREATE TABLE version (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB) STRICT;
-- What stands: the newest version of each key that is not deleted.
CREATE TABLE entry (
  key TEXT PRIMARY KEY, version INTEGER NOT NULL, create_revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- One row. History is complete from `oldest` on; before it only versions that still stand are kept.
CREATE TABLE state (
  id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, oldest INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, 1, 1);
"""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A store file that this process holds.

    Attributes:
        path: the resolved path.
        guard: holds the lock as long as it is open.
        writer: the one connection that writes.
        reader: a connection that cannot write.
        revision, oldest: the state row.
    """

    path: Path
    guard: IO[str]
    writer: sqlite3.Connection
    reader: sqlite3.Connection
    revision: int
    oldest: int

    def close(self) -> None:
        """Closes the connections (the last one folds the write-ahead log in), then lets go of the lock."""
        with self.guard:
            self.reader.close()
            self.writer.close()


def open_file(path: Path, max_bytes: int) -> OpenFile:
    """Locks, creates or checks, and opens a store file. Blocks.

    Raises:
        StoreLockedError: another process has it.
        StoreIncompatibleError: not ours, or from a newer version.
        StoreUnavailableError: anything else that keeps it from being used.
    """
    path = path.resolve()
    with ExitStack() as undo:
        try:
            guard = undo.enter_context(_lock(path))
            _create(path)
            writer = undo.enter_context(_Closing(_connect(path)))
            _check_identity(path, writer)
            _configure(path, writer, max_bytes)
            reader = undo.enter_context(_Closing(_connect(path)))
            reader.execute("PRAGMA query_only = ON")
            _make_private(path)
            revision, oldest = writer.execute("SELECT revision, oldest FROM state").fetchone()
        except sqlite3.Error as error:
            raise unavailable(path, error) from error
        except OSError as error:
            raise StoreUnavailableError(
                f"store {path}: cannot be opened: {error.strerror or error}; give a file in an existing directory "
                "that this user may write to"
            ) from error
        undo.pop_all()
    return OpenFile(path, guard, writer, reader, revision, oldest)


def unavailable(path: Path, error: sqlite3.Error) -> StoreUnavailableError:
    """What an SQLite error means to an operator, and what to do about it."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    match primary_code(error):
        case sqlite3.SQLITE_FULL:
            remedy = "no room: the file system is full or the file has reached max_bytes; free space or raise max_bytes"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            remedy = "the file is damaged; stop, keep a copy, and restore a backup or try `sqlite3 FILE .recover`"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            remedy = f"another process kept the file locked for {BUSY_TIMEOUT_S:g} s; end its transaction"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            remedy = "the file, its -wal and -shm must be writable for this user; correct the permissions"
        case _:
            remedy = "the disk or file system failed; check the system's log, then start again"
    return StoreUnavailableError(f"store {path}: {error} ({name}): {remedy}. What was acknowledged is kept.")


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 if the error is the module's own."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


class _Closing:
    """Closes a connection on the way out; sqlite3's own context manager only ends the transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _lock(path: Path) -> IO[str]:
    lock_path = path.with_name(path.name + ".lock")
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    guard = os.fdopen(descriptor, "r+")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with guard:
            holder = guard.read(32).strip() or "unknown"
        raise StoreLockedError(
            f"store {path}: another coordinator has it open (process {holder}, lock {lock_path.name}); "
            "stop that one, or give this one a store file of its own"
        ) from None
    except OSError:
        guard.close()
        raise
    guard.truncate(0)
    guard.write(f"{os.getpid()}\n")
    guard.flush()
    return guard


def _make_private(path: Path) -> None:
    """Takes an existing file from everyone but its owner; SQLite gives a later -wal or -shm the file's own mode."""
    for suffix in ("", "-wal", "-shm", ".lock"):
        part = path.with_name(path.name + suffix)
        if part.exists() and part.stat().st_mode & 0o077:
            part.chmod(0o600)


def _create(path: Path) -> None:
    """Makes the file if need be, for its owner only, and its name durable."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _connect(path: Path) -> sqlite3.Connection:
    # Each connection is used by one thread at a time, but not by the one that opened it.
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def _check_identity(path: Path, connection: sqlite3.Connection) -> None:
    """Refuses what is not ours before anything in it is touched."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return
    if application != APPLICATION_ID:
        raise StoreIncompatibleError(f"store {path}: a database of another application; give another file")
    if version > SCHEMA_VERSION:
        raise StoreIncompatibleError(
            f"store {path}: written by a newer poolproof (schema {version}, this one knows {SCHEMA_VERSION}); "
            "upgrade poolproof, or give another file"
        )


def _configure(path: Path, connection: sqlite3.Connection, max_bytes: int) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnavailableError(
            f"store {path}: this file system gives no write-ahead log (journal mode {mode}); use a local one"
        )
    # FULL: every commit is on the disk before it is acknowledged. NORMAL would lose the last ones with the power.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // PAGE_BYTES)}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
