"""What every store must do, whichever adapter it is. An adapter's test module subclasses `StoreContract`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path

import pytest

from coordinator.store.errors import (
    CompactedError,
    InvalidRequestError,
    StoreClosedError,
)
from coordinator.store.port import (
    MAX_KEY_BYTES,
    MAX_OPERATIONS,
    MAX_VALUE_BYTES,
    CommitResult,
    Committed,
    Compare,
    Conflict,
    Entry,
    Event,
    EventKind,
    Put,
    Store,
    Transaction,
    Watch,
    pages,
)

HISTORY = 8
DEADLINE_S = 20.0


def committed(result: CommitResult) -> int:
    assert isinstance(result, Committed), result
    return result.revision


async def put(store: Store, key: str, value: bytes = b"v") -> int:
    return committed(await store.commit(Transaction(puts=(Put(key, value),))))


async def delete(store: Store, key: str) -> int:
    return committed(await store.commit(Transaction(deletes=(key,))))


async def take(watch: Watch, count: int) -> list[Event]:
    async with asyncio.timeout(DEADLINE_S):
        return [await anext(watch) for _ in range(count)]


async def take_all(store: Store, prefix: str, from_revision: int) -> list[Event]:
    """Everything under `prefix` from a revision to now, found by a marker that is written behind it."""
    marker = f"{prefix}zz-marker"
    end = await put(store, marker)
    events: list[Event] = []
    async with aclosing(store.watch(prefix, from_revision=from_revision)) as watch, asyncio.timeout(DEADLINE_S):
        async for event in watch:
            if event.mod_revision == end:
                return events
            if event.key != marker:
                events.append(event)
    raise AssertionError("the watch ended by itself")


class StoreContract(ABC):
    """Subclass it with a way to open an empty store that keeps at least `history` revisions."""

    @abstractmethod
    def opened(self, directory: Path, *, history: int) -> AbstractAsyncContextManager[Store]: ...

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        async with self.opened(tmp_path, history=100_000) as store:
            yield store

    @pytest.fixture
    async def short(self, tmp_path: Path) -> AsyncIterator[Store]:
        """A store that forgets its history soon."""
        async with self.opened(tmp_path, history=HISTORY) as store:
            yield store

    async def test_a_record_carries_the_revisions_that_created_and_changed_it(self, store: Store) -> None:
        assert await store.get("job/1") is None
        first = await put(store, "job/1", b"a")
        other = await put(store, "job/2", b"x")
        second = await put(store, "job/1", b"b")
        assert first < other < second
        assert await store.get("job/1") == Entry("job/1", b"b", second, first)

    async def test_a_key_created_again_is_a_new_record(self, store: Store) -> None:
        first = await put(store, "k", b"a")
        gone = await delete(store, "k")
        assert await store.get("k") is None
        again = await put(store, "k", b"")
        assert first < gone < again
        assert await store.get("k") == Entry("k", b"", again, again)

    async def test_what_a_transaction_writes_shares_one_revision(self, store: Store) -> None:
        await put(store, "old")
        revision = committed(await store.commit(Transaction(puts=(Put("b", b"1"), Put("a", b"2")), deletes=("old",))))
        page = await store.scan("")
        assert page.entries == (Entry("a", b"2", revision, revision), Entry("b", b"1", revision, revision))
        assert page.revision == revision

    async def test_a_transaction_that_changes_nothing_takes_no_revision(self, store: Store) -> None:
        revision = await put(store, "k")
        assert await delete(store, "absent") == revision
        assert committed(await store.commit(Transaction(compares=(Compare("k", revision),)))) == revision
        assert await put(store, "k") == revision + 1

    async def test_a_conflict_names_the_key_and_changes_nothing(self, store: Store) -> None:
        revision = await put(store, "taken", b"mine")
        for compares, conflict in (
            ((Compare("free", 0), Compare("taken", 0)), Conflict("taken", revision)),
            ((Compare("taken", revision), Compare("free", revision)), Conflict("free", 0)),
            ((Compare("taken", revision + 1), Compare("free", 7)), Conflict("taken", revision)),
        ):
            result = await store.commit(Transaction(compares, (Put("free", b""), Put("taken", b"theirs")), ("other",)))
            assert result == conflict
        page = await store.scan("")
        assert page.entries == (Entry("taken", b"mine", revision, revision),)
        assert page.revision == revision

    async def test_a_record_can_be_deleted_by_compare(self, store: Store) -> None:
        revision = await put(store, "k")
        assert await store.commit(Transaction((Compare("k", revision - 1),), deletes=("k",))) == Conflict("k", revision)
        gone = committed(await store.commit(Transaction((Compare("k", revision),), deletes=("k",))))
        assert await store.commit(Transaction((Compare("k", revision),), deletes=("k",))) == Conflict("k", 0)
        assert gone == revision + 1

    async def test_of_64_tasks_one_wins_each_revision(self, store: Store) -> None:
        revision = await put(store, "counter", b"0")
        tasks, turns = 64, 5
        winners: list[tuple[int, int]] = []

        async def count_up() -> None:
            won = 0
            while won < turns:
                entry = await store.get("counter")
                assert entry is not None
                number = int(entry.value) + 1
                change = Transaction((Compare("counter", entry.mod_revision),), (Put("counter", b"%d" % number),))
                match await store.commit(change):
                    case Committed(revision=at):
                        winners.append((at, number))
                        won += 1
                    case Conflict(actual_mod_revision=actual):
                        assert actual > entry.mod_revision

        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(count_up())
        assert sorted(winners) == [(revision + number, number) for number in range(1, tasks * turns + 1)]

    async def test_a_scan_is_in_key_order_and_keeps_to_its_prefix(self, store: Store) -> None:
        keys = ["a", "a-b", "a/1", "a/1/x", "a/10", "a/2", "a0", "b/1", "A/1", "a/~"]
        for key in reversed(keys):
            await put(store, key, key.encode())
        assert [entry.key for entry in (await store.scan("")).entries] == sorted(keys)
        assert [entry.key for entry in (await store.scan("a/")).entries] == ["a/1", "a/1/x", "a/10", "a/2", "a/~"]
        assert [entry.key for entry in (await store.scan("a/1")).entries] == ["a/1", "a/1/x", "a/10"]
        assert (await store.scan("c")).entries == ()

    async def test_pages_join_up(self, store: Store) -> None:
        keys = [f"p/{number:02}" for number in range(10)]
        await store.commit(Transaction(puts=tuple(Put(key, key.encode()) for key in keys)))
        await put(store, "q")
        for limit in (1, 3, 5, 10, 11):
            found = [page async for page in pages(store, "p/", limit=limit)]
            assert [entry.key for page in found for entry in page.entries] == keys
            assert all(1 <= len(page.entries) <= limit for page in found)
            assert [page.more for page in found] == [True] * (len(found) - 1) + [False]
        rest = await store.scan("p/", after="p/065", limit=2)
        assert [entry.key for entry in rest.entries] == ["p/07", "p/08"]
        assert (await store.scan("p/", after="a", limit=1)).entries[0].key == "p/00"
        assert (await store.scan("p/", after="q")).entries == ()

    async def test_large_records_are_all_found(self, store: Store) -> None:
        for number in range(8):
            await put(store, f"big/{number}", bytes([number]) * MAX_VALUE_BYTES)
        found = [entry async for page in pages(store, "big/") for entry in page.entries]
        assert [(entry.value[0], len(entry.value)) for entry in found] == [(n, MAX_VALUE_BYTES) for n in range(8)]
        events = await take_all(store, "big/", found[0].mod_revision)
        assert [event.value for event in events] == [entry.value for entry in found]

    async def test_load_then_watch_leaves_no_gap(self, store: Store) -> None:
        writing = 40

        async def write() -> None:
            for number in range(writing):
                await put(store, f"w/{number:02}")

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            await asyncio.sleep(0)
            known: dict[str, int] = {}
            start = 0
            async for page in pages(store, "w/", limit=2):
                start = start or page.revision + 1
                known.update({entry.key: entry.mod_revision for entry in page.entries})
            async with aclosing(store.watch("w/", from_revision=start)) as watch, asyncio.timeout(DEADLINE_S):
                while len(known) < writing:
                    event = await anext(watch)
                    assert known.setdefault(event.key, event.mod_revision) == event.mod_revision
        assert sorted(known.values()) == list(range(min(known.values()), min(known.values()) + writing))

    async def test_a_watch_tells_every_change_under_its_prefix_in_order(self, store: Store) -> None:
        start = (await store.scan("")).revision + 1
        one = await put(store, "j/1", b"a")
        await put(store, "other", b"x")
        two = committed(await store.commit(Transaction(puts=(Put("j/2", b"b"), Put("k", b""), Put("j/0", b"")))))
        three = await delete(store, "j/1")
        assert await take_all(store, "j/", start) == [
            Event(EventKind.PUT, "j/1", b"a", one, one + 1),
            Event(EventKind.PUT, "j/2", b"b", two, two),
            Event(EventKind.PUT, "j/0", b"", two, two + 1),
            Event(EventKind.DELETE, "j/1", b"", three, three + 1),
        ]

    async def test_a_watch_resumed_anywhere_loses_nothing(self, store: Store) -> None:
        start = (await store.scan("")).revision + 1
        for number in range(4):
            await store.commit(Transaction(puts=tuple(Put(f"r/{number}-{part}", b"") for part in range(3))))
        everything = await take_all(store, "r/", start)
        assert len(everything) == 12
        for seen, event in enumerate(everything, start=1):
            rest = await take_all(store, "r/", event.resume_revision)
            repeated = seen + len(rest) - len(everything)
            assert rest == everything[seen - repeated :]
            assert repeated == (seen % 3), "events come again only inside a transaction"

    async def test_a_watch_waits_for_what_is_to_come(self, store: Store) -> None:
        start = (await store.scan("")).revision + 1
        async with aclosing(store.watch("live/", from_revision=start)) as watch:
            for number in range(3):
                waiting = asyncio.ensure_future(take(watch, 1))
                await put(store, "elsewhere")
                revision = await put(store, f"live/{number}")
                assert [(event.key, event.mod_revision) for event in await waiting] == [(f"live/{number}", revision)]

    async def test_a_watch_can_start_ahead(self, store: Store) -> None:
        start = (await store.scan("")).revision + 3
        async with aclosing(store.watch("", from_revision=start)) as watch:
            waiting = asyncio.ensure_future(take(watch, 1))
            for number in range(4):
                await put(store, f"k/{number}")
            assert [event.key for event in await waiting] == ["k/2"]

    async def test_a_cancelled_wait_loses_nothing(self, store: Store) -> None:
        start = (await store.scan("")).revision + 1
        async with aclosing(store.watch("c/", from_revision=start)) as watch:
            seen = []
            for number in range(30):
                waiting = asyncio.ensure_future(anext(watch))
                writing = asyncio.ensure_future(put(store, f"c/{number:02}"))
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                waiting.cancel()
                (event,) = await asyncio.gather(waiting, return_exceptions=True)
                if isinstance(event, Event):
                    seen.append(event.key)
                await writing
            seen += [event.key for event in await take(watch, 30 - len(seen))]
        assert seen == [f"c/{number:02}" for number in range(30)]

    async def test_many_watches_see_the_same(self, store: Store) -> None:
        start = (await store.scan("")).revision + 1
        watches = [store.watch("m/", from_revision=start) for _ in range(20)]
        waiting = [asyncio.ensure_future(take(watch, 30)) for watch in watches]
        await asyncio.gather(*(put(store, f"m/{number:02}") for number in range(30)))
        first, *others = await asyncio.gather(*waiting)
        assert all(other == first for other in others)
        assert sorted(event.key for event in first) == [f"m/{number:02}" for number in range(30)]
        assert [event.mod_revision for event in first] == list(range(start, start + 30))
        for watch in watches:
            await watch.aclose()

    async def test_a_closed_watch_ends(self, store: Store) -> None:
        await put(store, "k")
        watch = store.watch("", from_revision=1)
        assert len(await take(watch, 1)) == 1
        await watch.aclose()
        assert [event async for event in watch] == []

    async def test_forgotten_history_is_named_and_the_rest_is_whole(self, short: Store) -> None:
        last = 0
        for number in range(10 * HISTORY):
            last = await put(short, f"k/{number % 3}", b"%d" % number)
        with pytest.raises(CompactedError, match="scan again") as forgotten:
            await take(short.watch("k/", from_revision=1), 1)
        oldest = forgotten.value.oldest_revision
        assert oldest <= last - HISTORY + 1, "at least the promised history is kept"
        assert oldest > last - 3 * HISTORY, "and not much more"
        async with aclosing(short.watch("k/", from_revision=oldest)) as watch:
            kept = await take(watch, last - oldest + 1)
        assert [event.mod_revision for event in kept] == list(range(oldest, last + 1))
        assert [int(event.value) for event in kept][-1] == 10 * HISTORY - 1

    async def test_forgetting_history_forgets_no_record(self, short: Store) -> None:
        created = await put(short, "kept", b"for ever")
        changed = await put(short, "changed", b"1")
        for _ in range(5 * HISTORY):
            await put(short, "noise")
        assert await short.get("kept") == Entry("kept", b"for ever", created, created)
        again = await put(short, "changed", b"2")
        assert await short.get("changed") == Entry("changed", b"2", again, changed)
        await delete(short, "kept")
        assert [entry.key for entry in (await short.scan("")).entries] == ["changed", "noise"]

    async def test_a_slow_watch_holds_up_no_writer_and_is_told(self, short: Store) -> None:
        async with aclosing(short.watch("", from_revision=1)) as slow:
            await put(short, "k")
            await take(slow, 1)
            async with asyncio.timeout(DEADLINE_S):
                for _ in range(10 * HISTORY):
                    await put(short, "k")
            with pytest.raises(CompactedError):
                await take(slow, 10 * HISTORY)

    async def test_a_quiet_watch_is_not_slow(self, short: Store) -> None:
        async with aclosing(short.watch("quiet/", from_revision=1)) as watch:
            waiting = asyncio.ensure_future(take(watch, 1))
            for _ in range(10 * HISTORY):
                await put(short, "noise")
            assert not waiting.done()
            revision = await put(short, "quiet/1")
            assert [event.mod_revision for event in await waiting] == [revision]

    async def test_the_largest_transactions_are_taken(self, store: Store) -> None:
        long = "k" * (MAX_KEY_BYTES - 4)
        many = Transaction(
            compares=tuple(Compare(f"{long}/{number:03}", 0) for number in range(MAX_OPERATIONS)),
            puts=tuple(Put(f"{long}/{number:03}", b"v" * 9_000) for number in range(MAX_OPERATIONS)),
        )
        revision = committed(await store.commit(many))
        assert await store.commit(many) == Conflict(f"{long}/000", revision)
        one = await put(store, "one", b"v" * MAX_VALUE_BYTES)
        assert await store.get("one") == Entry("one", b"v" * MAX_VALUE_BYTES, one, one)
        wipe = Transaction(deletes=tuple(f"{long}/{number:03}" for number in range(MAX_OPERATIONS)))
        assert committed(await store.commit(wipe)) == one + 1
        assert [entry.key for entry in (await store.scan("")).entries] == ["one"]

    async def test_malformed_requests_are_refused(self, store: Store) -> None:
        with pytest.raises(InvalidRequestError, match="key 'a//b'"):
            await store.get("a//b")
        for limit in (0, 1001):
            with pytest.raises(InvalidRequestError, match=f"limit {limit}: give 1 to 1000"):
                await store.scan("", limit=limit)
        with pytest.raises(InvalidRequestError, match="prefix '/'"):
            await store.scan("/")
        with pytest.raises(InvalidRequestError, match="from_revision 0"):
            store.watch("", from_revision=0)

    async def test_close_finishes_commits_wakes_watches_and_refuses_the_rest(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path, history=HISTORY) as store:
            watch = store.watch("k", from_revision=(await store.scan("")).revision + 1)
            waiting = asyncio.ensure_future(anext(watch))
            for _ in range(5):
                await asyncio.sleep(0)
            await store.close()
            with pytest.raises(StoreClosedError):
                await asyncio.wait_for(waiting, DEADLINE_S)
            await store.close()
            with pytest.raises(StoreClosedError):
                await store.get("k")
            with pytest.raises(StoreClosedError):
                await store.scan("")
            with pytest.raises(StoreClosedError):
                await put(store, "k")
            with pytest.raises(StoreClosedError):
                await take(store.watch("", from_revision=1), 1)
