"""The SQLite store keeps the contract, and what only a file can get wrong."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator.store import sqlite_file
from coordinator.store.errors import (
    CompactedError,
    InvalidRequestError,
    StoreIncompatibleError,
    StoreLockedError,
    StoreUnavailableError,
)
from coordinator.store.port import MAX_VALUE_BYTES, Committed, Compare, Put, Store, Transaction, pages
from coordinator.store.sqlite import SqliteStore
from coordinator.store.sqlite_table import TransactionWriter
from tests.store.contract import DEADLINE_S, HISTORY, StoreContract, delete, put, take, take_all


class TestSqliteStore(StoreContract):
    def opened(self, directory: Path, *, history: int) -> AbstractAsyncContextManager[Store]:
        return opened(directory / "store.db", history=history)


@asynccontextmanager
async def opened(path: Path, **options: int) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, **options)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """A look into the file from outside."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def modes_in(directory: Path) -> dict[str, int]:
    return {part.name: stat.S_IMODE(part.stat().st_mode) for part in directory.iterdir()}


def content(path: Path) -> bytes:
    return path.read_bytes()


def overwrite(path: Path, whole: bytes) -> None:
    path.write_bytes(whole)


def open_to_all(path: Path) -> None:
    path.chmod(0o644)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


async def test_records_and_history_outlive_the_process(path: Path) -> None:
    async with opened(path) as store:
        await store.commit(Transaction(puts=(Put("r/a", b"1"), Put("r/b", b"2"))))
        await put(store, "r/c", b"3")
        await delete(store, "r/a")
        before = await store.scan("")
        everything = await take_all(store, "r/", 1)
        async with aclosing(store.watch("r/", from_revision=1)) as watch:
            half = await take(watch, 1)
    async with opened(path) as store:
        after = [entry for entry in (await store.scan("")).entries if not entry.key.endswith("marker")]
        assert tuple(after) == before.entries
        late = await put(store, "r/d", b"4")
        rest = await take_all(store, "r/", half[-1].resume_revision)
    assert rest[:-1] == everything, "the first event was half of a transaction, which comes again"
    assert (rest[-1].key, rest[-1].mod_revision) == ("r/d", late)
    assert late == before.revision + 2, "revisions go on where they were"


async def test_forgotten_history_stays_forgotten_and_is_freed(path: Path) -> None:
    async with opened(path, history=HISTORY) as store:
        await put(store, "kept", b"for ever")
        for value in (b"early", b"late"):
            for number in range(100):
                await put(store, f"rare/{number}", value)
            for number in range(4 * HISTORY):
                await put(store, f"k/{number % 2}")
    async with opened(path) as store:
        with pytest.raises(CompactedError):
            await take(store.watch("", from_revision=1), 1)
        entry = await store.get("kept")
        assert entry is not None
        assert entry.value == b"for ever"
    with raw(path) as connection:
        (versions,) = connection.execute("SELECT count(*) FROM version").fetchone()
        assert versions <= 100 + 3 * HISTORY, "also what was replaced only after history had passed it"


async def test_a_long_history_is_cut_in_steps_when_less_is_asked(path: Path) -> None:
    async with opened(path) as store:
        await asyncio.gather(*(put(store, f"k/{number % 5}") for number in range(6_000)))
    async with opened(path, history=10) as store:
        oldest = []
        for _ in range(2):
            await put(store, "k/0")
            with pytest.raises(CompactedError) as forgotten:
                await take(store.watch("", from_revision=1), 1)
            oldest.append(forgotten.value.oldest_revision)
        assert 1 < oldest[0] < oldest[1]
        assert len((await store.scan("k/")).entries) == 5


async def test_only_the_owner_may_read_it(path: Path) -> None:
    old = os.umask(0)
    try:
        async with opened(path) as store:
            await put(store, "secret")
            modes = modes_in(path.parent)
        assert modes == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm", "store.db.lock"), 0o600)
        open_to_all(path)
        async with opened(path) as store:
            await put(store, "secret")
            assert set(modes_in(path.parent).values()) == {0o600}
    finally:
        os.umask(old)


async def test_a_second_coordinator_is_told_who_holds_the_file(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    async with opened(path) as store:
        for name in (path, link):
            with pytest.raises(StoreLockedError, match=rf"{path}.*process {os.getpid()}.*stop that one"):
                await SqliteStore.open(name)
        await put(store, "k")
    async with opened(link) as store:
        assert await store.get("k") is not None


async def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    async with opened(path) as store:
        await put(store, "k")
    with raw(path) as connection:
        connection.execute("PRAGMA user_version = 2")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = content(path)
    with pytest.raises(StoreIncompatibleError, match=r"newer poolproof \(schema 2, this one knows 1\); upgrade"):
        await SqliteStore.open(path)
    assert content(path) == before


async def test_a_file_of_something_else_is_left_alone(path: Path) -> None:
    with raw(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    open_to_all(path)
    before = content(path)
    with pytest.raises(StoreIncompatibleError, match="another application"):
        await SqliteStore.open(path)
    assert content(path) == before
    assert modes_in(path.parent)[path.name] == 0o644
    overwrite(path, b"This is a letter to my aunt, no database.\n" * 40)
    with pytest.raises(StoreUnavailableError, match=r"not a database .*restore a backup"):
        await SqliteStore.open(path)


async def test_an_impossible_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"nowhere/store.db: cannot be opened: No such file.*existing"):
        await SqliteStore.open(tmp_path / "nowhere" / "store.db")
    with pytest.raises(InvalidRequestError, match="history 0"):
        await SqliteStore.open(tmp_path / "store.db", history=0)


async def test_a_full_store_refuses_until_there_is_room(path: Path) -> None:
    acked = 0
    async with opened(path, max_bytes=1 << 20) as store:
        watch = store.watch("n/", from_revision=1)
        with pytest.raises(StoreUnavailableError, match=r"SQLITE_FULL.*raise max_bytes.*acknowledged is kept"):
            while True:
                await put(store, f"n/{acked:04}", b"x" * 20_000)
                acked += 1
        assert 40 <= acked <= 52
        assert len((await store.scan("n/")).entries) == acked, "it still serves reads"
        assert len(await take(watch, acked)) == acked
        await watch.aclose()
        assert await put(store, "small") == acked + 2, "what was refused took no revision"
    async with opened(path) as store:
        await put(store, f"n/{acked:04}", b"x" * 20_000)
        found = [entry.key async for page in pages(store, "n/") for entry in page.entries]
    assert found == [f"n/{number:04}" for number in range(acked + 1)]


@pytest.mark.parametrize("found_by", ["reader", "writer"])
async def test_a_damaged_file_ends_service_with_a_clear_word(path: Path, found_by: str) -> None:
    async with opened(path) as store:
        for number in range(60):
            await put(store, f"n/{number:02}", b"x" * 3_000)
        revision = (await store.scan("")).revision
    whole = content(path)
    overwrite(path, whole[: 4 * 4096] + b"\xff" * (len(whole) - 4 * 4096))
    async with opened(path) as store:
        idle = asyncio.ensure_future(anext(store.watch("n/", from_revision=revision + 1)))
        with pytest.raises(StoreUnavailableError, match=r"SQLITE_CORRUPT.*damaged.*restore a backup"):
            await (store.get("n/30") if found_by == "reader" else put(store, "n/30"))
        with pytest.raises(StoreUnavailableError, match="damaged"):
            await asyncio.wait_for(idle, DEADLINE_S)
        with pytest.raises(StoreUnavailableError, match="damaged"):
            await put(store, "n/60")
        with pytest.raises(StoreUnavailableError, match="damaged"):
            await store.get("n/00")


async def test_a_record_whose_value_is_missing_is_damage_and_not_absence(path: Path) -> None:
    async with opened(path) as store:
        await put(store, "k")
    with raw(path) as connection:
        connection.execute("DELETE FROM version")
    async with opened(path) as store:
        with pytest.raises(StoreUnavailableError, match="value of k is missing"):
            await store.get("k")


async def test_while_the_disk_makes_the_writer_wait_reads_and_the_loop_go_on(path: Path) -> None:
    async with opened(path) as store:
        revision = await put(store, "k")
        with raw(path) as other:
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.ensure_future(put(store, "k", b"new"))
            for _ in range(20):
                entry = await asyncio.wait_for(store.get("k"), DEADLINE_S)
                assert entry is not None
                assert entry.mod_revision == revision
            assert not writing.done()
            other.execute("ROLLBACK")
        assert await asyncio.wait_for(writing, DEADLINE_S) == revision + 1


async def test_sqlite_never_runs_on_the_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()

    class Watched(sqlite3.Connection):
        def execute(self, *args: Any) -> sqlite3.Cursor:
            threads.add(threading.get_ident())
            return super().execute(*args)

        def close(self) -> None:
            threads.add(threading.get_ident())
            super().close()

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kw: connect(*args, factory=Watched, **kw))
    async with opened(path, history=1) as store:
        for _ in range(3):
            await put(store, "k")
        await store.get("k")
        await store.scan("")
        with pytest.raises(CompactedError):
            await take(store.watch("", from_revision=1), 1)
    assert len(threads) >= 3
    assert threading.get_ident() not in threads


async def test_every_commit_is_synced(path: Path) -> None:
    file = sqlite_file.open_file(path, 1 << 20)
    try:
        assert file.writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert file.writer.execute("PRAGMA synchronous").fetchone() == (2,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            file.reader.execute("DELETE FROM entry")
    finally:
        file.close()


async def test_commits_that_wait_together_share_a_sync(path: Path) -> None:
    async with opened(path) as store:
        with raw(path) as other:
            other.execute("BEGIN IMMEDIATE")
            first = asyncio.ensure_future(put(store, "first"))
            await asyncio.sleep(0)
            rest = [asyncio.ensure_future(put(store, f"k/{number:03}")) for number in range(200)]
            await asyncio.sleep(0)
            other.execute("ROLLBACK")
        await asyncio.gather(first, *rest)
        frames = (path.with_name("store.db-wal").stat().st_size - 32) // (4096 + 24)
        assert frames < 60, "200 commits of their own would write 600 pages and more"


async def test_a_cancelled_commit_leaves_the_store_usable(path: Path) -> None:
    async with opened(path) as store:
        for number in range(50):
            task = asyncio.ensure_future(put(store, f"k/{number}", b"x" * 1000))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        last = await put(store, "last")
        entries = (await store.scan("")).entries
        assert sorted(entry.mod_revision for entry in entries) == list(range(2, last + 1))


async def test_large_histories_come_in_bounded_batches(path: Path) -> None:
    async with opened(path) as store:
        for number in range(8):
            await put(store, f"big/{number}", bytes([number]) * MAX_VALUE_BYTES)
        page = await store.scan("big/")
        assert len(page.entries) == 3
        assert page.more


def test_a_batch_that_does_not_fit_takes_no_effect_at_all(path: Path) -> None:
    file = sqlite_file.open_file(path, 1 << 20)
    try:
        writer = TransactionWriter(file.writer, file.revision, file.oldest, HISTORY)
        small = Transaction((Compare("small", 0),), (Put("small", b""),))
        with pytest.raises(sqlite3.OperationalError, match="full"):
            writer.apply([small, Transaction(puts=(Put("huge", bytes(MAX_VALUE_BYTES)),))])
        assert writer.apply([small]) == [Committed(2)]
    finally:
        file.close()
