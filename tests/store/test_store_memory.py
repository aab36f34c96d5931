"""The in-memory store keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from coordinator.store.memory import MemoryStore
from coordinator.store.port import Store
from tests.store.contract import StoreContract


class TestMemoryStore(StoreContract):
    def opened(self, directory: Path, *, history: int) -> AbstractAsyncContextManager[Store]:
        return opened(history)


@asynccontextmanager
async def opened(history: int) -> AsyncIterator[Store]:
    store = MemoryStore(history=history)
    try:
        yield store
    finally:
        await store.close()
