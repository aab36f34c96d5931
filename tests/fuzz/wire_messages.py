"""Every message that comes over gRPC, and every record that comes from the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from poolproof.v1 import (
    agent_pb2,
    conduct_pb2,
    evidence_pb2,
    judgement_pb2,
    record_pb2,
    standing_pb2,
    trace_pb2,
    verification_pb2,
)
from poolproof.wire import (
    WireError,
    challenge_from_wire,
    challenge_to_wire,
    clock_from_wire,
    clock_to_wire,
    create_request_from_wire,
    exchange_from_wire,
    exchange_to_wire,
    from_record,
    hello_from_wire,
    hello_to_wire,
    job_from_wire,
    job_to_wire,
    lease_from_wire,
    lease_to_wire,
    report_from_stored,
    report_from_wire,
    report_to_wire,
    target_from_wire,
    target_to_wire,
    to_record,
    vantage_from_wire,
    vantage_to_wire,
    verdict_from_wire,
    verdict_to_wire,
    welcome_from_wire,
    welcome_to_wire,
)
from poolproof.wire.capture import capture_from_wire, capture_to_wire
from poolproof.wire.conduct import from_conduct_record, to_conduct_record
from poolproof.wire.standing import from_standing_record, to_standing_record
from poolproof.wire.trace import span_from_wire, span_to_wire, spans_from_record, spans_to_record
from probe.session import decode_report, encode_report
from tests.fuzz.harness import NOISE, Harness
from tests.fuzz.messages import Words, message, round_trip
from tests.fuzz.splitter import Splitter

_TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
_WHEN = 1_794_000_000_000_000_000
WORDS = Words(
    {
        "address": ("192.0.2.7", "2001:db8::7"),
        "destination": ("192.0.2.7", "2001:db8::7"),
        "offender": ("192.0.2.9",),
        "source": ("192.0.2.1", "2001:db8::1", "2001:db8:7::/64"),
        "Step.source": ("", "2001:db8:7::/64"),
        "neighbour": ("", "2001:db8:7::/64"),
        "ipv4": ("192.0.2.1",),
        "ipv6": ("2001:db8::1",),
        "ipv6_prefix": ("2001:db8:7::/64",),
        "port": (123, 65_535),
        "traceparent": (_TRACE, ""),
        "trace_id": (bytes(range(16)),),
        "span_id": (bytes(range(8)),),
        "parent_span_id": (b"", bytes(range(1, 9))),
        "session_nonce": (bytes(16),),
        "sender": ("192.0.2.7",),
        "since_ns": (_WHEN,),
        "until_ns": (_WHEN + 1, _WHEN),
        "unasked_total": (1, 2),
        "protocol_version": (1,),
        "heartbeat_interval_ns": (2_000_000_000,),
        "timeout_ns": (1_500_000_000,),
        "offset_ns": (0, 8_000_000_000, 16_000_000_000),
        "asn": (64500,),
        "start_ns": (_WHEN,),
        "end_ns": (_WHEN, _WHEN + 1),
        "expected": (1, 2),
        "asked": (8,),
        "answered": (0, 8),
        "row": (0, 1),
        "leased": (0, 1),
    }
)


def _codec(
    kind: type[Message], from_wire: Callable[[Any], Any], to_wire: Callable[[Any], Any]
) -> Callable[[bytes], str]:
    return lambda data: round_trip(lambda: message(kind, Splitter(data), WORDS), from_wire, to_wire)


def _stored(kind: type[Message], read: Callable[[bytes], Any], write: Callable[[Any], bytes]) -> Callable[[bytes], str]:
    """A record: bytes, whatever they are, are a value or a WireError; what was written is read back."""

    def check(data: bytes) -> str:
        split = Splitter(data)
        record = split.rest() if split.flag() else message_bytes(kind, split)
        try:
            value = read(record)
        except WireError as error:
            assert len(str(error)) < 1_000
            return "refused"
        written = write(value)
        assert read(written) == value
        assert write(read(written)) == written, "the same value always gives the same bytes"
        return "taken"

    return check


def message_bytes(kind: type[Message], split: Splitter) -> bytes:
    """Bytes of a message; raw ones as they are."""
    if split.below(4) == 3:
        return split.rest()
    return message(kind, Splitter(b"\0" + split.rest()), WORDS).SerializeToString()


def _journalled(data: bytes) -> str:
    """The journal's own: bytes are a report or a ValueError, as it says."""
    split = Splitter(data)
    try:
        report = decode_report(message_bytes(evidence_pb2.Report, split))
    except ValueError:
        return "refused"
    assert decode_report(encode_report(report)) == report
    return "taken"


def _asked(data: bytes) -> str:
    """What an applicant asks for is bounded in every text, or refused."""

    def to_wire(wanted: Any) -> Message:
        return verification_pb2.CreateVerificationRequest(
            target=wanted.target,
            method=judgement_pb2.Method.Value(f"METHOD_{wanted.method.name}"),
            variant=judgement_pb2.Variant.Value(f"VARIANT_{wanted.variant.name}"),
            applicant=wanted.applicant,
            idempotency_key=wanted.idempotency_key,
        )

    kind = verification_pb2.CreateVerificationRequest
    return round_trip(lambda: message(kind, Splitter(data), WORDS), create_request_from_wire, to_wire)


_TAKEN = frozenset({"taken", "refused"})
_MESSAGES: dict[str, Callable[[bytes], str]] = {
    "target": _codec(evidence_pb2.Target, target_from_wire, target_to_wire),
    "job": _codec(evidence_pb2.Job, job_from_wire, job_to_wire),
    "lease": _codec(agent_pb2.Lease, lease_from_wire, lease_to_wire),
    "exchange": _codec(evidence_pb2.Exchange, exchange_from_wire, exchange_to_wire),
    "capture": _codec(evidence_pb2.Capture, capture_from_wire, capture_to_wire),
    "report": _codec(evidence_pb2.Report, report_from_wire, report_to_wire),
    "clock-check": _codec(evidence_pb2.ClockCheck, clock_from_wire, clock_to_wire),
    "hello": _codec(agent_pb2.Hello, hello_from_wire, hello_to_wire),
    "welcome": _codec(agent_pb2.Welcome, welcome_from_wire, welcome_to_wire),
    "vantage": _codec(judgement_pb2.Vantage, vantage_from_wire, vantage_to_wire),
    "challenge": _codec(judgement_pb2.Challenge, challenge_from_wire, challenge_to_wire),
    "verdict": _codec(judgement_pb2.Verdict, verdict_from_wire, verdict_to_wire),
    "span": _codec(trace_pb2.SpanRecord, span_from_wire, span_to_wire),
    "create-request": _asked,
    "record": _stored(record_pb2.VerificationRecord, from_record, to_record),
    "standing": _stored(standing_pb2.StandingRecord, from_standing_record, to_standing_record),
    "span-batch": _stored(trace_pb2.SpanBatch, spans_from_record, spans_to_record),
    "journal-report": _journalled,
    "stored-report": _stored(evidence_pb2.Report, report_from_stored, encode_report),
    "conduct": _stored(conduct_pb2.ConductRecord, from_conduct_record, to_conduct_record),
}
_LONG_NOISE = (bytes(1), *NOISE, *(hashlib.shake_256(bytes((n,))).digest(580) for n in range(8)))
HARNESSES = tuple(
    Harness(f"wire-{name}", f"poolproof.wire: {name}, from its message and back", check, _TAKEN, _LONG_NOISE)
    for name, check in _MESSAGES.items()
)
