"""What becomes of an attempt when one of its vantages is quarantined: what it said is taken out of it, for good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolproof.challenge import Challenge, Expectation
from poolproof.ids import VantageId
from poolproof.lifecycle import handle
from poolproof.outcome import Outcome
from poolproof.policy import SECOND_NS
from poolproof.verdict import ControlProven, Inconclusive, Reason
from poolproof.verification import Attempt, Distrusted, Purpose, Reported, State, Step, Verification
from poolproof.wire import from_record, to_record
from tests.kernel.fleets import (
    POLICY,
    START_NS,
    attempt_of,
    begin,
    challenged,
    ends_ns,
    first_round,
    obeyed,
    ready_at_ns,
    report,
    report_all,
    requested,
    round_of,
    wake,
)


def challenge_of(verification: Verification) -> Challenge:
    challenge = attempt_of(verification).challenge
    assert challenge is not None
    return challenge


def told(verification: Verification, wanted: Expectation) -> list[VantageId]:
    return [row.perspective.vantage for row in challenge_of(verification).rows if wanted in row.expected]


def said_by(attempt: Attempt, vantage: VantageId) -> list[Outcome]:
    assert attempt.challenge is not None
    views = [row.perspective.vantage for row in attempt.challenge.rows]
    return [seen.outcome for seen in attempt.observations if views[seen.row] == vantage]


def distrust(verification: Verification, vantage: VantageId) -> Step:
    return handle(verification, Distrusted(vantage), ready_at_ns(verification) + 10 * SECOND_NS, POLICY)


def test_in_the_baseline_it_is_not_drawn_whether_it_has_reported_or_not() -> None:
    step = handle(requested(), begin(), START_NS, POLICY)
    first, second, *rest = step.dispatch
    known = handle(step.verification, Reported(report(first)), ends_ns([first]), POLICY).verification
    for job in (first, second):
        known = handle(known, Distrusted(job.vantage), ends_ns([first]), POLICY).verification
    late = handle(known, Reported(report(second)), ends_ns([second]), POLICY).verification
    assert late == known, "its report comes too late to be believed"
    done = report_all(Step(late, tuple(rest))).verification
    assert done.state is State.CHALLENGED
    drawn = {row.perspective.vantage for row in challenge_of(done).rows}
    assert not drawn & {first.vantage, second.vantage}


def test_the_last_candidate_that_was_waited_for_lets_the_baseline_end() -> None:
    step = handle(requested(), begin(), START_NS, POLICY)
    missing, *others = step.dispatch
    waiting = report_all(Step(step.verification, tuple(others))).verification
    assert waiting.state is State.BASELINE
    done = handle(waiting, Distrusted(missing.vantage), ends_ns(others), POLICY).verification
    assert done.state is State.CHALLENGED


def test_what_a_verifier_said_counts_as_its_own_failure_from_then_on() -> None:
    step = first_round(challenged())
    measured = report_all(step, obeyed).verification
    liar = told(measured, Expectation.SILENCE)[0]
    assert said_by(attempt_of(measured), liar) == [Outcome.SILENT]
    after = distrust(measured, liar).verification
    assert said_by(attempt_of(after), liar) == [Outcome.PROBE_FAILED]
    assert after.state is State.MEASURING
    others = [name for name in told(measured, Expectation.SILENCE) if name != liar]
    assert all(said_by(attempt_of(after), name) == [Outcome.SILENT] for name in others)


def test_reports_that_are_under_way_change_nothing() -> None:
    step = first_round(challenged())
    liar = told(step.verification, Expectation.SILENCE)[0]
    after = distrust(step.verification, liar).verification
    (job,) = (job for job in step.dispatch if job.vantage == liar)
    assert handle(after, Reported(report(job)), ends_ns([job]), POLICY).verification == after
    assert after.state is State.MEASURING, "an answer that a quarantined probe reports refutes nobody"


def test_saying_it_twice_changes_nothing() -> None:
    step = first_round(challenged())
    liar = told(step.verification, Expectation.SILENCE)[0]
    once = distrust(step.verification, liar).verification
    assert distrust(once, liar) == Step(once)


def test_a_proof_can_still_be_had_from_the_others() -> None:
    step = first_round(challenged())
    liar = told(step.verification, Expectation.SILENCE)[0]
    step = replace(step, verification=distrust(step.verification, liar).verification)
    while (step := round_of(step)).verification.state is State.MEASURING:
        step = wake(step.verification)
        assert liar not in {job.vantage for job in step.dispatch}, "it is not asked again"
    assert isinstance(step.verification.verdict, ControlProven)
    assert step.verification.verdict.tally.silent == 4


def test_an_attempt_that_can_no_longer_come_to_a_proof_ends_and_says_why() -> None:
    after = first_round(challenged()).verification
    quarantined: list[VantageId] = []
    while after.state is State.MEASURING:
        quarantined.append(told(after, Expectation.SILENCE)[len(quarantined)])
        after = distrust(after, quarantined[-1]).verification
    # Two domains reach weak assurance, one does not.
    assert len(quarantined) == 4
    assert isinstance(after.verdict, Inconclusive)
    assert after.verdict.reason is Reason.PROBES_FAILED
    assert [view.vantage for view in after.verdict.perspectives] == quarantined


def test_what_is_closed_stays_as_it_is() -> None:
    refuted = round_of(first_round(challenged()), obeying=False).verification
    assert refuted.state is State.CONCLUDED
    for vantage in told(refuted, Expectation.SILENCE):
        assert distrust(refuted, vantage) == Step(refuted)


@pytest.mark.parametrize("stranger", ["v99", "ams1"])
def test_a_vantage_that_takes_no_part_changes_nothing(stranger: str) -> None:
    for verification in (challenged(), first_round(challenged()).verification):
        assert distrust(verification, VantageId(stranger)).verification == verification


@pytest.mark.parametrize("purpose", Purpose)
def test_the_purpose_is_kept(purpose: Purpose) -> None:
    kept = replace(challenged(), purpose=purpose)
    assert from_record(to_record(kept)) == kept
