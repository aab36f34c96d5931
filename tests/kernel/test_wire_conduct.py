"""A vantage's conduct as the store keeps it: whole, or refused by the field that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.calibration import Stratum
from poolproof.conduct import Conduct, Counts, Quarantine, QuarantineReason, Release
from poolproof.ids import VantageId, VerificationId
from poolproof.policy import POLICY_2026_11 as POLICY
from poolproof.v1 import conduct_pb2 as pb
from poolproof.wire import WireError
from poolproof.wire.conduct import (
    STRATA,
    conduct_from_wire,
    conduct_to_wire,
    from_conduct_record,
    to_conduct_record,
    vantage_conduct_to_wire,
)
from tests.kernel.wire_strategies import messages

TIMES = st.integers(1, (1 << 63) - 1)
NOTES = st.text(max_size=400)
QUARANTINES = st.builds(Quarantine, st.sampled_from(QuarantineReason), TIMES, st.just(VerificationId("c1")), NOTES)
COUNTS = st.integers(0, 1 << 20).flatmap(lambda n: st.integers(0, n).map(lambda k: Counts(n, k)))
CONDUCTS = st.builds(
    Conduct,
    st.just(VantageId("ams1")),
    st.integers(0, (1 << 32) - 1),
    st.fixed_dictionaries(dict.fromkeys(Stratum, COUNTS)).map(MappingProxyType),
    st.none() | QUARANTINES,
    st.lists(st.builds(Release, TIMES, st.text(min_size=1, max_size=400), QUARANTINES), max_size=4).map(tuple),
)


@given(CONDUCTS)
def test_a_record_holds_the_whole_conduct(conduct: Conduct) -> None:
    assert from_conduct_record(to_conduct_record(conduct)) == conduct


@given(messages(pb.ConductRecord))
def test_any_record_is_taken_or_refused_by_name(message: pb.ConductRecord) -> None:
    try:
        conduct_from_wire(message)
    except WireError as error:
        assert error.field.startswith("conduct.")


def test_rubbish_is_no_record() -> None:
    with pytest.raises(WireError, match="is no conduct record"):
        from_conduct_record(b"\xff\xff")


def whole() -> pb.ConductRecord:
    held = Quarantine(QuarantineReason.INVENTED_ANSWER, 1, VerificationId("c1"), "seen")
    counts = MappingProxyType(dict.fromkeys(Stratum, Counts(3, 1)))
    return conduct_to_wire(Conduct(VantageId("ams1"), 4, counts, held, (Release(2, "mended", held),)))


SPOILED: dict[str, Callable[[pb.ConductRecord], None]] = {
    "conduct.vantage_id": lambda message: message.ClearField("vantage_id"),
    "conduct.counts[1].trials": lambda message: message.counts[1].ClearField("trials"),
    "conduct.counts[0].failures": lambda message: setattr(message.counts[0], "failures", 4),
    "conduct.counts[2].stratum": lambda message: message.counts[2].ClearField("stratum"),
    "conduct.quarantine.reason": lambda message: message.quarantine.ClearField("reason"),
    "conduct.quarantine.since_ns": lambda message: message.quarantine.ClearField("since_ns"),
    "conduct.quarantine.calibration_id": lambda message: message.quarantine.ClearField("calibration_id"),
    "conduct.quarantine.evidence": lambda message: setattr(message.quarantine, "evidence", "x" * 401),
    "conduct.releases[0].reason": lambda message: message.releases[0].ClearField("reason"),
    "conduct.releases[0].quarantine": lambda message: message.releases[0].ClearField("quarantine"),
    "conduct.releases": lambda message: message.releases.extend([message.releases[0]] * 16),
}


@pytest.mark.parametrize(("field", "spoil"), SPOILED.items(), ids=SPOILED.keys())
def test_a_bad_field_is_refused_by_its_name(field: str, spoil: Callable[[pb.ConductRecord], None]) -> None:
    message = whole()
    spoil(message)
    with pytest.raises(WireError) as refused:
        conduct_from_wire(message)
    assert refused.value.field == field


def test_operators_see_the_tests_as_they_stand() -> None:
    conduct = conduct_from_wire(whole())
    shown = vantage_conduct_to_wire(conduct, POLICY)
    assert {each.stratum: each.evidence for each in shown.evidence} == {
        STRATA.to_wire(stratum): pytest.approx(conduct.evidence(stratum, POLICY)) for stratum in Stratum
    }
