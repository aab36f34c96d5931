"""The probe's journal: a bounded spool on disk that survives a crash at any moment.

A job passes through three states, each change on disk (fsync) before anything that relies on it is done:

    begin()  -> STARTED       before the job's first packet
    finish() -> STORED        before the report is sent
    acknowledge() -> ACKNOWLEDGED   when the coordinator has it; kept for a while as a tombstone

`begin` already stores the report that is true if nothing more comes: every step INTERRUPTED. So a job found STARTED
when the journal is opened needs nothing but to be taken as STORED, and a job whose id is known is never run again.

Beside a job that is begun stands what the guard allowed it to send, so that a restart is no way around a budget.

Unacknowledged reports are never dropped. When they reach the bounds, new work is refused; a report of work that was
begun within the bounds is stored beyond them. Reports are opaque bytes here: the caller brings `encode` and `decode`.

SQLite in WAL mode with `synchronous=FULL`, locked for one process. All methods block on the disk and may be called from
any thread.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from enum import IntEnum

from poolproof.exchange import LocalFault
from poolproof.ids import JobId
from poolproof.job import Job, Report
from probe.faulted import faulted_report
from probe.guard import Permit
from probe.settings import JournalSettings

_SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE jobs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    changed_at_ns INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    report BLOB NOT NULL
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, sequence);
"""
_PERMITS = """
CREATE TABLE permits (last_at_ns INTEGER NOT NULL, permit TEXT NOT NULL) STRICT;
CREATE INDEX permits_by_time ON permits (last_at_ns);
"""
"""Since version 2."""
PERMITS_KEPT_NS = 300_000_000_000
"""Longer than any window of the guard; a short series at 2 s is paid back within a minute of its last packet."""
_PAGE_BYTES = 4096


class JournalError(Exception):
    """The journal cannot do what was asked."""


class JournalFullError(JournalError):
    """The bounds, or the disk, leave no room."""


class JournalInUseError(JournalError):
    """Another process has this journal open."""


class JournalCorruptError(JournalError):
    """The file, or a report in it, cannot be read."""


class EntryState(IntEnum):
    """How far a job has come."""

    STARTED = 0
    STORED = 1
    ACKNOWLEDGED = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal knows about a job.

    Attributes:
        state: how far it has come.
        report: its report; for a job that is STARTED the one that says INTERRUPTED.
    """

    state: EntryState
    report: Report


class Journal:
    """The spool of one probe process."""

    def __init__(
        self, settings: JournalSettings, *, encode: Callable[[Report], bytes], decode: Callable[[bytes], Report]
    ) -> None:
        """Open or create the journal; jobs that an earlier process left STARTED become STORED.

        Args:
            settings: directory and bounds.
            encode: a report as bytes.
            decode: the reverse; raises on bytes that it cannot read.

        Raises:
            JournalInUseError: another process has it.
            JournalCorruptError: the file is damaged or of a newer version.
            JournalError: the directory cannot be used.
        """
        self._settings = settings
        self._encode = encode
        self._decode = decode
        self._path = settings.directory / "journal.sqlite3"
        self._lock = threading.Lock()
        try:
            settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise JournalError(f"journal.directory {settings.directory}: {error}; give a writable directory") from None
        with self._translated():
            self._db = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with self._translated():
                self._open()
        except BaseException:
            self._db.close()
            raise

    @property
    def max_reports(self) -> int:
        """How many reports may wait to be acknowledged."""
        return self._settings.max_reports

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._db.close()

    def find(self, job: JobId) -> Entry | None:
        """What is known about a job; None if nothing, or no longer.

        Raises:
            JournalCorruptError: its report cannot be read.
        """
        with self._lock, self._translated():
            row = self._db.execute("SELECT state, report FROM jobs WHERE job = ?", (job,)).fetchone()
        return None if row is None else Entry(EntryState(row[0]), self._read(job, row[1]))

    def begin(self, job: Job, now_ns: int, permit: Permit | None = None) -> None:
        """Record durably that a job is begun. Nothing of it may be sent before this returns.

        Args:
            job: what is begun.
            now_ns: Unix ns.
            permit: what the guard allowed for it; kept for `permits`, whatever becomes of the job's report.

        Raises:
            JournalFullError: no room, by the bounds or on the disk; the job must not be done.
            ValueError: the job is known already; see `find`.
        """
        interrupted = faulted_report(
            job, LocalFault.INTERRUPTED, "the probe stopped while this job was under way; packets may have been sent"
        )
        self._insert(interrupted, EntryState.STARTED, now_ns, permit)

    def permits(self, now_ns: int) -> tuple[Permit, ...]:
        """What jobs were allowed to send lately or later, the oldest first: a new process's guard must know it.

        Raises:
            JournalCorruptError: one of them cannot be read.
        """
        with self._lock, self._translated():
            rows = self._db.execute(
                "SELECT permit FROM permits WHERE last_at_ns >= ? ORDER BY last_at_ns", (now_ns - PERMITS_KEPT_NS,)
            ).fetchall()
        try:
            return tuple(_permit(text) for (text,) in rows)
        except (TypeError, ValueError) as error:
            raise self._corrupt(f"a permit cannot be read ({error})") from error

    def finish(self, report: Report, now_ns: int) -> None:
        """Store durably the report of a job, begun or not (a refused job is never begun). Send it after this returns.

        Raises:
            JournalFullError: no room on the disk, or by the bounds for a job never begun. The journal still holds what
                it held: for a job begun, that it was interrupted.
        """
        payload = self._encode(report)
        with self._transaction():
            found = self._db.execute(
                "UPDATE jobs SET state = ?, changed_at_ns = ?, bytes = ?, report = ? WHERE job = ? AND state = ?",
                (EntryState.STORED, now_ns, len(payload), payload, report.job, EntryState.STARTED),
            )
            known = found.rowcount or self._db.execute("SELECT 1 FROM jobs WHERE job = ?", (report.job,)).fetchone()
        if not known:
            self._insert(report, EntryState.STORED, now_ns)

    def unacknowledged(self, limit: int) -> tuple[Report, ...]:
        """Stored reports that the coordinator has not acknowledged, the oldest first, at most `limit`.

        Raises:
            JournalCorruptError: one of them cannot be read.
        """
        with self._lock, self._translated():
            rows = self._db.execute(
                "SELECT job, report FROM jobs WHERE state = ? ORDER BY sequence LIMIT ?", (EntryState.STORED, limit)
            ).fetchall()
        return tuple(self._read(JobId(job), payload) for job, payload in rows)

    def held(self) -> tuple[JobId, ...]:
        """Jobs begun or stored and not acknowledged, the oldest first: what the coordinator is owed."""
        with self._lock, self._translated():
            rows = self._db.execute(
                "SELECT job FROM jobs WHERE state != ? ORDER BY sequence", (EntryState.ACKNOWLEDGED,)
            ).fetchall()
        return tuple(JobId(job) for (job,) in rows)

    def acknowledge(self, job: JobId, now_ns: int) -> None:
        """The coordinator has the report: keep it as a tombstone only. An unknown or repeated id changes nothing."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET state = ?, changed_at_ns = ? WHERE job = ? AND state = ?",
                (EntryState.ACKNOWLEDGED, now_ns, job, EntryState.STORED),
            )
            self._db.execute(
                "DELETE FROM jobs WHERE state = ? AND changed_at_ns < ?",
                (EntryState.ACKNOWLEDGED, now_ns - self._settings.keep_acknowledged_ns),
            )

    def _open(self) -> None:
        # In exclusive mode the first read takes the lock and keeps it, so a second process fails here at once.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        # The bounds are kept by _make_room; this is the wall behind them, should payloads grow past all estimates.
        pages = max(64, self._settings.max_bytes * 2 // _PAGE_BYTES)
        self._db.execute(f"PRAGMA max_page_count = {pages}")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._create(_SCHEMA + _PERMITS)
        elif version == 1:
            self._create(_PERMITS)
        elif version != _SCHEMA_VERSION:
            raise JournalCorruptError(
                f"journal {self._path}: schema version {version}, this software knows {_SCHEMA_VERSION};"
                " run the version that wrote it until all reports are acknowledged"
            )
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._corrupt(verdict)
        self._db.execute("UPDATE jobs SET state = ? WHERE state = ?", (EntryState.STORED, EntryState.STARTED))

    def _create(self, tables: str) -> None:
        self._db.executescript(f"BEGIN IMMEDIATE; {tables} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")

    def _insert(self, report: Report, state: EntryState, now_ns: int, permit: Permit | None = None) -> None:
        payload = self._encode(report)
        with self._transaction():
            if self._db.execute("SELECT 1 FROM jobs WHERE job = ?", (report.job,)).fetchone():
                raise ValueError(f"job {report.job!r} is in the journal already")
            self._make_room(len(payload))
            self._db.execute(
                "INSERT INTO jobs (job, state, changed_at_ns, bytes, report) VALUES (?, ?, ?, ?, ?)",
                (report.job, state, now_ns, len(payload), payload),
            )
            if permit is not None:
                self._db.execute("DELETE FROM permits WHERE last_at_ns < ?", (now_ns - PERMITS_KEPT_NS,))
                self._db.execute("INSERT INTO permits VALUES (?, ?)", (permit.times[-1], json.dumps(astuple(permit))))

    def _make_room(self, wanted: int) -> None:
        """Drop tombstones, the oldest first, until the payload fits.

        Raises:
            JournalFullError: it does not fit even so.
        """
        limits = self._settings
        held, held_bytes = self._db.execute(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM jobs WHERE state != ?", (EntryState.ACKNOWLEDGED,)
        ).fetchone()
        if held + 1 > limits.max_reports or held_bytes + wanted > limits.max_bytes:
            raise JournalFullError(
                f"journal: {held} unacknowledged reports of {held_bytes} bytes; journal.max_reports is"
                f" {limits.max_reports}, journal.max_bytes {limits.max_bytes}"
            )
        count, total = self._db.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM jobs").fetchone()
        tombstones = self._db.execute(
            "SELECT sequence, bytes FROM jobs WHERE state = ? ORDER BY changed_at_ns", (EntryState.ACKNOWLEDGED,)
        )
        doomed: list[tuple[int]] = []
        for sequence, size in tombstones:
            if count + 1 <= limits.max_reports and total + wanted <= limits.max_bytes:
                break
            doomed.append((sequence,))
            count, total = count - 1, total - size
        self._db.executemany("DELETE FROM jobs WHERE sequence = ?", doomed)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors as the journal's, by code and not by text."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise JournalFullError(f"journal {self._path}: {error}; make room on the disk") from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise JournalInUseError(
                    f"journal {self._path}: another probe uses it; give each its own journal.directory"
                ) from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._corrupt(str(error)) from error
            raise JournalError(f"journal {self._path}: {error}") from error

    def _corrupt(self, reason: str) -> JournalCorruptError:
        return JournalCorruptError(
            f"journal {self._path}: {reason}; move the file away to start with an empty one: the reports in it are"
            " lost, and the coordinator will count their jobs as unreported"
        )

    def _read(self, job: JobId, payload: bytes) -> Report:
        try:
            return self._decode(payload)
        except Exception as error:
            raise self._corrupt(f"the report of job {job!r} cannot be read ({error})") from error


def _permit(text: str) -> Permit:
    job, target, (source, destination), times, paced = json.loads(text)
    return Permit(JobId(job), target, (source, destination), tuple(map(int, times)), tuple(map(int, paced)))
