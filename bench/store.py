"""How many commits and reads the embedded store serves, beside SQLite without any store around it.

Compare ratios of one run, never rates of two: the disk decides the rates.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

from coordinator.store.port import Committed, Compare, Put, Transaction
from coordinator.store.sqlite import SqliteStore

CALLERS = 64
COMMITS_PER_CALLER = 300
COMMITS_ALONE = 300
VALUE = b"v" * 200


def measure() -> dict[str, float]:
    """Rates in operations per second, latencies in milliseconds; each commit is a compare-and-save of 200 bytes."""
    with tempfile.TemporaryDirectory(prefix="poolproof-bench-") as directory:
        figures = asyncio.run(_store(Path(directory) / "store.db"))
        figures["raw_sqlite_64_a_sync_per_s"] = _raw_sqlite(Path(directory) / "raw.db")
    figures["ratio_to_raw_sqlite"] = figures["commits_64_callers_per_s"] / figures["raw_sqlite_64_a_sync_per_s"]
    figures["ratio_group_commit"] = figures["commits_64_callers_per_s"] / figures["commits_1_caller_per_s"]
    return figures


async def _store(path: Path) -> dict[str, float]:
    store = await SqliteStore.open(path)
    try:
        latencies: list[float] = []
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for caller in range(CALLERS):
                group.create_task(_count_up(store, f"k/{caller:02}", COMMITS_PER_CALLER, latencies))
        together_s = time.perf_counter() - start
        start = time.perf_counter()
        await _count_up(store, "alone", COMMITS_ALONE, [])
        alone_s = time.perf_counter() - start
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for caller in range(CALLERS):
                group.create_task(_read(store, f"k/{caller:02}"))
        read_s = time.perf_counter() - start
        watch = store.watch("k/", from_revision=1)
        start = time.perf_counter()
        for _ in range(CALLERS * COMMITS_PER_CALLER):
            await anext(watch)
        watched_s = time.perf_counter() - start
    finally:
        await store.close()
    latencies.sort()
    return {
        "commits_64_callers_per_s": CALLERS * COMMITS_PER_CALLER / together_s,
        "commits_1_caller_per_s": COMMITS_ALONE / alone_s,
        "commit_64_callers_p50_ms": latencies[len(latencies) // 2] * 1e3,
        "commit_64_callers_p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
        "gets_64_callers_per_s": CALLERS * COMMITS_PER_CALLER / read_s,
        "watch_replay_events_per_s": CALLERS * COMMITS_PER_CALLER / watched_s,
    }


async def _count_up(store: SqliteStore, key: str, times: int, latencies: list[float]) -> None:
    revision = 0
    for _ in range(times):
        start = time.perf_counter()
        result = await store.commit(Transaction((Compare(key, revision),), (Put(key, VALUE),)))
        latencies.append(time.perf_counter() - start)
        assert isinstance(result, Committed)
        revision = result.revision


async def _read(store: SqliteStore, key: str) -> None:
    for _ in range(COMMITS_PER_CALLER):
        assert await store.get(key) is not None


def _raw_sqlite(path: Path) -> float:
    """The same durable compare-and-save in a plain loop: 64 in each transaction, no history, no callers."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE entry (key TEXT PRIMARY KEY, value BLOB, revision INTEGER) WITHOUT ROWID")
        start = time.perf_counter()
        for turn in range(COMMITS_PER_CALLER):
            connection.execute("BEGIN IMMEDIATE")
            for caller in range(CALLERS):
                key = f"k/{caller:02}"
                row = connection.execute("SELECT revision FROM entry WHERE key = ?", (key,)).fetchone()
                assert (row[0] if row else -1) == turn - 1
                connection.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (key, VALUE, turn))
            connection.execute("COMMIT")
        return CALLERS * COMMITS_PER_CALLER / (time.perf_counter() - start)


if __name__ == "__main__":
    for name, figure in measure().items():
        print(f"{name:32} {figure:12.2f}")
