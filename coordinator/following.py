"""A verification as it is, then again after each change: from the store's own watch, whichever process changed it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from coordinator.problems import UnknownVerificationError
from coordinator.records import Held, load, verification_key
from coordinator.store.errors import CompactedError
from coordinator.store.port import EventKind, Store
from poolproof.ids import VerificationId
from poolproof.wire import from_record


async def follow(store: Store, verification: VerificationId) -> AsyncGenerator[Held, None]:
    """Each state of a verification from now on; ends after one that is not open.

    A follower that is too slow for the store's history goes on with the latest state.

    Raises:
        UnknownVerificationError: there is none.
    """
    shown = 0
    while True:
        held = await load(store, verification)
        if held is None:
            raise UnknownVerificationError(verification)
        if held.revision > shown:
            shown = held.revision
            yield held
        if not held.verification.state.is_open:
            return
        try:
            # Closed here and now, also when the reader leaves: left to the collector it would be closed twice at once.
            async with aclosing(changes(store, verification, shown + 1)) as changed:
                async for held in changed:
                    shown = held.revision
                    yield held
                    if not held.verification.state.is_open:
                        return
        except CompactedError:
            continue


async def changes(store: Store, verification: VerificationId, from_revision: int) -> AsyncGenerator[Held, None]:
    """Every state saved from a revision on, without end."""
    key = verification_key(verification)
    async with aclosing(store.watch(key, from_revision=from_revision)) as watch:
        async for event in watch:
            if event.key == key and event.kind is EventKind.PUT:
                yield Held(from_record(event.value), event.mod_revision)
