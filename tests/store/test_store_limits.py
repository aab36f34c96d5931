"""Limits and keys are checked where a transaction is built, so no adapter can be more generous than etcd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.store.errors import InvalidRequestError, TransactionTooLargeError, ValueTooLargeError
from coordinator.store.port import (
    MAX_KEY_BYTES,
    MAX_OPERATIONS,
    MAX_VALUE_BYTES,
    Compare,
    Put,
    Transaction,
    check_key,
    check_prefix,
    prefix_end,
)

ETCD_MAX_REQUEST_BYTES = 1_572_864
ETCD_MAX_TXN_OPS = 128

valid_keys = st.from_regex(r"[!-.0-~]{1,6}(/[!-.0-~]{1,6}){0,3}", fullmatch=True)


def varint(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))


def field(payload: int) -> int:
    """Bytes of a length-delimited protobuf field with a one-byte tag."""
    return 1 + varint(payload) + payload


def etcd_request_bytes(transaction: Transaction) -> int:
    """A TxnRequest in etcd's protobuf: compares, success operations, and a read of each compared key on failure."""
    size = 0
    for compare in transaction.compares:
        key = field(len(compare.key))
        size += field(2 + 2 + key + 1 + varint(compare.mod_revision)) + field(field(key))
    for put in transaction.puts:
        size += field(field(field(len(put.key)) + field(len(put.value))))
    for gone in transaction.deletes:
        size += field(field(field(len(gone))))
    return size


@given(
    compares=st.dictionaries(valid_keys, st.integers(0, (1 << 56) - 1), max_size=8),
    writes=st.dictionaries(valid_keys, st.one_of(st.none(), st.integers(0, 300_000)), min_size=1, max_size=8),
)
def test_what_a_transaction_may_hold_fits_an_etcd_request(
    compares: dict[str, int], writes: dict[str, int | None]
) -> None:
    try:
        transaction = Transaction(
            tuple(Compare(key, revision) for key, revision in compares.items()),
            tuple(Put(key, bytes(size)) for key, size in writes.items() if size is not None),
            tuple(key for key, size in writes.items() if size is None),
        )
    except TransactionTooLargeError:
        assert sum(size or 0 for size in writes.values()) > 1_490_000
        return
    assert etcd_request_bytes(transaction) <= transaction.size_bytes <= ETCD_MAX_REQUEST_BYTES


def test_too_many_operations_are_refused() -> None:
    assert MAX_OPERATIONS == ETCD_MAX_TXN_OPS
    keys = [f"k/{number}" for number in range(MAX_OPERATIONS + 1)]
    Transaction(tuple(Compare(key, 0) for key in keys[1:]), tuple(Put(key, b"") for key in keys[1:]))
    with pytest.raises(TransactionTooLargeError, match="129 compares, at most 128 are taken; split it"):
        Transaction(tuple(Compare(key, 0) for key in keys))
    with pytest.raises(TransactionTooLargeError, match="129 puts and deletes"):
        Transaction(puts=tuple(Put(key, b"") for key in keys[1:]), deletes=(keys[0],))


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(ValueTooLargeError, match=r"put k: the value has 1400001 bytes, at most 1400000.*split"):
        Put("k", bytes(MAX_VALUE_BYTES + 1))
    with pytest.raises(TransactionTooLargeError, match="1600130 bytes, at most 1500000"):
        Transaction(puts=(Put("a", bytes(800_000)), Put("b", bytes(800_000))))


def test_a_value_that_is_no_bytes_is_refused_before_it_reaches_a_file() -> None:
    with pytest.raises(TypeError, match="put k: the value is str, give bytes"):
        Put("k", "text")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("transaction", "complaint"),
    [
        (lambda: Transaction(), "neither compares nor writes"),
        (lambda: Transaction(puts=(Put("k", b""),), deletes=("k",)), "key k stands twice in its puts and deletes"),
        (lambda: Transaction((Compare("k", 0), Compare("k", 1))), "key k stands twice in its compares"),
        (lambda: Transaction(deletes=("",)), "key ''"),
        (lambda: Compare("k", -1), "compare k: mod_revision -1"),
        (lambda: Put("a/", b""), "key 'a/'"),
    ],
)
def test_contradictions_are_refused(transaction: object, complaint: str) -> None:
    assert callable(transaction)
    with pytest.raises(InvalidRequestError, match=complaint):
        transaction()


@pytest.mark.parametrize("key", ["", "/", "/a", "a/", "a//b", "a b", "a\n", "ä", "a\x00", "\ud800", "k" * 513])
def test_malformed_keys_are_refused(key: str) -> None:
    with pytest.raises(InvalidRequestError, match="parts separated by single slashes"):
        check_key(key)


@given(valid_keys, valid_keys)
def test_a_prefix_and_its_end_enclose_exactly_the_keys_that_start_with_it(key: str, other: str) -> None:
    check_key(key)
    for length in range(len(key) + 1):
        prefix = key[:length]
        check_prefix(prefix)
        for candidate in (key, other):
            assert (prefix <= candidate < prefix_end(prefix)) == candidate.startswith(prefix)


def test_the_longest_key_is_taken() -> None:
    check_key("k" * MAX_KEY_BYTES)
