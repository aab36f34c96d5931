"""What callers give to `VerificationService`: page tokens, filters, ids, idempotency keys."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from functools import cache
from typing import Any, cast

from google.protobuf.message import DecodeError

from coordinator.problems import CoordinatorError
from coordinator.records import change, creation
from coordinator.service import MAX_PAGE_SIZE, Verifications
from coordinator.store.errors import InvalidRequestError
from coordinator.store.memory import MemoryStore
from coordinator.store.port import Transaction
from poolproof.ids import VerificationId
from poolproof.policy import POLICIES
from poolproof.target import Target
from poolproof.v1 import verification_pb2 as pb
from poolproof.wire import WireError, create_request_from_wire
from tests.fuzz.harness import Harness
from tests.fuzz.messages import Words, message
from tests.fuzz.splitter import Splitter
from tests.kernel.fleets import challenged

_LOOP = asyncio.new_event_loop()
_NAMES = ("verify1", "verify2", "verify3")
_OF_OURS = re.compile(r"[0-9a-z]{1,64}")


@cache
def _service() -> Verifications:
    store = MemoryStore()

    async def fill() -> None:
        for number, name in enumerate(_NAMES):
            made = replace(challenged(), id=VerificationId(name), requested_at_ns=1_794_000_000_000_000_000 + number)
            compares, listed = creation(made)
            puts, _ = change(None, made)
            await store.commit(Transaction(compares, (*puts, *listed)))

    _LOOP.run_until_complete(fill())
    nothing = cast(Any, None)
    return Verifications(nothing, store, nothing, nothing, nothing, POLICIES, nothing, nothing, bytes(32), nothing)


def _listed(data: bytes) -> str:
    """Any page token leads to a page or to a refusal; following tokens shows each verification once, newest first."""
    split = Splitter(data)
    first = _LOOP.run_until_complete(_service()._list(pb.ListVerificationsRequest(page_size=1)))
    good = first.next_page_token
    at = split.below(len(good))
    tokens = (
        good,
        good[:at],
        good[:at] + split.text(8) + good[at:],
        "newest/",
        split.text(40),
        "verification/verify1",
        "",
    )
    words = Words({"page_token": tokens, "page_size": (0, 1, 2, 500, 501), "applicant": ("ann", ""), "states": (2, 3)})
    try:
        request = message(pb.ListVerificationsRequest, split, words)
    except DecodeError:
        return "no message"
    shown: list[str] = []
    for _ in range(len(_NAMES) + 2):
        try:
            page = _LOOP.run_until_complete(_service()._list(request))
        except (WireError, InvalidRequestError, CoordinatorError) as error:
            assert not shown, f"a token of our own is refused: {error}"
            return "refused"
        assert len(page.verifications) <= (request.page_size or MAX_PAGE_SIZE)
        shown += [each.id for each in page.verifications]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    else:
        raise AssertionError("the pages never end")
    assert shown == sorted(set(shown), reverse=True)
    assert set(shown) <= set(_NAMES)
    return "listed" if shown else "nothing"


def _keyed(data: bytes) -> str:
    """The same request with the same key is the same verification; another request never is."""
    split = Splitter(data)
    target = Target("203.0.113.7")
    texts = ("a", "b", "a\0b", "b\0a", "", "ann", "203.0.113.7", "block")
    words = Words({"applicant": texts, "target": texts, "idempotency_key": texts, "method": (1,), "variant": (1, 2)})
    try:
        one, other = (create_request_from_wire(message(pb.CreateVerificationRequest, split, words)) for _ in range(2))
    except (DecodeError, WireError):
        return "refused"
    if not one.idempotency_key or not other.idempotency_key:
        return "no key"
    ids = [_service()._id(wanted, target) for wanted in (one, one, other)]
    assert all(_OF_OURS.fullmatch(each) for each in ids)
    assert ids[0] == ids[1]
    assert (ids[0] == ids[2]) == (one == other), "two requests share a verification"
    return "same" if one == other else "different"


HARNESSES = (
    Harness(
        "page-token",
        "coordinator.service, records: lists and their page tokens",
        _listed,
        frozenset({"refused", "listed", "nothing"}),
    ),
    Harness(
        "idempotency",
        "coordinator.service: ids from idempotency keys",
        _keyed,
        frozenset({"refused", "no key", "same", "different"}),
    ),
)
