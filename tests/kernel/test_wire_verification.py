"""The stored record is lossless and refuses what nobody wrote; the view that people get names no witness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolproof import wire
from poolproof.challenge import Challenge, Expectation, Method, Observation, Path, Round, Row, Scope
from poolproof.cohort import Candidate
from poolproof.exchange import ExchangeKind
from poolproof.fleet import Perspective, Rir, Role, Vantage
from poolproof.ids import PolicyId, VantageId, VerificationId
from poolproof.outcome import Outcome
from poolproof.policy import POLICY_2026_11, Assurance
from poolproof.target import Target
from poolproof.v1 import judgement_pb2, record_pb2, verification_pb2
from poolproof.variant import Variant
from poolproof.verdict import Ceiling, ControlProven, ControlRefuted, Inconclusive, Reason, Tally, Verdict
from poolproof.verification import Attempt, BaselinePath, State, Verification
from tests.kernel import wire_strategies as some

WHEN = 1_794_000_000_123_456_789
TALLY = Tally(2, 1, 1, 1, 1, 2, 2, 4.5, 4.5, 14.3, 0.018)


def _row(name: str, role: Role, source: str, asn: int, rir: Rir, expected: Expectation) -> Row:
    perspective = Perspective(VantageId(name), role, source, asn, rir)
    return Row(perspective, ExchangeKind.CLIENT_V4, (expected,), Path(8, 7))


CHALLENGE = Challenge(
    Method.DIFFERENTIAL,
    Variant.ALLOW_ONLY,
    (
        _row("mon-1", Role.ALLOWED_MONITOR, "192.0.2.1", 64500, Rir.RIPE, Expectation.ANSWER),
        _row("hidden-north", Role.WITNESS, "198.51.100.77", 64501, Rir.ARIN, Expectation.SILENCE),
        _row("hidden-south", Role.WITNESS, "203.0.113.88", 64502, Rir.LACNIC, Expectation.SILENCE),
    ),
    Assurance.STRONG,
)
MONITOR, NORTH, SOUTH = (row.perspective for row in CHALLENGE.rows)
SIGHTING = Observation(2, 1, Outcome.REPLIED, SOUTH.source, WHEN + 1, WHEN + 2, bytes(48))
PROVEN = ControlProven(Reason.PATTERN_FOLLOWED, Assurance.STRONG, Ceiling.WITNESSES, Scope.SERVICE, TALLY)
REFUTED = ControlRefuted(Reason.ANSWERED_WHERE_SILENCE_WAS_ASKED, SOUTH, SIGHTING, TALLY)
OPEN = Inconclusive(Reason.REPORT_MISSING, (NORTH, MONITOR), TALLY)
VANTAGE = Vantage(VantageId("mon-1"), "192.0.2.1", None, "2001:db8:7::/64", 64500, Rir.RIPE, 52.5, 13.4, "Ops")
ATTEMPT = Attempt(
    number=3,
    seed=bytes(32),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    started_at_ns=WHEN - 9,
    candidates=(
        Candidate(VANTAGE, "192.0.2.1"),
        Candidate(replace(VANTAGE, id=VantageId("hidden-north")), "192.0.2.1"),
    ),
    baseline_start_at_ns=WHEN - 8,
    paths=(BaselinePath(VantageId("mon-1"), Path(8, 7)),),
    challenge=CHALLENGE,
    challenged_at_ns=WHEN - 7,
    ready_at_ns=WHEN - 6,
    rounds=(Round(0, 0, WHEN - 5, (0, 1, 2)), Round(1, 0, WHEN, (0, 1, 2))),
    observations=(
        Observation(0, 0, Outcome.REPLIED, "192.0.2.1", WHEN - 5, WHEN - 4, b""),
        Observation(1, 0, Outcome.SILENT, NORTH.source, WHEN - 5),
        Observation(2, 0, Outcome.SILENT, SOUTH.source, WHEN - 5),
        SIGHTING,
    ),
    verdict=REFUTED,
    concluded_at_ns=WHEN + 3,
)
VERIFICATION = Verification(
    VerificationId("v1"),
    Target("192.0.2.7"),
    "ntp.example.org",
    "alice",
    Method.DIFFERENTIAL,
    Variant.ALLOW_ONLY,
    PolicyId("2026-11"),
    WHEN - 10,
    State.CONCLUDED,
    (ATTEMPT,),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(some.verifications)
def test_a_record_holds_the_whole_verification(verification: Verification) -> None:
    record = wire.to_record(verification)
    assert wire.from_record(record) == verification
    assert wire.to_record(wire.from_record(record)) == record


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(some.messages(record_pb2.VerificationRecord, depth=6))
def test_any_record_is_taken_whole_or_refused_by_name(message: Message) -> None:
    _taken_or_refused(message.SerializeToString())


@settings(max_examples=300)
@given(st.data())
def test_a_spoiled_record_raises_nothing_else(data: st.DataObject) -> None:
    valid = wire.to_record(VERIFICATION)
    cut = data.draw(st.integers(0, len(valid)))
    end = data.draw(st.integers(cut, min(len(valid), cut + 8)))
    _taken_or_refused(valid[:cut] + data.draw(st.binary(max_size=8)) + valid[end:])


def _taken_or_refused(record: bytes) -> None:
    try:
        verification = wire.from_record(record)
    except wire.WireError as error:
        assert error.field in str(error)
    else:
        assert wire.from_record(wire.to_record(verification)) == verification


CODECS: list[tuple[st.SearchStrategy[Any], type[Message], Callable[[Any], Message], Callable[[Any], Any]]] = [
    (some.vantages, judgement_pb2.Vantage, wire.vantage_to_wire, wire.vantage_from_wire),
    (some.challenges, judgement_pb2.Challenge, wire.challenge_to_wire, wire.challenge_from_wire),
    (some.observations, judgement_pb2.Observation, wire.observation_to_wire, wire.observation_from_wire),
    (some.verdicts, judgement_pb2.Verdict, wire.verdict_to_wire, wire.verdict_from_wire),
]


@pytest.mark.parametrize(
    ("values", "message", "to_wire", "from_wire"), CODECS, ids=[codec[1].DESCRIPTOR.name for codec in CODECS]
)
@settings(max_examples=60)
@given(data=st.data())
def test_what_is_sent_is_what_arrives(
    values: st.SearchStrategy[Any],
    message: type[Message],
    to_wire: Callable[[Any], Message],
    from_wire: Callable[[Any], Any],
    data: st.DataObject,
) -> None:
    value = data.draw(values)
    assert from_wire(message.FromString(to_wire(value).SerializeToString())) == value


def _spoil_rows(message: record_pb2.VerificationRecord) -> None:
    del message.attempts[0].challenge.rows[:]


Spoil = Callable[[record_pb2.VerificationRecord], object]
SPOILED: dict[str, Spoil] = {
    "record.id": lambda m: m.ClearField("id"),
    "record.target": lambda m: m.ClearField("target"),
    "record.applicant": lambda m: setattr(m, "applicant", "x" * 4097),
    "record.method": lambda m: m.ClearField("method"),
    "record.variant": lambda m: m.ClearField("variant"),
    "record.policy_id": lambda m: m.ClearField("policy_id"),
    "record.requested_at_ns": lambda m: m.ClearField("requested_at_ns"),
    "record.state": lambda m: m.ClearField("state"),
    "record.attempts[0].number": lambda m: m.attempts[0].ClearField("number"),
    "record.attempts[0].seed": lambda m: m.attempts[0].ClearField("seed"),
    "record.attempts[0].traceparent": lambda m: setattr(m.attempts[0], "traceparent", "00"),
    "record.attempts[0].started_at_ns": lambda m: m.attempts[0].ClearField("started_at_ns"),
    "record.attempts[0].baseline_start_at_ns": lambda m: m.attempts[0].ClearField("baseline_start_at_ns"),
    "record.attempts[0].ready_at_ns": lambda m: setattr(m.attempts[0], "ready_at_ns", 1 << 63),
    "record.attempts[0].verdict": lambda m: m.attempts[0].ClearField("verdict"),
    "record.attempts[0].verdict.refuted.reason": lambda m: m.attempts[0].verdict.refuted.ClearField("reason"),
    "record.attempts[0].verdict.refuted.sighting": lambda m: m.attempts[0].verdict.refuted.ClearField("sighting"),
    "record.attempts[0].verdict.refuted.tally.bound": lambda m: setattr(
        m.attempts[0].verdict.refuted.tally, "bound", 1.5
    ),
    "record.attempts[0].verdict.refuted.tally.evidence": lambda m: setattr(
        m.attempts[0].verdict.refuted.tally, "evidence", float("nan")
    ),
    "record.attempts[0].candidates[0].vantage": lambda m: m.attempts[0].candidates[0].ClearField("vantage"),
    "record.attempts[0].candidates[0].vantage.rir": lambda m: m.attempts[0].candidates[0].vantage.ClearField("rir"),
    "record.attempts[0].candidates[0].vantage.latitude": lambda m: setattr(
        m.attempts[0].candidates[0].vantage, "latitude", 91.0
    ),
    "record.attempts[0].candidates[0].vantage.asn": lambda m: m.attempts[0].candidates[0].vantage.ClearField("asn"),
    "record.attempts[0].candidates[1].vantage": lambda m: setattr(
        m.attempts[0].candidates[1].vantage, "ipv4", "2001:db8::1"
    ),
    "record.attempts[0].paths[0].path.answered": lambda m: setattr(m.attempts[0].paths[0].path, "answered", 9),
    "record.attempts[0].challenge.rows": _spoil_rows,
    "record.attempts[0].challenge.aim": lambda m: m.attempts[0].challenge.ClearField("aim"),
    "record.attempts[0].challenge.rows[1].perspective": lambda m: (
        m.attempts[0].challenge.rows[1].ClearField("perspective")
    ),
    "record.attempts[0].challenge.rows[1].perspective.role": lambda m: (
        m.attempts[0].challenge.rows[1].perspective.ClearField("role")
    ),
    "record.attempts[0].challenge.rows[1].expected": lambda m: m.attempts[0].challenge.rows[1].ClearField("expected"),
    "record.attempts[0].rounds[0].start_at_ns": lambda m: m.attempts[0].rounds[0].ClearField("start_at_ns"),
    "record.attempts[0].observations[0].outcome": lambda m: m.attempts[0].observations[0].ClearField("outcome"),
    "record.attempts[0].observations[0].packet": lambda m: setattr(
        m.attempts[0].observations[0], "packet", bytes(2049)
    ),
}


@pytest.mark.parametrize(("field", "spoil"), SPOILED.items(), ids=SPOILED.keys())
def test_a_bad_field_of_a_record_is_refused_by_its_name(field: str, spoil: Spoil) -> None:
    message = record_pb2.VerificationRecord.FromString(wire.to_record(VERIFICATION))
    spoil(message)
    with pytest.raises(wire.WireError) as caught:
        wire.from_record(message.SerializeToString())
    assert caught.value.field == field


@pytest.mark.parametrize("verdict", [PROVEN, REFUTED, OPEN], ids=lambda verdict: type(verdict).__name__)
@pytest.mark.parametrize("state", State)
def test_a_view_names_no_witness(verdict: Verdict, state: State) -> None:
    attempt = replace(ATTEMPT, verdict=verdict)
    verification = replace(VERIFICATION, state=state, attempts=(attempt, attempt))
    octets = wire.verification_to_view(verification, POLICY_2026_11, 5).SerializeToString()
    for secret in (*(f"{w.vantage}" for w in (NORTH, SOUTH)), NORTH.source, SOUTH.source):
        assert secret.encode() not in octets
    assert (WHEN + 1).to_bytes(8, "little") not in octets
    assert MONITOR.source.encode() in octets


def test_an_operators_view_names_the_witnesses() -> None:
    attempt = replace(ATTEMPT, verdict=REFUTED)
    view = wire.verification_to_view(replace(VERIFICATION, attempts=(attempt,)), POLICY_2026_11, 5, for_operator=True)
    witnesses = [row.perspective for row in view.rows if row.perspective.role == judgement_pb2.ROLE_WITNESS]
    assert [(each.vantage_id, each.source) for each in witnesses] == [
        (NORTH.vantage, NORTH.source),
        (SOUTH.vantage, SOUTH.source),
    ]
    assert view.verdict.refuted.perspective.vantage_id == SOUTH.vantage


def test_a_view_shows_the_matrix_as_far_as_it_is_known() -> None:
    view = wire.verification_to_view(VERIFICATION, POLICY_2026_11, 5)
    shown = [(row.perspective.vantage_id, row.perspective.source, list(row.outcomes)) for row in view.rows]
    assert shown == [
        ("mon-1", "192.0.2.1", [judgement_pb2.OUTCOME_REPLIED, judgement_pb2.OUTCOME_UNSPECIFIED]),
        ("witness-1", "", [judgement_pb2.OUTCOME_SILENT, judgement_pb2.OUTCOME_UNSPECIFIED]),
        ("witness-2", "", [judgement_pb2.OUTCOME_SILENT, judgement_pb2.OUTCOME_REPLIED]),
    ]
    assert [(fired.counted, fired.reason) for fired in view.rounds] == [
        (True, judgement_pb2.REASON_UNSPECIFIED),
        (False, judgement_pb2.REASON_REPORT_MISSING),
    ]
    refuted = view.verdict.refuted
    assert refuted.perspective.vantage_id == "witness-2"
    assert refuted.sighting.sent_at_ns == 1_794_000_000_000_000_000
    assert refuted.sighting.packet == bytes(48)
    assert (view.baseline_asked, view.baseline_known, view.revision) == (2, 1, 5)
    assert view.attempts[0].trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert view.retry_not_before_ns == WHEN + 3 + POLICY_2026_11.retry_spacing_ns


def test_a_proven_verification_needs_no_retry_and_a_list_no_matrix() -> None:
    proven = replace(VERIFICATION, attempts=(replace(ATTEMPT, verdict=PROVEN),))
    view = wire.verification_to_view(proven, POLICY_2026_11, 5, with_matrix=False)
    assert view.retry_not_before_ns == 0
    assert not view.rows
    assert not view.rounds
    assert view.verdict.proven.assurance == judgement_pb2.ASSURANCE_STRONG


def test_a_fresh_request_has_a_view_too() -> None:
    view = wire.verification_to_view(replace(VERIFICATION, state=State.REQUESTED, attempts=()), POLICY_2026_11, 2)
    assert view.verdict.inconclusive.reason == judgement_pb2.REASON_NOT_STARTED
    assert not view.attempts


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("target", {"target": ""}),
        ("target", {"target": "x" * 301}),
        ("method", {"method": 0}),
        ("variant", {"variant": 99}),
        ("applicant", {"applicant": ""}),
        ("idempotency_key", {"idempotency_key": "k" * 129}),
    ],
)
def test_a_request_is_refused_by_the_field_that_is_wrong(field: str, change: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "target": "ntp.example.org",
        "method": judgement_pb2.METHOD_DIFFERENTIAL,
        "variant": judgement_pb2.VARIANT_BLOCK,
        "applicant": "alice",
    }
    taken = wire.create_request_from_wire(verification_pb2.CreateVerificationRequest(**right))
    assert taken == wire.CreateRequest("ntp.example.org", Method.DIFFERENTIAL, Variant.BLOCK, "alice", "")
    with pytest.raises(wire.WireError) as caught:
        wire.create_request_from_wire(verification_pb2.CreateVerificationRequest(**(right | change)))
    assert caught.value.field == field
