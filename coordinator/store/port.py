"""The store port: a key-value space with one global revision, as etcd has it.

Every change belongs to a revision. Revisions count up by one per transaction that changed something, over the
whole store; an empty store is at revision 1. A record carries the revision that wrote it (`mod_revision`), which is
what compare-and-save compares and what a watch resumes from.

Limits are checked when a `Transaction` is built, so they are the same in every adapter: what the embedded store takes,
etcd takes as well.

To load a prefix and follow it without a gap, take `revision` of the *first* page, read on with `after`, then watch
from `revision + 1`; an event that is not newer than the `mod_revision` already held says nothing new.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from coordinator.store.errors import InvalidRequestError, TransactionTooLargeError, ValueTooLargeError

MAX_KEY_BYTES = 512
MAX_VALUE_BYTES = 1_400_000
"""Leaves room in a request for keys and compares."""
MAX_OPERATIONS = 128
"""etcd's `--max-txn-ops`; it counts compares and writes apart."""
MAX_TRANSACTION_BYTES = 1_500_000
"""Just under etcd's `--max-request-bytes` (1.5 MiB)."""
MAX_PAGE_ENTRIES = 1_000
MAX_REVISION = (1 << 56) - 1

_OPERATION_OVERHEAD_BYTES = 64
"""More than protobuf's tags, lengths and revisions take per operation of an etcd request."""
_KEY = re.compile(r"[!-.0-~]+(?:/[!-.0-~]+)*")
_PREFIX = re.compile(r"(?:[!-.0-~]+/)*[!-.0-~]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it stands.

    Attributes:
        key: '/'-separated text, like `verification/<id>`.
        value: the record's bytes.
        mod_revision: the revision that wrote this value.
        create_revision: the revision that created the key; a deleted and re-created key has a new one.
    """

    key: str
    value: bytes
    mod_revision: int
    create_revision: int


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a prefix, in key order, from one snapshot.

    Attributes:
        entries: at most `limit`; may be fewer although more follow, because pages are bounded in bytes too.
        more: whether to ask again with `after` set to the last key.
        revision: the store's revision in this snapshot.
    """

    entries: tuple[Entry, ...]
    more: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction.

    Attributes:
        key: the key to look at.
        mod_revision: what its `mod_revision` must be; 0: the key must not exist.
    """

    key: str
    mod_revision: int

    def __post_init__(self) -> None:
        check_key(self.key)
        if not 0 <= self.mod_revision <= MAX_REVISION:
            raise InvalidRequestError(
                f"compare {self.key}: mod_revision {self.mod_revision}: give one that was read, or 0 for an absent key"
            )


@dataclass(frozen=True, slots=True)
class Put:
    """A write of a transaction: the key gets the value, whether it existed or not."""

    key: str
    value: bytes

    def __post_init__(self) -> None:
        check_key(self.key)
        if not isinstance(self.value, bytes):
            raise TypeError(f"put {self.key}: the value is {type(self.value).__name__}, give bytes")
        if len(self.value) > MAX_VALUE_BYTES:
            raise ValueTooLargeError(
                f"put {self.key}: the value has {len(self.value)} bytes, at most {MAX_VALUE_BYTES} are taken; "
                "split it over several keys"
            )


@dataclass(frozen=True, slots=True)
class Transaction:
    """Changes that happen together or not at all.

    Attributes:
        compares: conditions; all must hold. No key twice.
        puts: what to write.
        deletes: keys to remove; one that does not exist is no error. No key twice in `puts` and `deletes` together.

    Raises:
        TransactionTooLargeError: too many operations or bytes.
        InvalidRequestError: nothing to do, or a duplicate or malformed key.
    """

    compares: tuple[Compare, ...] = ()
    puts: tuple[Put, ...] = ()
    deletes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in self.deletes:
            check_key(key)
        writes = len(self.puts) + len(self.deletes)
        if not self.compares and not writes:
            raise InvalidRequestError("transaction: it has neither compares nor writes; give at least one")
        for name, count in (("compares", len(self.compares)), ("puts and deletes", writes)):
            if count > MAX_OPERATIONS:
                raise TransactionTooLargeError(
                    f"transaction: {count} {name}, at most {MAX_OPERATIONS} are taken; split it"
                )
        _refuse_duplicates("compares", [compare.key for compare in self.compares])
        _refuse_duplicates("puts and deletes", [put.key for put in self.puts] + list(self.deletes))
        if self.size_bytes > MAX_TRANSACTION_BYTES:
            raise TransactionTooLargeError(
                f"transaction: {self.size_bytes} bytes, at most {MAX_TRANSACTION_BYTES} are taken; split it"
            )

    @property
    def size_bytes(self) -> int:
        """An upper bound of what the request takes on etcd's wire; a compare also asks for what stands there."""
        return (
            sum(2 * (_OPERATION_OVERHEAD_BYTES + len(compare.key)) for compare in self.compares)
            + sum(_OPERATION_OVERHEAD_BYTES + len(put.key) + len(put.value) for put in self.puts)
            + sum(_OPERATION_OVERHEAD_BYTES + len(key) for key in self.deletes)
        )


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction took effect and is durable.

    Attributes:
        revision: the `mod_revision` of everything it wrote; the store's revision if it changed nothing.
    """

    revision: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A compare did not hold; nothing was changed.

    Attributes:
        key: the first compare that failed.
        actual_mod_revision: what stands there; 0: the key does not exist.
    """

    key: str
    actual_mod_revision: int


CommitResult = Committed | Conflict


class EventKind(Enum):
    """What happened to a key."""

    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Event:
    """One change that a watch saw.

    Attributes:
        kind: put or delete.
        key: which key.
        value: what was put; empty for a delete.
        mod_revision: the revision of the change.
        resume_revision: a watch from here continues after this event and loses nothing. Inside a transaction of
            several keys it points to the transaction itself, whose events then come again.
    """

    kind: EventKind
    key: str
    value: bytes
    mod_revision: int
    resume_revision: int


class Watch(Protocol):
    """The changes under a prefix, in revision order, for one consumer at a time.

    A cancelled `__anext__` loses nothing: ask again. Close it with `contextlib.aclosing`.

    Raises (from `__anext__`):
        CompactedError: the consumer fell behind the history that is kept.
        StoreUnavailableError: the store failed or was closed. A watch never just goes quiet.
    """

    def __aiter__(self) -> Watch: ...

    async def __anext__(self) -> Event: ...

    async def aclose(self) -> None:
        """Lets go of the watch; `__anext__` raises StopAsyncIteration from now on."""
        ...


class Store(Protocol):
    """What the coordinator asks of its store. All methods belong to one event loop and never block it.

    Raises (from all):
        StoreUnavailableError: the store cannot serve this now.
        InvalidRequestError: an argument that no adapter takes.
    """

    async def get(self, key: str) -> Entry | None:
        """The record at a key, at least as new as every commit that was acknowledged before the call."""
        ...

    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_PAGE_ENTRIES) -> Page:
        """Records whose key starts with `prefix`, in key order.

        Args:
            prefix: plain text prefix: `job/1` matches `job/10` too, so end it with '/'. Empty: everything.
            after: only keys greater than this one.
            limit: 1..MAX_PAGE_ENTRIES.
        """
        ...

    async def commit(self, transaction: Transaction) -> CommitResult:
        """Applies a transaction, all or nothing, and returns once it is durable.

        A cancelled call may still take effect, like one that raises StoreUnavailableError.
        """
        ...

    def watch(self, prefix: str, *, from_revision: int) -> Watch:
        """Every change under `prefix` from `from_revision` (1..MAX_REVISION, may lie ahead) on, without end.

        History is bounded: a watcher slows no writer and takes no memory for what it has not fetched; one that falls
        too far behind gets CompactedError.
        """
        ...

    async def close(self) -> None:
        """Finishes what was handed in, fails the watches with StoreClosedError, frees everything. May be repeated."""
        ...


async def pages(store: Store, prefix: str, *, limit: int = MAX_PAGE_ENTRIES) -> AsyncIterator[Page]:
    """All pages of a prefix; at least one. Watch from the first one's `revision + 1`."""
    page = await store.scan(prefix, limit=limit)
    yield page
    while page.more:
        page = await store.scan(prefix, after=page.entries[-1].key, limit=limit)
        yield page


def check_key(key: str) -> None:
    """Raises InvalidRequestError unless `key` is one or more '/'-separated parts of visible ASCII."""
    if len(key) > MAX_KEY_BYTES or not _KEY.fullmatch(key):
        raise InvalidRequestError(
            f"key {key[:80]!r} ({len(key)} characters): give at most {MAX_KEY_BYTES} characters of visible ASCII, "
            "parts separated by single slashes, like verification/3f2a"
        )


def check_scan(prefix: str, after: str, limit: int) -> None:
    """Raises InvalidRequestError unless these are arguments for `Store.scan`."""
    check_prefix(prefix)
    if after:
        check_key(after)
    if not 1 <= limit <= MAX_PAGE_ENTRIES:
        raise InvalidRequestError(f"scan {prefix!r}: limit {limit}: give 1 to {MAX_PAGE_ENTRIES}")


def check_watch(prefix: str, from_revision: int) -> None:
    """Raises InvalidRequestError unless these are arguments for `Store.watch`."""
    check_prefix(prefix)
    if not 1 <= from_revision <= MAX_REVISION:
        raise InvalidRequestError(
            f"watch {prefix!r}: from_revision {from_revision}: give the revision of a page + 1, "
            "or resume_revision of an event"
        )


def check_prefix(prefix: str) -> None:
    """Raises InvalidRequestError unless a key could start with `prefix`."""
    if len(prefix) > MAX_KEY_BYTES or not _PREFIX.fullmatch(prefix):
        raise InvalidRequestError(f"prefix {prefix[:80]!r}: no key starts like that; give something like verification/")


def prefix_end(prefix: str) -> str:
    """The least text greater than every key that starts with `prefix` (keys hold nothing above '~')."""
    return prefix + "\x7f"


def _refuse_duplicates(where: str, keys: list[str]) -> None:
    if len(set(keys)) != len(keys):
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise InvalidRequestError(f"transaction: key {twice} stands twice in its {where}; name it once")
