"""The wire says exactly what the kernel said, and takes nothing from outside that the kernel could not have said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolproof import wire
from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault, Reply
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import MAX_STEPS, ClockCheck, Job, Report, Step
from poolproof.target import Family, Target
from poolproof.v1 import agent_pb2, evidence_pb2
from tests.kernel import wire_strategies as some

WHEN = 1_794_000_000_000_000_000
EXCHANGE = Exchange(
    ExchangeKind.CLIENT_V4,
    bytes(48),
    "192.0.2.1",
    "192.0.2.7",
    123,
    WHEN,
    1_500_000_000,
    replies=(Reply(bytes(48), WHEN + 1),),
    icmp=(IcmpError(3, 13, "192.0.2.9", bytes(48), WHEN + 2),),
)
JOB = Job(
    JobId("j1"),
    VerificationId("v1"),
    VantageId("mon-1"),
    Target("192.0.2.7"),
    "192.0.2.1",
    WHEN,
    (Step(ExchangeKind.CLIENT_V4, 0), Step(ExchangeKind.CLIENT_V4, 8_000_000_000)),
    1_500_000_000,
    2_000_000_000,
)
REPORT = Report(JobId("j1"), VantageId("mon-1"), (EXCHANGE,), (EXCHANGE,), (EXCHANGE,), ClockCheck(-5, 3, 4))
HELLO = wire.Hello(
    VantageId("mon-1"),
    "0.1.0",
    1,
    bytes(range(16)),
    wire.Capabilities(frozenset({Family.IPV4}), False, True, True, frozenset({ExchangeKind.CLIENT_V4}), 4),
    (JobId("j0"),),
)
WELCOME = wire.Welcome("s1", 5_000_000_000, 1, WHEN)


class Codec(NamedTuple):
    message: type[Message]
    to_wire: Callable[[Any], Message]
    from_wire: Callable[[Any], Any]
    values: st.SearchStrategy[Any]
    example: Any


CODECS = {
    "target": Codec(
        evidence_pb2.Target, wire.target_to_wire, wire.target_from_wire, some.targets, Target("2001:db8::7", 1)
    ),
    "job": Codec(evidence_pb2.Job, wire.job_to_wire, wire.job_from_wire, some.jobs(), JOB),
    "exchange": Codec(
        evidence_pb2.Exchange, wire.exchange_to_wire, wire.exchange_from_wire, some.exchanges(), EXCHANGE
    ),
    "clock": Codec(
        evidence_pb2.ClockCheck, wire.clock_to_wire, wire.clock_from_wire, some.clocks, ClockCheck(-1, 2, 3)
    ),
    "report": Codec(evidence_pb2.Report, wire.report_to_wire, wire.report_from_wire, some.reports, REPORT),
    "hello": Codec(agent_pb2.Hello, wire.hello_to_wire, wire.hello_from_wire, some.hellos, HELLO),
    "welcome": Codec(agent_pb2.Welcome, wire.welcome_to_wire, wire.welcome_from_wire, some.welcomes, WELCOME),
    "lease": Codec(
        agent_pb2.Lease,
        wire.lease_to_wire,
        wire.lease_from_wire,
        st.lists(some.jobs(), min_size=1, max_size=3).map(tuple),
        (JOB,),
    ),
}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())


@every_codec
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_sent_is_what_arrives(codec: Codec, data: st.DataObject) -> None:
    value = data.draw(codec.values)
    assert codec.from_wire(codec.message.FromString(codec.to_wire(value).SerializeToString())) == value


@every_codec
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_message_is_taken_whole_or_refused_by_name(codec: Codec, data: st.DataObject) -> None:
    message = data.draw(some.messages(codec.message))
    try:
        value = codec.from_wire(message)
    except wire.WireError as error:
        assert error.field in str(error)
        assert len(str(error)) < 600
    else:
        assert codec.from_wire(codec.to_wire(value)) == value


@every_codec
@settings(max_examples=150)
@given(data=st.data())
def test_arbitrary_bytes_raise_nothing_else(codec: Codec, data: st.DataObject) -> None:
    valid = codec.to_wire(codec.example).SerializeToString()
    cut = data.draw(st.integers(0, len(valid)))
    spoiled = valid[:cut] + data.draw(st.binary(max_size=8)) + valid[data.draw(st.integers(cut, len(valid))) :]
    for octets in (spoiled, data.draw(st.binary(max_size=64))):
        try:
            value = codec.from_wire(codec.message.FromString(octets))
        except (DecodeError, wire.WireError):
            continue
        assert codec.from_wire(codec.to_wire(value)) == value


def _with(codec: str, **changes: object) -> Message:
    """The example's message, changed; `a__b=x` goes into a sub-message, `steps_0__b=x` into a list's entry."""
    message = CODECS[codec].to_wire(CODECS[codec].example)
    for path, value in changes.items():
        *owners, name = path.split("__")
        owner: Any = message
        for step in owners:
            head, _, index = step.rpartition("_")
            owner = getattr(owner, head)[int(index)] if index.isdigit() else getattr(owner, step)
        if value is None:
            owner.ClearField(name)
        elif isinstance(value, list):
            owner.ClearField(name)
            getattr(owner, name).extend(value)
        else:
            setattr(owner, name, value)
    return message


REPLY = evidence_pb2.Reply(payload=b"x", received_at_ns=1)
STEP = evidence_pb2.Step(kind=evidence_pb2.EXCHANGE_KIND_CLIENT_V4)
REFUSED: list[tuple[str, str, dict[str, object]]] = [
    ("target", "target.address", {"address": ""}),
    ("target", "target.address", {"address": "2001:DB8::7"}),
    ("target", "target.address", {"address": "::ffff:192.0.2.7"}),
    ("target", "target.address", {"address": "fe80::1%eth0"}),
    ("target", "target.port", {"port": 0}),
    ("target", "target.port", {"port": 65_536}),
    ("job", "job.id", {"id": ""}),
    ("job", "job.id", {"id": "a b"}),
    ("job", "job.id", {"id": "x" * 257}),
    ("job", "job.verification_id", {"verification_id": None}),
    ("job", "job.vantage_id", {"vantage_id": None}),
    ("job", "job.target", {"target": None}),
    ("job", "job.target.port", {"target__port": 0}),
    ("job", "job.source", {"source": "2001:db8::1"}),
    ("job", "job.source", {"source": "192.0.2.0/24"}),
    ("job", "job.source", {"target__address": "2001:db8::7", "source": "2001:db8::1/64"}),
    ("job", "job.source", {"target__address": "2001:db8::7", "source": "2001:db8::/113"}),
    ("job", "job.start_at_ns", {"start_at_ns": 0}),
    ("job", "job.start_at_ns", {"start_at_ns": 1 << 63}),
    ("job", "job.steps", {"steps": []}),
    ("job", "job.steps", {"steps": [STEP] * (MAX_STEPS + 1)}),
    ("job", "job.steps[0].kind", {"steps_0__kind": 0}),
    ("job", "job.steps[0].kind", {"steps_0__kind": 99}),
    ("job", "job.steps[1].offset_ns", {"steps_0__offset_ns": 9_000_000_000}),
    ("job", "job.steps[1].offset_ns", {"steps_1__offset_ns": 3_600_000_000_001}),
    ("job", "job.steps[1].source_slot", {"steps_1__source_slot": 65_536}),
    ("job", "job.timeout_ns", {"timeout_ns": 0}),
    ("job", "job.timeout_ns", {"timeout_ns": 60_000_000_001}),
    ("job", "job.linger_ns", {"linger_ns": 60_000_000_001}),
    ("job", "job.traceparent", {"traceparent": "00-xyz"}),
    ("exchange", "exchange.kind", {"kind": 0}),
    ("exchange", "exchange.request", {"request": b""}),
    ("exchange", "exchange.request", {"request": bytes(2049)}),
    ("exchange", "exchange.source", {"source": ""}),
    ("exchange", "exchange.destination", {"destination": "2001:db8::/64"}),
    ("exchange", "exchange.port", {"port": 0}),
    ("exchange", "exchange.sent_at_ns", {"sent_at_ns": 0}),
    ("exchange", "exchange.timeout_ns", {"timeout_ns": 0}),
    ("exchange", "exchange.replies", {"replies": [REPLY] * 65}),
    ("exchange", "exchange.replies[0].payload", {"replies_0__payload": bytes(2049)}),
    ("exchange", "exchange.replies[0].received_at_ns", {"replies_0__received_at_ns": 0}),
    ("exchange", "exchange.icmp[0].type", {"icmp_0__type": 256}),
    ("exchange", "exchange.icmp[0].code", {"icmp_0__code": 256}),
    ("exchange", "exchange.icmp[0].offender", {"icmp_0__offender": "fe80::1%eth0"}),
    ("exchange", "exchange.icmp[0].quoted", {"icmp_0__quoted": bytes(2049)}),
    ("exchange", "exchange.icmp[0].received_at_ns", {"icmp_0__received_at_ns": 0}),
    ("exchange", "exchange.fault", {"fault": 0}),
    ("exchange", "exchange.fault", {"fault": 99}),
    ("exchange", "exchange.fault_detail", {"fault_detail": "x" * 1025}),
    ("clock", "clock.error_ns", {"error_ns": 1 << 63}),
    ("report", "report.job_id", {"job_id": None}),
    ("report", "report.vantage_id", {"vantage_id": None}),
    ("report", "report.clock", {"clock": None}),
    ("report", "report.exchanges", {"exchanges": []}),
    ("report", "report.control_before[0].port", {"control_before_0__port": 0}),
    ("report", "report.control_after[0].port", {"control_after_0__port": 0}),
    ("hello", "hello.vantage_id", {"vantage_id": ""}),
    ("hello", "hello.agent_version", {"agent_version": ""}),
    ("hello", "hello.protocol_version", {"protocol_version": 0}),
    ("hello", "hello.session_nonce", {"session_nonce": bytes(15)}),
    ("hello", "hello.capabilities", {"capabilities": None}),
    ("hello", "hello.capabilities.families", {"capabilities__families": []}),
    ("hello", "hello.capabilities.families", {"capabilities__families": [0]}),
    ("hello", "hello.capabilities.kinds", {"capabilities__kinds": []}),
    ("hello", "hello.capabilities.kinds[0]", {"capabilities__kinds": [0]}),
    ("hello", "hello.capabilities.capacity", {"capabilities__capacity": 0}),
    ("hello", "hello.held_job_ids[0]", {"held_job_ids": [""]}),
    ("welcome", "welcome.session_id", {"session_id": ""}),
    ("welcome", "welcome.heartbeat_interval_ns", {"heartbeat_interval_ns": 0}),
    ("welcome", "welcome.protocol_version", {"protocol_version": 2}),
    ("welcome", "welcome.server_time_ns", {"server_time_ns": 0}),
    ("lease", "lease.jobs", {"jobs": []}),
    ("lease", "lease.jobs[0].id", {"jobs_0__id": ""}),
]


@pytest.mark.parametrize(
    ("codec", "field", "changes"), REFUSED, ids=lambda value: value if isinstance(value, str) else str(value)[:40]
)
def test_a_bad_field_is_refused_by_its_name(codec: str, field: str, changes: dict[str, object]) -> None:
    with pytest.raises(wire.WireError) as caught:
        CODECS[codec].from_wire(_with(codec, **changes))
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_a_fault_before_the_packet_was_made_needs_no_request() -> None:
    unsent = replace(
        EXCHANGE, request=b"", fault=LocalFault.MISSED_START, replies=(), icmp=(), source="2001:db8:7::/64"
    )
    assert wire.exchange_from_wire(wire.exchange_to_wire(unsent)) == unsent


def test_a_newer_probe_may_know_kinds_that_we_do_not() -> None:
    message = wire.hello_to_wire(HELLO)
    message.capabilities.kinds.append(4711)  # type: ignore[arg-type]
    assert wire.hello_from_wire(message) == HELLO


def test_a_probe_of_which_we_know_no_kind_is_refused_because_it_can_do_nothing_for_us() -> None:
    message = wire.hello_to_wire(HELLO)
    message.capabilities.ClearField("kinds")
    message.capabilities.kinds.append(4711)  # type: ignore[arg-type]
    with pytest.raises(wire.WireError, match=r"hello.capabilities.kinds: \[4711\]"):
        wire.hello_from_wire(message)
