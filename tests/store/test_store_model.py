"""Both adapters against a dict and a list, over sequences of operations that Hypothesis searches."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coordinator.store.errors import CompactedError
from coordinator.store.memory import MemoryStore
from coordinator.store.port import (
    Committed,
    Compare,
    Conflict,
    Entry,
    EventKind,
    Put,
    Store,
    Transaction,
    Watch,
    pages,
)
from coordinator.store.sqlite import SqliteStore

HISTORY = 5
DEADLINE_S = 20.0
KEYS = ("a", "a/b", "a/b/c", "a0", "b/1", "b/2")
PREFIXES = ("", "a", "a/", "b/", "c/")

T = TypeVar("T")
keys = st.sampled_from(KEYS)
prefixes = st.sampled_from(PREFIXES)


class MemoryMachine(RuleBasedStateMachine):
    """The in-memory store beside its model: what stands, and every change ever as (revision, key, value or None)."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = self.open()
        self.revision = self.run(self.store.scan("")).revision
        self.first = self.revision
        self.standing: dict[str, Entry] = {}
        self.history: list[tuple[int, str, bytes | None]] = []
        self.watch: Watch | None = None
        self.watched = ("", 0)

    def open(self) -> Store:
        return MemoryStore(history=HISTORY)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(DEADLINE_S):
                return await work

        return self.runner.run(bounded())

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()

    @rule(
        compared=st.dictionaries(keys, st.sampled_from(("right", "stale", "absent")), max_size=2),
        written=st.dictionaries(keys, st.one_of(st.none(), st.binary(max_size=3)), min_size=1, max_size=4),
    )
    def commit(self, compared: dict[str, str], written: dict[str, bytes | None]) -> None:
        actual = {key: self.standing[key].mod_revision if key in self.standing else 0 for key in KEYS}
        compares = tuple(
            Compare(key, {"right": actual[key], "stale": max(0, actual[key] - 1), "absent": 0}[how])
            for key, how in compared.items()
        )
        puts = tuple(Put(key, value) for key, value in written.items() if value is not None)
        deletes = tuple(key for key, value in written.items() if value is None)
        result = self.run(self.store.commit(Transaction(compares, puts, deletes)))
        failed = [compare for compare in compares if compare.mod_revision != actual[compare.key]]
        if failed:
            assert result == Conflict(failed[0].key, actual[failed[0].key])
            return
        revision = self.revision + 1
        changes = [(revision, put.key, put.value) for put in puts]
        gone = [(revision, key, None) for key in deletes if key in self.standing]
        if changes or gone:
            self.revision = revision
            self.history += [*changes, *gone]
        assert result == Committed(self.revision)
        for _, key, value in changes:
            before = self.standing.get(key)
            self.standing[key] = Entry(key, value, revision, before.create_revision if before else revision)
        for _, key, _ in gone:
            del self.standing[key]

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert self.run(self.store.get(key)) == self.standing.get(key)

    @rule(prefix=prefixes, limit=st.integers(1, 7))
    def scan(self, prefix: str, limit: int) -> None:
        async def read() -> list[Entry]:
            return [entry async for page in pages(self.store, prefix, limit=limit) for entry in page.entries]

        expected = [self.standing[key] for key in sorted(self.standing) if key.startswith(prefix)]
        assert self.run(read()) == expected

    @rule(prefix=prefixes, back=st.integers(0, 3 * HISTORY))
    def start_watch(self, prefix: str, back: int) -> None:
        start = max(self.first + 1, self.revision + 1 - back)
        self.watch = self.store.watch(prefix, from_revision=start)
        self.watched = (prefix, start)

    @precondition(lambda self: self.watch is not None and self.expected())
    @rule(count=st.integers(1, 9))
    def follow_watch(self, count: int) -> None:
        assert self.watch is not None
        prefix, start = self.watched
        for revision, key, value in self.expected()[:count]:
            try:
                event = self.run(self.next_event())
            except CompactedError as error:
                assert start <= self.revision - HISTORY, "what was promised is kept"
                assert start < error.oldest_revision <= self.revision - HISTORY + 1
                self.watch = None
                return
            kind = EventKind.DELETE if value is None else EventKind.PUT
            assert (event.kind, event.key, event.value, event.mod_revision) == (kind, key, value or b"", revision)
            assert event.resume_revision in (revision, revision + 1)
            start = event.resume_revision
            self.watched = (prefix, start)
            if start == revision:
                # Half-way through a transaction: resuming repeats it, which a new watch shall show.
                self.watch = self.store.watch(prefix, from_revision=start)
                return

    async def next_event(self) -> Any:
        assert self.watch is not None
        return await anext(self.watch)

    def expected(self) -> list[tuple[int, str, bytes | None]]:
        prefix, start = self.watched
        return [change for change in self.history if change[0] >= start and change[1].startswith(prefix)]

    @invariant()
    def revision_agrees(self) -> None:
        assert self.run(self.store.scan("c/")).revision == self.revision


class SqliteMachine(MemoryMachine):
    """The same with a file, which is closed and opened again at any time."""

    def open(self) -> Store:
        self.directory = getattr(self, "directory", None) or Path(tempfile.mkdtemp(prefix="poolproof-store-"))
        return self.run(SqliteStore.open(self.directory / "store.db", history=HISTORY))

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = self.open()
        prefix, start = self.watched
        if self.watch is not None:
            self.watch = self.store.watch(prefix, from_revision=start)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)


TestMemoryModel = MemoryMachine.TestCase
TestMemoryModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
TestSqliteModel = SqliteMachine.TestCase
TestSqliteModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, derandomize=True)
