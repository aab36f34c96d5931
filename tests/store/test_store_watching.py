"""Batches of history hold whole revisions and bounded memory."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from coordinator.store.port import MAX_OPERATIONS
from coordinator.store.watching import BATCH_BYTES, BATCH_EVENTS, Batch, Change, batch_of

VALUE = b"v" * (BATCH_BYTES // 100)


def history(keys_per_revision: list[int], value: bytes) -> list[Change]:
    return [
        Change(revision, f"k/{key}", value)
        for revision, keys in enumerate(keys_per_revision, start=2)
        for key in range(keys)
    ]


@given(
    keys_per_revision=st.lists(st.integers(0, MAX_OPERATIONS), max_size=12),
    value=st.sampled_from((b"", VALUE)),
)
def test_batches_join_up_to_all_of_history_at_revisions(keys_per_revision: list[int], value: bytes) -> None:
    changes = history(keys_per_revision, value)
    newest = len(keys_per_revision) + 1
    batches: list[Batch] = []
    start = 2
    while start <= newest:
        batch = batch_of((change for change in changes if change.revision >= start), newest)
        assert batch.next_revision > start
        assert all(start <= event.mod_revision < batch.next_revision for event in batch.events)
        batches.append(batch)
        start = batch.next_revision
    events = [event for batch in batches for event in batch.events]
    assert [(event.mod_revision, event.key) for event in events] == [(c.revision, c.key) for c in changes]
    for event, following in pairwise(events):
        assert event.resume_revision == event.mod_revision + (following.mod_revision != event.mod_revision)
    for batch in batches:
        assert len(batch.events) < BATCH_EVENTS + MAX_OPERATIONS
        assert sum(len(event.value) for event in batch.events) < BATCH_BYTES + MAX_OPERATIONS * len(VALUE)


def test_a_batch_reads_no_further_than_it_needs() -> None:
    changes = iter(history([1] * 2_000, b""))
    batch = batch_of(changes, 2_001)
    assert len(batch.events) == BATCH_EVENTS
    assert len(list(changes)) == 2_000 - BATCH_EVENTS - 1
