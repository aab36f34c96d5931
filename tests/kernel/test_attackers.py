"""What an attacker leaves standing: backscatter, gaps in a watch, refusals of one way or of two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.capture import UnaskedKind, UnaskedPacket
from poolproof.challenge import Challenge, Row
from poolproof.evidence import round_evidence
from poolproof.outcome import Outcome
from poolproof.policy import Assurance
from poolproof.refusal import ASKED_FOR, RefusalKind
from poolproof.variant import Variant
from poolproof.verdict import Ceiling, ControlProven, ControlRefuted, Reason
from tests.kernel.situations import challenge, enacted, evidence, rounds, strong_cohort
from tests.kernel.test_rule import POLICY, Evidence, judge, wants_silence


def judged(asked: Challenge, count: int, silence: Outcome = Outcome.SILENT, **odd: object) -> ControlProven:
    """The proof of an owner who enacted everything; `odd` is how the silent rows' observations differ."""
    seen = tuple(
        replace(o, **odd) if wants_silence(asked, o) else o  # type: ignore[arg-type]
        for o in enacted(asked, count, silence)
    )
    verdict = judge((asked, rounds(asked, count), seen)).verdict
    assert isinstance(verdict, ControlProven)
    return verdict


@pytest.mark.parametrize(
    ("variant", "prefix", "silence", "assurance"),
    [
        (Variant.BLOCK, False, Outcome.SILENT, Assurance.WEAK),
        (Variant.BLOCK, False, Outcome.REFUSED, Assurance.MEDIUM),
        (Variant.BLOCK, True, Outcome.SILENT, Assurance.MEDIUM),
        (Variant.ALLOW_ONLY, False, Outcome.SILENT, Assurance.MEDIUM),
    ],
    ids=["drop at disclosed addresses", "reject", "prefix", "witnesses"],
)
def test_without_tripwires_a_proof_is_worth_one_less(variant, prefix, silence, assurance) -> None:  # type: ignore[no-untyped-def]
    verdict = judged(strong_cohort(variant, prefix=prefix), 4, silence, watched=False)
    assert (verdict.assurance, verdict.ceiling) == (assurance, Ceiling.UNWATCHED)


def test_a_gap_in_one_tripwires_watch_costs_what_that_perspective_gave() -> None:
    asked = challenge(variant=Variant.ALLOW_ONLY)
    seen = tuple(replace(o, watched=False) if (o.row, o.round) == (5, 0) else o for o in enacted(asked, 3))
    whole, holed = (judge((asked, rounds(asked, 3), each)).verdict.tally for each in (enacted(asked, 3), seen))
    assert holed.evidence == whole.evidence
    assert holed.unforgeable < whole.unforgeable


@given(evidence(), st.data())
def test_a_packet_that_nobody_asked_for_at_a_must_be_silent_perspective_always_refutes(
    given: Evidence, data: st.DataObject
) -> None:
    asked, fired, seen = given
    index = data.draw(st.sampled_from([i for i, o in enumerate(seen) if wants_silence(asked, o)]))
    packets = tuple(UnaskedPacket(UnaskedKind.UDP, 50 - i, "203.0.113.7", "192.0.2.6", bytes((i,))) for i in range(2))
    flooded = replace(seen[index], unasked=packets, unasked_total=9)
    verdict = judge((asked, fired, (*seen[:index], flooded, *seen[index + 1 :]))).verdict
    assert isinstance(verdict, ControlRefuted)
    if verdict.reason is Reason.BACKSCATTER:
        sighting = verdict.sighting
        assert (sighting.packet, sighting.received_at_ns, sighting.source) == (bytes((1,)), 49, "192.0.2.6")
        assert sighting.unasked_total == 9
    else:
        assert any(o.outcome.is_answer and wants_silence(asked, o) for o in seen)


def test_unasked_packets_at_those_who_are_answered_say_nothing() -> None:
    """A flood in a monitor's name can only make it look blocked, which is worth nothing."""
    asked = strong_cohort()
    packet = UnaskedPacket(UnaskedKind.UDP, 5, "203.0.113.7", "192.0.2.1", b"")
    seen = tuple(o if wants_silence(asked, o) else replace(o, unasked=(packet,)) for o in enacted(asked, 3))
    assert isinstance(judge((asked, rounds(asked, 3), seen)).verdict, ControlProven)


def refused(asked: Challenge, count: int, way: Callable[[Row], RefusalKind | None]) -> ControlProven:
    """The proof where each verifier is refused in some way, or left unanswered."""
    seen = tuple(
        replace(o, outcome=Outcome.REFUSED if kind else Outcome.SILENT, refusal=kind) if wants_silence(asked, o) else o
        for o in enacted(asked, count)
        for kind in (way(asked.rows[o.row]),)
    )
    verdict = judge((asked, rounds(asked, count), seen)).verdict
    assert isinstance(verdict, ControlProven)
    return verdict


@pytest.mark.parametrize("kind", [*ASKED_FOR, RefusalKind.OTHER])
def test_refusals_in_one_way_are_never_strong(kind: RefusalKind) -> None:
    """A rate limiter that rejects: a flood makes it refuse whomever one likes, and its refusals quote our packets."""
    verdict = refused(challenge(witnesses=2), 12, lambda row: kind)
    assert (verdict.assurance, verdict.ceiling) == (Assurance.MEDIUM, Ceiling.DOUBTFUL_REFUSALS)


def test_a_limiter_that_is_made_to_refuse_only_those_that_ask_for_its_way_is_not_strong() -> None:
    """The others are silenced by other means."""
    first = ASKED_FOR[0]
    verdict = refused(challenge(witnesses=2), 12, lambda row: first if row.refusal is first else None)
    assert (verdict.assurance, verdict.ceiling) == (Assurance.MEDIUM, Ceiling.DOUBTFUL_REFUSALS)


def test_one_refusal_in_another_way_makes_all_doubtful() -> None:
    asked = challenge(witnesses=2)
    odd = asked.rows[5]
    verdict = refused(asked, 12, lambda row: RefusalKind.OTHER if row is odd else row.refusal)
    assert (verdict.assurance, verdict.ceiling) == (Assurance.MEDIUM, Ceiling.DOUBTFUL_REFUSALS)


def test_kiss_codes_of_the_daemon_are_strong_in_any_number_of_ways() -> None:
    verdict = refused(challenge(witnesses=2), 4, lambda row: RefusalKind.KISS)
    assert (verdict.assurance, verdict.ceiling) == (Assurance.STRONG, Ceiling.REFUSALS)


def test_silence_at_prefixes_is_strong_in_whatever_way_some_are_refused() -> None:
    """A limit by address knows no address of a prefix beforehand; a limit by prefix was tried in the baseline."""
    asked = strong_cohort(prefix=True)
    verdict = refused(asked, 4, lambda row: RefusalKind.OTHER if row is asked.rows[5] else None)
    assert (verdict.assurance, verdict.ceiling) == (Assurance.STRONG, Ceiling.MIXED)


def test_refusals_are_never_worth_more_than_a_target_that_rejects_at_random_allows() -> None:
    """A global limiter that rejects refuses anybody: then a round is as cheap as one of lost packets."""
    asked = challenge(witnesses=2)
    tally = judge((asked, rounds(asked, 2), enacted(asked, 2, Outcome.REFUSED))).verdict.tally
    assert tally.unforgeable == tally.evidence <= 2 * round_evidence(5, 5, 2, 2, 5, POLICY.expected_loss)
