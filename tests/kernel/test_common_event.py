"""One event that cuts many paths: what the rule makes of it, whole challenges judged."""

from __future__ import annotations

import math

import pytest

from poolproof.challenge import Challenge, Expectation
from poolproof.decide import decide
from poolproof.outcome import Outcome
from poolproof.policy import POLICY_2026_11, Assurance
from poolproof.variant import Variant
from poolproof.verdict import ControlProven, Tally
from tests.kernel.situations import challenge, enacted, observed, rounds, strong_cohort

POLICY = POLICY_2026_11


def tally(asked: Challenge, count: int) -> Tally:
    return decide(asked, rounds(asked, count), enacted(asked, count), 1, POLICY).verdict.tally


def is_strong(asked: Challenge, count: int) -> bool:
    verdict = decide(asked, rounds(asked, count), enacted(asked, count), 1, POLICY).verdict
    return isinstance(verdict, ControlProven) and verdict.assurance is Assurance.STRONG


@pytest.mark.parametrize(
    ("silent", "monitors", "proven_in"),
    [(7, 5, 2), (6, 5, 3), (5, 6, 3), (5, 5, None), (9, 3, None), (3, 9, None)],
    ids=["twelve", "eleven", "eleven the other way", "ten never", "few monitors never", "three silent ones never"],
)
def test_strong_odds_need_eleven_failure_domains_of_both_kinds(silent: int, monitors: int, proven_in: int) -> None:
    asked = challenge(monitors, silent, variant=Variant.ALLOW_ONLY)
    assert next((n for n in range(1, 13) if is_strong(asked, n)), None) == proven_in


def test_no_rounds_make_one_event_less_likely() -> None:
    """Five silent and five answered domains were 22 nats once; one upstream that fails makes them again and again."""
    asked = challenge(variant=Variant.ALLOW_ONLY)
    seen = tally(asked, 12)
    assert seen.evidence <= -math.log(POLICY.common_cut / math.comb(10, 5)) < seen.needed


def test_a_domain_that_serves_one_vantage_and_not_another_was_not_cut_by_one_event() -> None:
    """It is left out of the event's pattern, which then has fewer domains to match."""
    apart = challenge(variant=Variant.ALLOW_ONLY)
    shared = challenge(variant=Variant.ALLOW_ONLY, asns=[64500, 64506, 64507, 64508, 64509])
    assert tally(shared, 6).evidence < tally(apart, 6).evidence


def test_a_monitor_that_was_never_answered_may_have_been_cut_too() -> None:
    asked = strong_cohort(Variant.ALLOW_ONLY)

    def dark(*numbers: int) -> float:
        seen = observed(
            asked,
            12,
            lambda row, n: (
                Outcome.SILENT
                if row.expected[0].value == "silence" or (row is asked.rows[0] and n in numbers)
                else Outcome.REPLIED
            ),
        )
        return decide(asked, rounds(asked, 12), seen, 1, POLICY).verdict.tally.evidence

    assert dark(*range(12)) < dark(*range(11)) - 1
    assert dark(*range(11)) == pytest.approx(dark(), abs=1e-4)


def test_refusals_are_held_against_an_event_that_refuses() -> None:
    """It is rarer; and who only fell silent beside those that refused adds nothing to it."""
    asked = strong_cohort()
    some = observed(
        asked,
        12,
        lambda row, n: (
            Outcome.REPLIED
            if row.expected[0].value == "answer"
            else Outcome.REFUSED
            if row.perspective.vantage < "v07"
            else Outcome.SILENT
        ),
    )
    evidence = [
        decide(asked, rounds(asked, 12), seen, 1, POLICY).verdict.tally.evidence
        for seen in (enacted(asked, 12), some, enacted(asked, 12, Outcome.REFUSED))
    ]
    assert evidence[1] == pytest.approx(evidence[0], abs=0.1)
    assert evidence[2] > evidence[1] + 2


def test_refusals_of_some_and_silence_of_others_wait_for_strong_but_not_for_ever() -> None:
    asked = challenge()

    def see(row, number: int) -> Outcome:  # type: ignore[no-untyped-def]
        if row.expected[0] is Expectation.ANSWER:
            return Outcome.REPLIED
        return Outcome.REFUSED if row is asked.rows[5] else Outcome.SILENT

    early = decide(asked, rounds(asked, 4), observed(asked, 4, see), 1, POLICY)
    assert not early.final
    late = decide(asked, rounds(asked, 12), observed(asked, 12, see), 1, POLICY)
    assert isinstance(late.verdict, ControlProven)
    assert late.verdict.assurance is Assurance.MEDIUM
