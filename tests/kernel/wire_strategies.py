"""Hypothesis strategies: valid kernel values for the wire, and arbitrary messages of any generated type."""

from __future__ import annotations

import ipaddress
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from poolproof.capture import MAX_UNASKED_BYTES, Capture, UnaskedKind, UnaskedPacket
from poolproof.challenge import Challenge, Expectation, Method, Observation, Path, Round, Row, Scope
from poolproof.cohort import Candidate
from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault, Reply
from poolproof.fleet import Perspective, Rir, Role, Vantage
from poolproof.ids import JobId, PolicyId, VantageId, VerificationId
from poolproof.job import ClockCheck, Job, Report, Step
from poolproof.outcome import Outcome
from poolproof.policy import Assurance
from poolproof.refusal import RefusalKind
from poolproof.target import Family, Target, canonical_address
from poolproof.variant import Variant
from poolproof.verdict import Ceiling, ControlProven, ControlRefuted, Inconclusive, Reason, Tally, Verdict
from poolproof.verification import Attempt, BaselinePath, Purpose, State, Verification
from poolproof.wire import Capabilities, Hello, Welcome

ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=256)
times = st.integers(1, (1 << 63) - 1)
ports = st.integers(1, 65_535)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).map(str).map(canonical_address).filter(lambda text: ":" in text)
addresses = ipv4 | ipv6
prefixes = st.builds(
    lambda address, length: str(ipaddress.IPv6Network((int(address), length), strict=False)),
    st.ip_addresses(v=6),
    st.integers(0, 112),
)
targets = st.builds(Target, addresses, ports)
kinds = st.sampled_from(ExchangeKind)
steps = st.builds(Step, kinds, st.integers(0, 3_600_000_000_000), st.integers(0, 65_535), st.just("") | prefixes)
traceparents = st.just("") | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True)
timeouts = st.integers(1, 60_000_000_000)
payloads = st.binary(max_size=80) | st.just(bytes(2048))


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    target = draw(targets)
    return Job(
        id=JobId(draw(ids)),
        verification=VerificationId(draw(ids)),
        vantage=VantageId(draw(ids)),
        target=target,
        source=draw(ipv4 if target.family is Family.IPV4 else ipv6 | prefixes),
        start_at_ns=draw(times),
        steps=tuple(sorted(draw(st.lists(steps, min_size=1, max_size=8)), key=lambda step: step.offset_ns)),
        timeout_ns=draw(timeouts),
        linger_ns=draw(st.integers(0, 60_000_000_000)),
        traceparent=draw(traceparents),
        watch_until_ns=draw(st.just(0) | times),
        ticket=draw(st.binary(max_size=64)),
    )


unasked = st.builds(
    UnaskedPacket, st.sampled_from(UnaskedKind), times, addresses, addresses, st.binary(max_size=MAX_UNASKED_BYTES)
)


@st.composite
def captures(draw: st.DrawFn) -> Capture:
    since, until = sorted((draw(times), draw(times)))
    shown = tuple(draw(st.lists(unasked, max_size=3)))
    total = draw(st.integers(len(shown), 1 << 62)) if shown else 0
    return Capture(since, until, shown, total, draw(st.integers(0, 1 << 62)))


replies = st.builds(Reply, payloads, times)
icmp_errors = st.builds(IcmpError, st.integers(0, 255), st.integers(0, 255), addresses, payloads, times)


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    fault = draw(st.none() | st.sampled_from(LocalFault))
    return Exchange(
        kind=draw(kinds),
        request=draw(st.binary(min_size=0 if fault else 1, max_size=80)),
        source=draw(addresses | prefixes),
        destination=draw(addresses),
        port=draw(ports),
        sent_at_ns=draw(times),
        timeout_ns=draw(timeouts),
        replies=tuple(draw(st.lists(replies, max_size=3))),
        icmp=tuple(draw(st.lists(icmp_errors, max_size=3))),
        fault=fault,
        fault_detail=draw(st.text(max_size=40)),
    )


clocks = st.builds(
    ClockCheck, st.integers(-(1 << 63) + 1, (1 << 63) - 1), st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 32) - 1)
)
_few_exchanges = st.lists(exchanges(), max_size=2).map(tuple)
reports = st.builds(
    Report,
    ids.map(JobId),
    ids.map(VantageId),
    st.lists(exchanges(), min_size=1, max_size=3).map(tuple),
    _few_exchanges,
    _few_exchanges,
    clocks,
    st.none() | captures(),
    st.binary(max_size=64),
)
capabilities = st.builds(
    Capabilities,
    families=st.frozensets(st.sampled_from(Family), min_size=1),
    ipv6_prefix=st.booleans(),
    kernel_timestamps=st.booleans(),
    icmp_errors=st.booleans(),
    kinds=st.frozensets(kinds, min_size=1),
    capacity=st.integers(1, 65_535),
    tripwire=st.booleans(),
)
hellos = st.builds(
    Hello,
    vantage=ids.map(VantageId),
    agent_version=st.text(min_size=1, max_size=64),
    protocol_version=st.integers(1, 1_000_000),
    session_nonce=st.binary(min_size=16, max_size=16),
    capabilities=capabilities,
    held_jobs=st.lists(ids.map(JobId), max_size=4).map(tuple),
    ipv4=st.none() | addresses,
    ipv6=st.none() | addresses,
    ipv6_prefix=st.none() | prefixes,
)
welcomes = st.builds(Welcome, ids, st.integers(100_000_000, 600_000_000_000), st.just(1), times)

counts = st.integers(0, (1 << 32) - 1)
seen_times = st.just(0) | times
finite = st.floats(-1e300, 1e300)
paths = st.tuples(counts, counts, st.booleans(), seen_times, st.booleans(), st.integers(0, (1 << 64) - 1)).map(
    lambda p: Path(max(p[:2]), min(p[:2]), *p[2:])
)
asns = st.integers(1, (1 << 32) - 1)
perspectives = st.builds(
    Perspective, ids.map(VantageId), st.sampled_from(Role), addresses | prefixes, asns, st.sampled_from(Rir)
)


def _rows(windows: int) -> st.SearchStrategy[tuple[Row, ...]]:
    expected = st.lists(st.sampled_from(Expectation), min_size=windows, max_size=windows).map(tuple)
    return st.lists(
        st.builds(Row, perspectives, kinds, expected, paths, st.none() | st.sampled_from(RefusalKind)),
        min_size=1,
        max_size=3,
    ).map(tuple)


challenges = st.builds(
    Challenge,
    st.sampled_from(Method),
    st.sampled_from(Variant),
    st.integers(1, 3).flatmap(_rows),
    st.sampled_from(Assurance),
)
rounds = st.builds(Round, counts, counts, times, st.lists(st.integers(0, 4095), max_size=3).map(tuple))
observations = st.builds(
    Observation,
    st.integers(0, 4095),
    counts,
    st.sampled_from(Outcome),
    st.just("") | addresses | prefixes,
    seen_times,
    seen_times,
    payloads,
    st.booleans(),
    st.lists(unasked, max_size=3).map(tuple),
    st.integers(0, (1 << 64) - 1),
    st.none() | st.sampled_from(RefusalKind),
    st.booleans(),
)
tallies = st.builds(Tally, *[counts] * 7, finite, finite, finite, st.floats(0, 1))
reasons = st.sampled_from(Reason)
verdicts: st.SearchStrategy[Verdict] = st.one_of(
    st.builds(
        ControlProven, reasons, st.sampled_from(Assurance), st.sampled_from(Ceiling), st.sampled_from(Scope), tallies
    ),
    st.builds(ControlRefuted, reasons, perspectives, observations, tallies),
    st.builds(Inconclusive, reasons, st.lists(perspectives, max_size=2).map(tuple), tallies),
)
vantages = st.builds(
    Vantage,
    id=ids.map(VantageId),
    ipv4=ipv4,
    ipv6=st.none() | ipv6,
    ipv6_prefix=st.none() | prefixes,
    asn=asns,
    rir=st.sampled_from(Rir),
    latitude=st.floats(-90, 90),
    longitude=st.floats(-180, 180),
    operator=st.text(max_size=20),
)
attempts = st.builds(
    Attempt,
    number=st.integers(1, (1 << 32) - 1),
    seed=st.binary(min_size=1, max_size=64),
    traceparent=traceparents,
    started_at_ns=times,
    candidates=st.lists(st.builds(Candidate, vantages, addresses | prefixes), max_size=2).map(tuple),
    baseline_start_at_ns=times,
    paths=st.lists(st.builds(BaselinePath, ids.map(VantageId), st.none() | paths), max_size=2).map(tuple),
    challenge=st.none() | challenges,
    challenged_at_ns=seen_times,
    ready_at_ns=seen_times,
    rounds=st.lists(rounds, max_size=2).map(tuple),
    observations=st.lists(observations, max_size=3).map(tuple),
    verdict=verdicts,
    concluded_at_ns=seen_times,
)
verifications = st.builds(
    Verification,
    id=ids.map(VerificationId),
    target=targets,
    requested=st.text(max_size=40),
    applicant=st.text(max_size=40),
    method=st.sampled_from(Method),
    variant=st.sampled_from(Variant),
    policy=ids.map(PolicyId),
    requested_at_ns=times,
    state=st.sampled_from(State),
    attempts=st.lists(attempts, max_size=2).map(tuple),
    purpose=st.sampled_from(Purpose),
)


def messages(message_type: type[Message], depth: int = 4) -> st.SearchStrategy[Message]:
    """Any message of a type that protobuf would let through: every field absent, odd or hostile."""

    @st.composite
    def build(draw: st.DrawFn) -> Message:
        message = message_type()
        for field in message_type.DESCRIPTOR.fields:
            if draw(st.integers(0, 5)) == 0 or (field.message_type is not None and depth == 0):
                continue
            _fill(draw, message, cast(FieldDescriptor, field), depth)
        return message

    return build()


def _fill(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return
    if field.message_type is not None:
        inner = messages(GetMessageClass(field.message_type), depth - 1)
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(inner, max_size=2)))
        else:
            getattr(message, field.name).CopyFrom(draw(inner))
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(_scalars(field), max_size=3)))
    else:
        setattr(message, field.name, draw(_scalars(field)))


_UNSIGNED = {
    FieldDescriptor.TYPE_UINT32: 32,
    FieldDescriptor.TYPE_FIXED32: 32,
    FieldDescriptor.TYPE_UINT64: 64,
    FieldDescriptor.TYPE_FIXED64: 64,
}
_PLAUSIBLE = st.sampled_from(
    ["192.0.2.7", "2001:db8::7", "2001:db8:7::/64", "::ffff:192.0.2.7", "fe80::1%eth0", "a", ""]
)


def _scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kind = field.type
    if kind in _UNSIGNED:
        return st.sampled_from([0, 1, 123, (1 << _UNSIGNED[kind]) - 1]) | st.integers(0, (1 << _UNSIGNED[kind]) - 1)
    if kind in (FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SFIXED64):
        return st.integers(-(1 << 63), (1 << 63) - 1)
    if kind in (FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_INT32):
        return st.integers(-(1 << 31), (1 << 31) - 1)
    if kind == FieldDescriptor.TYPE_ENUM:
        return st.integers(0, 3) | st.integers(-(1 << 31), (1 << 31) - 1)
    if kind == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if kind == FieldDescriptor.TYPE_DOUBLE:
        return st.floats()
    if kind == FieldDescriptor.TYPE_STRING:
        return _PLAUSIBLE | st.text(max_size=140)
    if kind == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=64) | st.just(bytes(2049))
    raise AssertionError(f"{field.full_name}: no strategy for protobuf type {kind}")
