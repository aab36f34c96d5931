"""An attempt that is measuring: rounds and the pauses between them, reports that come late or never, and its end."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from poolproof.challenge import Observation, Round
from poolproof.job import Job
from poolproof.lifecycle import MAX_ATTEMPTS, handle, next_wake_ns
from poolproof.outcome import Outcome
from poolproof.plan import round_ends_ns
from poolproof.policy import SECOND_NS
from poolproof.variant import Variant
from poolproof.verdict import ControlProven, ControlRefuted, Inconclusive, Reason
from poolproof.verification import (
    OwnerReady,
    Reported,
    State,
    Step,
    Unreachable,
    Verification,
    Wake,
)
from poolproof.wire import to_record
from tests.kernel.fleets import (
    POLICY,
    START_NS,
    TARGET6,
    attempt_of,
    begin,
    challenged,
    ends_ns,
    first_round,
    obeyed,
    ready_at_ns,
    reason_of,
    report,
    report_all,
    requested,
    round_of,
    wake,
)

LATER_NS = START_NS + 400 * 86_400 * SECOND_NS
MAX_RECORD_BYTES = 1_400_000
"""What a store takes as one value."""


def test_saying_ready_twice_measures_once() -> None:
    verification = challenged()
    once = handle(verification, OwnerReady(), ready_at_ns(verification), POLICY)
    assert once.dispatch == (), "the server gets time to settle"
    assert handle(once.verification, OwnerReady(), LATER_NS, POLICY) == Step(once.verification)
    first = wake(once.verification)
    assert len(first.dispatch) == 13
    assert {job.start_at_ns for job in first.dispatch} == {ready_at_ns(verification) + POLICY.settle_ns}
    assert handle(first.verification, OwnerReady(), LATER_NS, POLICY) == Step(first.verification)


def test_an_answer_that_was_on_its_way_before_the_settle_time_is_no_report_of_a_round() -> None:
    """A baseline's report that comes late is of the baseline, whatever is going on by then."""
    step = handle(requested(), begin(), START_NS, POLICY)
    late = step.dispatch[0]
    waiting = report_all(Step(step.verification, step.dispatch[1:])).verification
    measured = first_round(wake(waiting).verification).verification
    assert handle(measured, Reported(report(late)), LATER_NS, POLICY) == Step(measured)


def _down(verification: Verification, rounds: int) -> tuple[Verification, list[int]]:
    """Rounds in which nobody is answered; the pauses between their starts, in seconds."""
    starts: list[int] = []
    for _ in range(rounds):
        step = wake(verification)
        starts.append(step.dispatch[0].start_at_ns)
        verification = report_all(step, answered=False).verification
    return verification, [(b - a) // SECOND_NS for a, b in itertools.pairwise(starts)]


def test_a_target_that_is_down_is_asked_ever_more_rarely_and_at_once_again_when_it_is_back() -> None:
    verification = challenged()
    ready = handle(verification, OwnerReady(), ready_at_ns(verification), POLICY).verification
    down, pauses = _down(ready, 9)
    assert pauses == [8, 16, 32, 64, 128, 256, 300, 300]
    assert reason_of(down) is Reason.TARGET_DOWN
    back = round_of(wake(down)).verification
    following = wake(back)
    rounds = attempt_of(following.verification).rounds
    assert rounds[-1].start_at_ns - rounds[-2].start_at_ns == 8 * SECOND_NS
    while (step := round_of(following)).verification.state is State.MEASURING:
        following = wake(step.verification)
    assert isinstance(step.verification.verdict, ControlProven)


def test_a_measurement_ends_with_what_it_saw_and_not_with_a_round_that_nobody_can_report_in_time() -> None:
    verification = challenged(target=TARGET6, prefix=True)
    verification = handle(verification, OwnerReady(), ready_at_ns(verification), POLICY).verification
    while True:
        step = wake(verification)
        if not step.verification.state.is_open:
            break
        verification = report_all(step, answered=False).verification
    done = attempt_of(step.verification)
    assert step.verification.state is State.CONCLUDED
    assert reason_of(step.verification) is Reason.TARGET_DOWN
    ends = done.ready_at_ns + POLICY.measuring_window_ns
    assert round_ends_ns(done.rounds[-1].start_at_ns, POLICY) <= ends
    assert done.concluded_at_ns <= ends
    assert len(done.rounds) < 90
    assert len(to_record(step.verification)) * MAX_ATTEMPTS < MAX_RECORD_BYTES


def test_a_missing_report_is_waited_for_and_completes_the_proof_when_it_comes() -> None:
    step = first_round(challenged())
    missing: Job | None = None
    due_ns: int | None = 0
    while step.verification.state is State.MEASURING:
        before = step.verification
        fired = step.dispatch
        if missing is None:
            missing = next(job for job in fired if not obeyed(before, job))
            fired = tuple(job for job in fired if job is not missing)
        step = report_all(Step(before, fired), obeyed)
        verification = step.verification
        due_ns = next_wake_ns(verification, POLICY)
        assert due_ns is not None
        last = attempt_of(verification).rounds[-1].start_at_ns
        if reason_of(verification) is Reason.REPORT_MISSING and due_ns == (
            round_ends_ns(last, POLICY) + POLICY.missing_grace_ns
        ):
            break
        step = wake(verification)
    assert missing is not None
    assert due_ns is not None
    silent = handle(verification, Reported(report(missing, False)), due_ns - 1, POLICY).verification
    assert isinstance(silent.verdict, ControlProven)
    answered = handle(verification, Reported(report(missing, True)), due_ns - 1, POLICY).verification
    assert isinstance(answered.verdict, ControlRefuted)
    given_up = wake(verification).verification
    assert given_up.state is State.CONCLUDED
    assert reason_of(given_up) is Reason.REPORT_MISSING
    assert [view.vantage for view in getattr(given_up.verdict, "perspectives", ())] == [missing.vantage]
    assert handle(given_up, Reported(report(missing, False)), LATER_NS, POLICY) == Step(given_up)


def test_a_probe_that_never_reports_ends_the_attempt_in_minutes() -> None:
    step = first_round(challenged())
    hung = next(job.vantage for job in step.dispatch if not obeyed(step.verification, job))
    while step.verification.state is State.MEASURING:
        before = step.verification
        if step.dispatch:
            heard = tuple(job for job in step.dispatch if job.vantage != hung)
            step = report_all(Step(before, heard), obeyed)
        step = wake(step.verification)
    done = attempt_of(step.verification)
    assert reason_of(step.verification) is Reason.REPORT_MISSING
    assert len(done.rounds) <= POLICY.max_rounds
    assert done.concluded_at_ns - done.ready_at_ns < 5 * 60 * SECOND_NS


def test_jobs_that_reached_no_probe_count_as_failed_probes() -> None:
    step = first_round(challenged())
    lost = tuple(job for job in step.dispatch if not obeyed(step.verification, job))[:2]
    known = handle(step.verification, Unreachable(tuple(job.id for job in lost)), lost[0].start_at_ns, POLICY)
    failed = [seen for seen in attempt_of(known.verification).observations if seen.outcome is Outcome.PROBE_FAILED]
    assert len(failed) == 2
    again = handle(known.verification, Unreachable(tuple(job.id for job in lost)), lost[0].start_at_ns, POLICY)
    assert again.verification == known.verification
    report_later = handle(known.verification, Reported(report(lost[0])), lost[0].start_at_ns, POLICY)
    assert report_later.verification == known.verification


def test_what_the_probes_saw_at_a_clock_that_jumped_is_judged_by_its_answers() -> None:
    """A step of the kernel's clock moves timestamps, and can make neither silence nor an answer out of the other."""
    step = first_round(challenged())
    verifier = next(job for job in step.dispatch if not obeyed(step.verification, job))
    for shift_ns in (-3600 * SECOND_NS, 3600 * SECOND_NS):
        seen = report(verifier)
        exchange = seen.exchanges[0]
        jumped = replace(exchange.replies[0], received_at_ns=exchange.replies[0].received_at_ns + shift_ns)
        moved = replace(seen, exchanges=(replace(exchange, replies=(jumped,)),))
        done = handle(step.verification, Reported(moved), ends_ns(step.dispatch), POLICY).verification
        assert isinstance(done.verdict, ControlRefuted)


def test_a_coordinators_clock_that_is_set_back_delays_and_does_not_confuse() -> None:
    step = round_of(first_round(challenged()))
    due_ns = next_wake_ns(step.verification, POLICY)
    assert due_ns is not None
    assert handle(step.verification, Wake(), due_ns - 3600 * SECOND_NS, POLICY) == Step(step.verification)
    ahead = handle(step.verification, Wake(), due_ns + 600 * SECOND_NS, POLICY)
    assert {job.start_at_ns for job in ahead.dispatch} == {due_ns + 600 * SECOND_NS + POLICY.lead_ns}


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("obeying", [True, False])
def test_the_order_of_the_reports_of_a_round_reaches_no_verdict(variant: Variant, obeying: bool) -> None:
    verdicts = set()
    for turn in range(6):
        step = first_round(challenged(variant))
        while step.verification.state is State.MEASURING:
            shuffled = step.dispatch[turn:] + step.dispatch[:turn]
            before = step.verification
            step = report_all(Step(before, shuffled[::-1] if turn % 2 else shuffled), obeyed if obeying else True)
            if step.verification.state is State.MEASURING:
                step = wake(step.verification)
        verdict = step.verification.verdict
        # Which packet refutes is the first that was heard of; that something refutes is not a matter of order.
        verdicts.add(verdict if isinstance(verdict, ControlProven | Inconclusive) else ControlRefuted)
    assert len(verdicts) == 1


def test_the_record_of_an_attempt_stays_small_whatever_routers_quote() -> None:
    step = first_round(challenged())
    verifier = next(job for job in step.dispatch if not obeyed(step.verification, job))
    seen = report(verifier, False, refused=True)
    error = seen.exchanges[0].icmp[0]
    long = replace(seen.exchanges[0], icmp=(replace(error, quoted=error.quoted + bytes(2000)),))
    stored = handle(step.verification, Reported(replace(seen, exchanges=(long,))), ends_ns(step.dispatch), POLICY)
    observed: Observation = attempt_of(stored.verification).observations[-1]
    assert observed.outcome is Outcome.REFUSED
    assert observed.packet == seen.exchanges[0].request


def test_a_round_asks_every_row() -> None:
    fired: Round = attempt_of(first_round(challenged()).verification).rounds[0]
    challenge = attempt_of(first_round(challenged()).verification).challenge
    assert challenge is not None
    assert fired.leased == tuple(range(len(challenge.rows)))
