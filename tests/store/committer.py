"""A process for the crash tests: commits numbered records as fast as it can and prints each number once acknowledged.

Usage: committer.py FILE FIRST [MAX_FILE_BYTES]. Eight tasks at once; record n is two keys that must appear together.
With MAX_FILE_BYTES the kernel refuses to let any file grow further, and the reason for giving up is printed.
"""

from __future__ import annotations

import asyncio
import itertools
import resource
import sys
from pathlib import Path

from coordinator.store.errors import StoreUnavailableError
from coordinator.store.port import Committed, Compare, Put, Transaction
from coordinator.store.sqlite import SqliteStore

TASKS = 8


def record(number: int) -> Transaction:
    """Two keys of a record; the second is large enough to cross pages."""
    left, right = f"left/{number:06}", f"right/{number:06}"
    return Transaction((Compare(left, 0),), (Put(left, b"%d" % number), Put(right, b"%d" % number * 400)))


async def commit_on(store: SqliteStore, numbers: itertools.count[int]) -> None:
    for number in numbers:
        assert isinstance(await store.commit(record(number)), Committed)
        # One write per line straight to the pipe: nothing acknowledged waits in a buffer when the signal comes.
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


async def main(path: Path, first: int) -> None:
    store = await SqliteStore.open(path, history=50)
    numbers = itertools.count(first)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(commit_on(store, numbers))
    except* StoreUnavailableError as failures:
        sys.stdout.write(f"gave up: {failures.exceptions[0]}\n")
    await store.close()


if __name__ == "__main__":
    if len(sys.argv) > 3:
        limit = int(sys.argv[3])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
