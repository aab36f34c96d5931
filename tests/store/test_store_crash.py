"""What was acknowledged is there after SIGKILL and after a failing disk, and nothing is there by half."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from coordinator.store.port import EventKind, pages
from coordinator.store.sqlite import SqliteStore
from tests.store import committer
from tests.store.contract import DEADLINE_S, take

KILLS = 6


def killed_after(path: Path, first: int, acks: int) -> list[int]:
    """Runs the committer, kills it when it has acknowledged `acks` records, and returns all it acknowledged."""
    process = subprocess.Popen(
        [sys.executable, committer.__file__, str(path), str(first)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            acked = [int(process.stdout.readline()) for _ in range(acks)]
        finally:
            process.kill()
        rest = process.stdout.read()
    # The last line may be cut: an acknowledgement that was not printed was not given.
    return acked + [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]


async def surviving(path: Path) -> set[int]:
    """The records in the file, each checked to be whole."""
    store = await SqliteStore.open(path, history=50)
    try:
        left = [entry async for page in pages(store, "left/") for entry in page.entries]
        right = [entry async for page in pages(store, "right/") for entry in page.entries]
        assert [entry.mod_revision for entry in left] == [entry.mod_revision for entry in right]
        assert [entry.value * 400 for entry in left] == [entry.value for entry in right]
        revision = (await store.scan("")).revision
        assert sorted(entry.mod_revision for entry in left) == list(range(2, revision + 1))
        async with aclosing(store.watch("left/", from_revision=max(2, revision - 40))) as watch:
            events = await take(watch, min(41, revision - 1))
        newest = sorted(left, key=lambda entry: entry.mod_revision)[-len(events) :]
        assert [(event.kind, event.key, event.mod_revision) for event in events] == [
            (EventKind.PUT, entry.key, entry.mod_revision) for entry in newest
        ]
        return {int(entry.value) for entry in left}
    finally:
        await store.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_acknowledged_is_lost_when_killed(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "store.db"
    moments = random.Random(seed)
    acked: set[int] = set()
    first = 0
    for _ in range(KILLS):
        acks = moments.choice((1, moments.randint(2, 60), moments.randint(60, 1_500)))
        acked.update(await asyncio.to_thread(killed_after, path, first, acks))
        found = await surviving(path)
        assert acked <= found
        assert len(found - acked) <= committer.TASKS * KILLS, "at most what was under way at a kill"
        first = max(found) + 1


async def test_nothing_acknowledged_is_lost_when_the_disk_fails(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    command = [sys.executable, committer.__file__, str(path), "0", str(300_000)]
    done = await asyncio.to_thread(
        subprocess.run, command, stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=True
    )
    *acked, last_words = done.stdout.splitlines()
    assert last_words.startswith(f"gave up: store {path}: disk I/O error (SQLITE_IOERR_WRITE): the disk")
    assert len(acked) > 10
    assert {int(number) for number in acked} <= await surviving(path)
