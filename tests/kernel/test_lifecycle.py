"""The life of one verification: which event leads where, what is refused, and what time alone brings about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolproof.exchange import LocalFault
from poolproof.fleet import Role
from poolproof.ids import JobId, VantageId
from poolproof.job import Report
from poolproof.lifecycle import MAX_ATTEMPTS, handle, next_wake_ns, outstanding, retry_not_before_ns
from poolproof.plan import baseline_ends_ns
from poolproof.policy import SECOND_NS
from poolproof.variant import Variant
from poolproof.verdict import ControlProven, ControlRefuted, Reason
from poolproof.verification import (
    Event,
    ForeignReportError,
    NotNowError,
    OwnerReady,
    Reported,
    State,
    Step,
    Unreachable,
    Verification,
    Wake,
    Withdraw,
)
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

DAY_NS = 86_400 * SECOND_NS


def proven(variant: Variant = Variant.BLOCK) -> Verification:
    step = first_round(challenged(variant))
    while (step := round_of(step)).verification.state is State.MEASURING:
        step = wake(step.verification)
    return step.verification


def refuted() -> Verification:
    return round_of(first_round(challenged()), obeying=False).verification


def expired() -> Verification:
    return wake(challenged()).verification


def withdrawn() -> Verification:
    return handle(challenged(), Withdraw(), ready_at_ns(challenged()), POLICY).verification


def baseline() -> Verification:
    return handle(requested(), begin(), START_NS, POLICY).verification


def measuring() -> Verification:
    return first_round(challenged()).verification


LATER_NS = START_NS + 400 * DAY_NS

SITUATIONS = {
    "requested": requested,
    "baseline": baseline,
    "challenged": challenged,
    "measuring": measuring,
    "proven": proven,
    "refuted": refuted,
    "expired": expired,
    "withdrawn": withdrawn,
}

LEADS_TO: dict[tuple[str, str], State | None] = {
    ("requested", "begin"): State.BASELINE,
    ("requested", "ready"): None,
    ("requested", "withdraw"): State.WITHDRAWN,
    ("baseline", "begin"): None,
    ("baseline", "ready"): None,
    ("baseline", "withdraw"): State.WITHDRAWN,
    ("challenged", "begin"): None,
    ("challenged", "ready"): State.MEASURING,
    ("challenged", "withdraw"): State.WITHDRAWN,
    ("measuring", "begin"): None,
    ("measuring", "ready"): State.MEASURING,
    ("measuring", "withdraw"): State.WITHDRAWN,
    ("proven", "begin"): None,
    ("proven", "ready"): None,
    ("proven", "withdraw"): None,
    ("refuted", "begin"): State.BASELINE,
    ("refuted", "ready"): None,
    ("refuted", "withdraw"): None,
    ("expired", "begin"): State.BASELINE,
    ("expired", "ready"): None,
    ("expired", "withdraw"): None,
    ("withdrawn", "begin"): None,
    ("withdrawn", "ready"): None,
    ("withdrawn", "withdraw"): None,
}
EVENTS: dict[str, Event] = {"begin": begin(2), "ready": OwnerReady(), "withdraw": Withdraw()}


@pytest.mark.parametrize(("situation", "event"), LEADS_TO, ids=lambda value: value)
def test_every_event_in_every_state_leads_where_it_should_or_is_refused(situation: str, event: str) -> None:
    before = SITUATIONS[situation]()
    wanted = LEADS_TO[situation, event]
    now_ns = ready_at_ns(before) if situation == "challenged" else LATER_NS
    if wanted is None:
        with pytest.raises(NotNowError, match=f"verification {before.id}"):
            handle(before, EVENTS[event], now_ns, POLICY)
        return
    after = handle(before, EVENTS[event], now_ns, POLICY).verification
    assert after.state is wanted
    assert after.attempts[: len(before.attempts) - 1] == before.attempts[:-1], "earlier attempts stay as they were"


@pytest.mark.parametrize("situation", SITUATIONS)
def test_waking_early_or_for_nothing_changes_nothing(situation: str) -> None:
    before = SITUATIONS[situation]()
    due_ns = next_wake_ns(before, POLICY)
    assert (due_ns is not None) == (situation in ("baseline", "challenged", "measuring"))
    early_ns = LATER_NS if due_ns is None else due_ns - 1
    assert handle(before, Wake(), early_ns, POLICY) == Step(before)


@pytest.mark.parametrize("situation", ["baseline", "challenged", "measuring"])
def test_what_waits_is_woken_until_it_is_closed(situation: str) -> None:
    """Nobody reports, nobody says anything: time alone ends every attempt, and each wake brings it forward."""
    verification, woken_ns = SITUATIONS[situation](), 0
    for _ in range(500):
        due_ns = next_wake_ns(verification, POLICY)
        if due_ns is None:
            break
        assert due_ns > woken_ns
        woken_ns = due_ns
        verification = handle(verification, Wake(), due_ns, POLICY).verification
    assert not verification.state.is_open
    assert not isinstance(verification.verdict, ControlProven)
    assert outstanding(verification, POLICY) == ()


@pytest.mark.parametrize("variant", Variant)
def test_an_owner_who_does_what_is_asked_is_proven(variant: Variant) -> None:
    done = proven(variant)
    assert done.state is State.CONCLUDED
    assert isinstance(done.verdict, ControlProven)
    assert attempt_of(done).concluded_at_ns > attempt_of(done).rounds[-1].start_at_ns


def test_ipv6_prefixes_are_burst_at_in_the_baseline_and_shown_in_the_rounds() -> None:
    first = handle(requested(target=TARGET6), begin(prefix=True), START_NS, POLICY)
    assert {len(job.steps) for job in first.dispatch} == {POLICY.prefix_burst + POLICY.baseline_exchanges}
    rows = attempt_of(report_all(first).verification).challenge
    assert rows is not None
    assert not any(row.forgeable for row in rows.rows if row.perspective.role is Role.MUST_BE_BLOCKED)


@pytest.mark.parametrize(
    ("answered", "limited"),
    [
        (lambda step: True, False),
        (lambda step: step < POLICY.prefix_burst or step % 2 == 0, True),
        (lambda step: step >= POLICY.prefix_burst, True),
        (lambda step: step == 0 or step >= POLICY.prefix_burst + 3, False),
    ],
    ids=["answers all", "half after the burst", "burst lost: not tried", "some loss"],
)
def test_a_prefix_is_relied_on_only_if_it_was_tried(answered, limited: bool) -> None:  # type: ignore[no-untyped-def]
    step = handle(requested(target=TARGET6), begin(prefix=True), START_NS, POLICY)
    at_ns = ends_ns(step.dispatch)
    for job in step.dispatch:
        step = handle(step.verification, Reported(report(job, answered)), at_ns, POLICY)
    paths = [entry.path for entry in attempt_of(step.verification).paths]
    assert all(path is not None and path.prefix_limited is limited for path in paths)


def test_a_server_that_answers_everybody_is_refuted_by_the_first_report_that_says_so() -> None:
    step = first_round(challenged())
    verifier = next(job for job in step.dispatch if not obeyed(step.verification, job))
    done = handle(step.verification, Reported(report(verifier)), ends_ns(step.dispatch), POLICY).verification
    assert done.state is State.CONCLUDED
    assert isinstance(done.verdict, ControlRefuted)
    assert done.verdict.perspective.vantage == verifier.vantage
    assert done.verdict.sighting.packet
    for job in step.dispatch:
        again = handle(done, Reported(report(job, obeyed(step.verification, job))), LATER_NS, POLICY)
        assert again == Step(done), "what comes after the verdict changes nothing"


def test_no_report_changes_a_proof() -> None:
    done = proven()
    rounds = [(fired, attempt_of(done)) for fired in attempt_of(done).rounds]
    assert rounds
    step = first_round(challenged())
    for job in step.dispatch:
        assert handle(done, Reported(report(job)), LATER_NS, POLICY) == Step(done)
    assert handle(done, Unreachable(tuple(job.id for job in step.dispatch)), LATER_NS, POLICY) == Step(done)


@pytest.mark.parametrize("situation", ["baseline", "measuring"])
def test_a_report_counts_once(situation: str) -> None:
    before = SITUATIONS[situation]()
    job = outstanding(before, POLICY)[0]
    once = handle(before, Reported(report(job)), job.start_at_ns, POLICY).verification
    assert job not in outstanding(once, POLICY)
    twice = handle(once, Reported(report(job, answered=False)), job.start_at_ns + 1, POLICY)
    assert twice == Step(once)


def _spoiled(genuine: Report) -> dict[str, Report]:
    exchange = genuine.exchanges[0]
    fewer, more = genuine.exchanges[1:], (*genuine.exchanges, exchange)
    elsewhere = (replace(exchange, destination="203.0.113.8"), *genuine.exchanges[1:])
    other_port = (*genuine.exchanges[:-1], replace(genuine.exchanges[-1], port=124))
    verification, attempt, phase, vantage = genuine.job.split("/")
    return {
        "another vantage": replace(genuine, vantage=VantageId("v99")),
        "too few exchanges": replace(genuine, exchanges=fewer),
        "too many exchanges": replace(genuine, exchanges=more),
        "another target": replace(genuine, exchanges=elsewhere),
        "another port": replace(genuine, exchanges=other_port),
        "another verification": replace(genuine, job=JobId(f"verify2/{attempt}/{phase}/{vantage}")),
        "an earlier attempt": replace(genuine, job=JobId(f"{verification}/0/{phase}/{vantage}")),
        "a round to come": replace(genuine, job=JobId(f"{verification}/{attempt}/1/{vantage}")),
        "a round before the first": replace(genuine, job=JobId(f"{verification}/{attempt}/-1/{vantage}")),
        "another spelling of a round": replace(genuine, job=JobId(f"{verification}/{attempt}/00/{vantage}")),
        "no round": replace(genuine, job=JobId(f"{verification}/{attempt}/x/{vantage}")),
        "nobody": replace(genuine, job=JobId(f"{verification}/{attempt}/{phase}/v99"), vantage=VantageId("v99")),
        "too short": replace(genuine, job=JobId(verification)),
    }


@pytest.mark.parametrize("situation", ["baseline", "measuring"])
@pytest.mark.parametrize("spoiled", list(_spoiled(report(outstanding(baseline(), POLICY)[0]))))
def test_a_foreign_report_is_refused(situation: str, spoiled: str) -> None:
    before = SITUATIONS[situation]()
    foreign = _spoiled(report(outstanding(before, POLICY)[0]))[spoiled]
    with pytest.raises(ForeignReportError, match=f"report {foreign.job}: "):
        handle(before, Reported(foreign), LATER_NS, POLICY)


def test_a_report_before_anything_was_asked_is_foreign() -> None:
    job = outstanding(baseline(), POLICY)[0]
    with pytest.raises(ForeignReportError, match="has asked for nothing yet"):
        handle(requested(), Reported(report(job)), START_NS, POLICY)


def test_observations_of_an_earlier_attempt_are_never_used_again() -> None:
    step = first_round(challenged())
    old_jobs, old = step.dispatch, round_of(step, obeying=False).verification
    new = handle(old, begin(2), LATER_NS, POLICY).verification
    for job in old_jobs:
        with pytest.raises(ForeignReportError):
            handle(new, Reported(report(job)), LATER_NS, POLICY)
    assert attempt_of(new).observations == ()
    assert not {job.id for job in outstanding(new, POLICY)} & {job.id for job in old_jobs}


def test_an_attempts_number_is_spent_once() -> None:
    with pytest.raises(ValueError, match="attempt 1 of verification verify1: number 1 is spent"):
        handle(refuted(), begin(1), LATER_NS, POLICY)


def test_the_pause_before_the_next_attempt_doubles_up_to_a_day() -> None:
    verification, pauses = requested(), []
    for number in range(1, MAX_ATTEMPTS + 1):
        at_ns = retry_not_before_ns(verification, POLICY) or START_NS
        begun = handle(verification, begin(number, size=0), at_ns, POLICY).verification
        assert begun.state is State.CONCLUDED
        assert reason_of(begun) is Reason.TOO_FEW_VANTAGES
        earliest_ns = retry_not_before_ns(begun, POLICY)
        pauses.append((earliest_ns - at_ns) // SECOND_NS)
        with pytest.raises(NotNowError):
            handle(begun, begin(number + 1), earliest_ns - 1, POLICY)
        verification = begun
    assert pauses[:4] == [60, 120, 240, 480]
    assert pauses[-1] == 86_400
    with pytest.raises(NotNowError, match=r"20 attempts.*request a new verification"):
        handle(verification, begin(MAX_ATTEMPTS + 1), LATER_NS, POLICY)


def test_a_wait_is_given_in_seconds_that_are_over_then() -> None:
    done = refuted()
    with pytest.raises(NotNowError, match="may begin in 60 s"):
        handle(done, begin(2), attempt_of(done).concluded_at_ns + 1, POLICY)


def test_probes_that_are_not_there_do_not_hold_the_baseline_up() -> None:
    step = handle(requested(), begin(), START_NS, POLICY)
    absent, present = step.dispatch[:2], step.dispatch[2:]
    known = handle(step.verification, Unreachable(tuple(job.id for job in absent)), START_NS, POLICY).verification
    assert known.state is State.BASELINE
    done = report_all(Step(known, present)).verification
    assert done.state is State.CHALLENGED
    assert not {job.vantage for job in absent} & {
        row.perspective.vantage for row in getattr(attempt_of(done).challenge, "rows", ())
    }


def test_reports_that_do_not_come_hold_the_baseline_up_only_so_long() -> None:
    step = handle(requested(), begin(), START_NS, POLICY)
    waiting = report_all(Step(step.verification, step.dispatch[1:])).verification
    assert waiting.state is State.BASELINE
    assert next_wake_ns(waiting, POLICY) == baseline_ends_ns(attempt_of(waiting).baseline_start_at_ns, POLICY)
    assert wake(waiting).verification.state is State.CHALLENGED


@pytest.mark.parametrize(
    ("answered", "fault", "reason"),
    [
        (False, None, Reason.BASELINE_UNANSWERED),
        (False, LocalFault.GUARD_REFUSED, Reason.TOO_FEW_VANTAGES),
    ],
    ids=["the target answers nobody", "the probes fail by themselves"],
)
def test_a_baseline_without_answers_says_whose_fault_it_is(
    answered: bool, fault: LocalFault | None, reason: Reason
) -> None:
    step = handle(requested(), begin(), START_NS, POLICY)
    at_ns = ends_ns(step.dispatch)
    for job in step.dispatch:
        step = handle(step.verification, Reported(report(job, answered, fault=fault)), at_ns, POLICY)
    assert step.verification.state is State.CONCLUDED
    assert reason_of(step.verification) is reason


def test_an_owner_who_says_nothing_lets_it_expire() -> None:
    verification = challenged()
    assert next_wake_ns(verification, POLICY) == attempt_of(verification).challenged_at_ns + POLICY.ready_window_ns
    assert expired().state is State.EXPIRED
    assert reason_of(expired()) is Reason.NOT_READY_IN_TIME
