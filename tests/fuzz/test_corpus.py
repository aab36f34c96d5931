"""The committed corpus holds every property, without atheris; and each harness notices a decoder that is broken."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import CodeType, FrameType
from typing import Any

import pytest

import poolproof.wire
from coordinator.records import NEWEST, Listed
from poolproof.ids import VerificationId
from poolproof.v1 import evidence_pb2
from probe.packets import Datagram
from tests.fuzz.distil import MOST_FILES, ROOT, distilled, marks_of
from tests.fuzz.harness import MAX_BYTES
from tests.fuzz.harnesses import CORPUS, HARNESSES, committed
from tests.fuzz.splitter import Splitter


@pytest.mark.parametrize("name", HARNESSES)
def test_every_property_holds_for_the_corpus(name: str) -> None:
    files = committed(name)
    assert 0 < len(files) <= MOST_FILES
    ends = Counter[str]()
    for path in files:
        data = path.read_bytes()
        assert len(data) <= MAX_BYTES
        assert path.name == hashlib.sha256(data).hexdigest()[:16], f"{path}: not written by tests.fuzz.distil"
        ends[HARNESSES[name].check(data)] += 1
    assert HARNESSES[name].ends <= set(ends), f"the corpus of {name} shows only {dict(ends)}"


def test_there_is_a_corpus_for_each_harness_and_no_other() -> None:
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(HARNESSES)


def _entered(run: Callable[[], object]) -> set[CodeType]:
    entered: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            entered.add(frame.f_code)

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return entered


def _decoders() -> Iterator[Callable[..., Any]]:
    """All functions of `poolproof.wire` that read what came from outside."""
    for found in iter_modules(poolproof.wire.__path__, "poolproof.wire."):
        module = import_module(found.name)
        for name, member in inspect.getmembers(module, inspect.isfunction):
            if member.__module__ == found.name and ("from_" in name):
                yield member


def test_no_decoder_of_the_wire_is_left_out() -> None:
    def replay() -> None:
        for name, harness in HARNESSES.items():
            if name.startswith("wire-") or "speaks" in name:
                for path in committed(name):
                    harness.check(path.read_bytes())

    decoders = {each.__code__: each.__qualname__ for each in _decoders()}
    assert len(decoders) > 30
    entered = _entered(replay)
    missed = sorted(name for code, name in decoders.items() if code not in entered)
    assert missed == [], "give each a harness in tests/fuzz"


def _always(value: object) -> Callable[..., object]:
    return lambda *_args, **_kwargs: value


async def _endless(*_: object) -> Listed:
    """A list that always says that there is more."""
    return Listed((VerificationId("verify1"),), (f"{NEWEST}1/verify1",), True)


BROKEN: list[tuple[str, str, Callable[..., object]]] = [
    ("ntp", "tests.fuzz.ntp_packets.encode", _always(bytes(48))),
    ("classify", "poolproof.classify._echoes", _always(True)),
    ("classify", "poolproof.classify._quotes", _always(True)),
    ("clock", "tests.fuzz.ntp_packets.clock_from_wire", _always(None)),
    ("responder", "tests.fuzz.ntp_packets.reply_to", _always(bytes(400))),
    ("errqueue", "probe.errqueue._sender", _always("nobody")),
    ("datagram", "probe.sockets.stamp_of", _always(0)),
    ("listening", "probe.listening.echoes", _always(True)),
    ("batches", "probe.batches.Inbox.payload", _always(b"another's")),
    ("sweep", "probe.sweep.HEADER_BYTES", _always(0)),
    ("packet", "probe.packets._is_error", _always(True)),
    ("packet", "probe.packets._datagram", lambda ip: Datagram(ip.source, ip.source, 1, 2, b"not there")),
    ("tripwire", "probe.asked._remember", _always(None)),
    ("tripwire", "probe.asked.Asked.answered_by", _always(True)),
    ("ticket", "coordinator.tickets.Tickets._mac", lambda *_: bytes(32)),
    ("wire-job", "poolproof.wire.evidence.target_to_wire", lambda _: evidence_pb2.Target(address="192.0.2.99", port=1)),
    ("wire-report", "poolproof.wire.evidence.clock_to_wire", lambda _: evidence_pb2.ClockCheck(samples=4711)),
    ("wire-hello", "poolproof.wire.checks.EnumNames.from_wire", lambda names, _field, value: names._members[value]),
    ("wire-record", "poolproof.wire.checks.EnumNames.to_wire", _always(1)),
    ("wire-target", "poolproof.wire.checks.number", lambda _field, value, _low, _high: value),
    ("report-arrives", "poolproof.lifecycle.check", _always(None)),
    ("agent-speaks", "coordinator.session._checked", lambda _agent, report, _size: report),
    ("coordinator-speaks", "probe.session.job_from_wire", _always(None)),
    ("spans", "coordinator.trace_tree._clean", lambda text: text),
    ("page-token", "coordinator.service.newest_ids", _endless),
    ("idempotency", "tests.fuzz.calls.Verifications._id", _always("x")),
    ("target", "poolproof.target._port", lambda digits, _text: int(digits or 0)),
    ("special", "poolproof.special_purpose.RANGES", _always(())),
    ("fleet", "coordinator.fleet._refuse_duplicates", _always(None)),
    ("policy", "coordinator.policy_file._check", _always(None)),
    ("behaviour", "probe.responder._networks", lambda value: value),
]


@pytest.mark.parametrize(("name", "place", "broken"), BROKEN, ids=[f"{name}-{place}" for name, place, _ in BROKEN])
def test_a_broken_decoder_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, place: str, broken: Callable[..., object]
) -> None:
    """Otherwise the harness would find nothing because it asks nothing."""
    constant = place.rpartition(".")[2].isupper()
    monkeypatch.setattr(place, broken() if constant else broken)
    noticed = 0
    for path in committed(name):
        try:
            HARNESSES[name].check(path.read_bytes())
        except Exception:
            noticed += 1
    assert noticed


def test_every_kind_of_harness_is_broken_once() -> None:
    broken = {name for name, _, _ in BROKEN}
    assert {name for name in HARNESSES if name not in broken and not name.startswith("wire-")} == set()


def test_inputs_that_add_nothing_are_left_out_and_the_shortest_is_kept() -> None:
    def marks(*numbers: int) -> frozenset[tuple[str, int, int]]:
        return frozenset(("m", number, 0) for number in numbers)

    reached = {b"longer": marks(1, 2), b"same": marks(1, 2), b"part": marks(2), b"other": marks(3)}
    assert distilled(reached, times=1) == [b"same", b"other"]
    assert distilled(reached, times=2) == [b"same", b"other", b"longer"]
    assert distilled(reached, most=1) == [b"same"]


def test_what_an_input_reaches_is_lines_of_ours_and_its_end() -> None:
    short = marks_of(HARNESSES["ntp"].check, b"")
    long = marks_of(HARNESSES["ntp"].check, bytes(range(200)))
    assert {("short", 0, 0)} == short - {mark for mark in short if mark[0].endswith(".py")}
    assert len(long - short) > 1
    assert {Path(path).relative_to(ROOT).parts[0] for path, _, line in long if line} == {"poolproof", "tests"}


def test_the_splitter_is_total_and_takes_from_the_front() -> None:
    split = Splitter(b"\x01\x02\x03\x02ab")
    assert (split.number(2), split.left) == (0x0102, 4)
    assert (split.flag(), split.octets(9)) == (True, b"ab")
    assert (split.left, split.number(4), split.rest(), split.text(5)) == (0, 0, b"", "")
    assert Splitter(bytes((255,)) * 3).below(70_000 % 65_536) < 70_000
