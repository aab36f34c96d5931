"""The life of one verification: a state machine with one entry, `handle(verification, event, now) -> Step`.

    REQUESTED --Begin--> BASELINE --all paths known--> CHALLENGED --OwnerReady--> MEASURING --verdict--> CONCLUDED
    CHALLENGED --nobody said ready--> EXPIRED      any open state --Withdraw--> WITHDRAWN
    CONCLUDED without proof, or EXPIRED --Begin--> BASELINE      a new attempt with new roles and a smaller error budget

The shell saves a verification before it does anything. All that happens next follows from the saved value:
`next_wake_ns` says when to look again, `outstanding` which jobs are not yet accounted for. So a coordinator that comes
back from SIGKILL needs nothing else, and no step can be taken twice.

Proof is a latch: a proven verification accepts no further event.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from poolproof.challenge import Expectation, Observation, Round
from poolproof.cohort import Candidate, candidates, draw
from poolproof.decide import Assessment
from poolproof.distrust import failures, given_up, without
from poolproof.foreign import check
from poolproof.ids import JobId, VantageId
from poolproof.job import Job, Report
from poolproof.measuring import assess, next_due_ns, next_start_ns
from poolproof.outcome import Outcome
from poolproof.plan import (
    BASELINE,
    baseline_ends_ns,
    baseline_exchanges,
    baseline_jobs,
    observation,
    parse_job_id,
    path,
    round_ends_ns,
    round_exchanges,
    round_jobs,
)
from poolproof.policy import Policy
from poolproof.verdict import NOTHING, ControlProven, Inconclusive, Reason, Verdict
from poolproof.verification import (
    Attempt,
    BaselinePath,
    Begin,
    Distrusted,
    Event,
    Foreign,
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

MAX_ATTEMPTS = 20
"""Attempts that one verification keeps: its record stays within what a store takes (1.4 MB)."""
_DAY_NS = 86_400_000_000_000


def handle(verification: Verification, event: Event, now_ns: int, policy: Policy) -> Step:
    """The one entry.

    Raises:
        NotNowError: the state does not take this event.
        ForeignReportError: a report of something else.
    """
    match event:
        case Begin():
            return _begin(verification, event, now_ns, policy)
        case Reported(report):
            return _reported(verification, report, now_ns, policy)
        case Unreachable(jobs):
            return _unreachable(verification, jobs, now_ns, policy)
        case Distrusted(vantage):
            return _distrusted(verification, vantage, now_ns, policy)
        case OwnerReady():
            return _ready(verification, now_ns, policy)
        case Withdraw():
            if not verification.state.is_open:
                raise NotNowError(f"verification {verification.id} is {verification.state.value}: nothing to withdraw")
            return Step(_conclude(verification, _idle(Reason.WITHDRAWN, verification), State.WITHDRAWN, now_ns))
        case Wake():
            due_ns = next_wake_ns(verification, policy)
            early = due_ns is None or now_ns < due_ns
            return Step(verification) if early else _advance(verification, now_ns, policy)
        case _:
            assert_never(event)


def next_wake_ns(verification: Verification, policy: Policy) -> int | None:
    """When `Wake` may change something; None if only other events can."""
    attempt = verification.attempt
    if attempt is None:
        return None
    match verification.state:
        case State.BASELINE:
            return baseline_ends_ns(attempt.baseline_start_at_ns, policy)
        case State.CHALLENGED:
            return attempt.challenged_at_ns + policy.ready_window_ns
        case State.MEASURING:
            return min(next_due_ns(attempt, assess(attempt, policy), policy), _measuring_ends_ns(attempt, policy))
        case State.REQUESTED | State.CONCLUDED | State.EXPIRED | State.WITHDRAWN:
            return None
        case _:
            assert_never(verification.state)


def outstanding(verification: Verification, policy: Policy) -> tuple[Job, ...]:
    """Jobs handed out, or about to be, and not accounted for. Handing them out again is harmless."""
    attempt = verification.attempt
    if attempt is None:
        return ()
    if verification.state is State.BASELINE:
        known = {entry.vantage for entry in attempt.paths}
        jobs = baseline_jobs(
            verification.id,
            attempt.number,
            verification.target,
            attempt.candidates,
            attempt.baseline_start_at_ns,
            policy,
        )
        return tuple(job for job in jobs if job.vantage not in known)
    if verification.state is State.MEASURING and attempt.challenge is not None:
        seen = {(observation.round, observation.row) for observation in attempt.observations}
        return tuple(
            job
            for fired in attempt.rounds
            for job in round_jobs(
                verification.id,
                attempt.number,
                attempt.seed,
                verification.target,
                attempt.challenge,
                replace(fired, leased=tuple(row for row in fired.leased if (fired.number, row) not in seen)),
                policy,
            )
        )
    return ()


def retry_not_before_ns(verification: Verification, policy: Policy) -> int:
    """When the next attempt may begin; the pause doubles with each attempt, up to a day."""
    attempt = verification.attempt
    if attempt is None:
        return 0
    return attempt.concluded_at_ns + min(_DAY_NS, policy.retry_spacing_ns << min(len(verification.attempts) - 1, 20))


def _begin(verification: Verification, event: Begin, now_ns: int, policy: Policy) -> Step:
    if isinstance(verification.verdict, ControlProven):
        raise NotNowError(f"verification {verification.id} is proven already: a proof is needed once")
    if verification.state not in (State.REQUESTED, State.CONCLUDED, State.EXPIRED):
        raise NotNowError(f"verification {verification.id} is {verification.state.value}: it has an attempt under way")
    if len(verification.attempts) >= MAX_ATTEMPTS:
        raise NotNowError(
            f"verification {verification.id}: it has had {MAX_ATTEMPTS} attempts, the most that one verification keeps;"
            " request a new verification of the target"
        )
    if verification.attempts and event.number <= verification.attempts[-1].number:
        raise ValueError(
            f"attempt {event.number} of verification {verification.id}: number {verification.attempts[-1].number} is"
            " spent; give the next one of the target"
        )
    if now_ns < (earliest := retry_not_before_ns(verification, policy)):
        wait_s = -((now_ns - earliest) // 1_000_000_000)
        raise NotNowError(f"verification {verification.id}: the next attempt may begin in {wait_s} s; try again then")
    chosen = candidates(event.fleet, verification.target, verification.variant, event.number, event.seed, policy)
    attempt = Attempt(
        event.number, event.seed, event.traceparent, now_ns, chosen, baseline_start_at_ns=now_ns + policy.lead_ns
    )
    begun = replace(verification, state=State.BASELINE, attempts=(*verification.attempts, attempt))
    if not chosen:
        return Step(_conclude(begun, Inconclusive(Reason.TOO_FEW_VANTAGES, (), NOTHING), State.CONCLUDED, now_ns))
    return Step(begun, outstanding(begun, policy))


def _reported(verification: Verification, report: Report, now_ns: int, policy: Policy) -> Step:
    attempt = verification.attempt
    if attempt is None:
        raise ForeignReportError(
            Foreign.NO_SUCH_JOB, f"report {report.job}: verification {verification.id} has asked for nothing yet"
        )
    phase, vantage = parse_job_id(report.job, verification.id, attempt.number)
    if phase == BASELINE:
        for candidate in attempt.candidates:
            if candidate.vantage.id == vantage:
                sources = (candidate.source,) * baseline_exchanges(candidate, policy)
                check(report, vantage, sources, verification.target)
                return _baseline_report(verification, attempt, report, candidate, now_ns, policy)
    elif attempt.challenge is not None and (fired := _fired(attempt, phase)) is not None:
        for row in fired.leased:
            asked = attempt.challenge.rows[row]
            if asked.perspective.vantage == vantage:
                check(report, vantage, round_exchanges(asked, fired.number, attempt.seed), verification.target)
                return _round_report(verification, attempt, report, row, fired.number, now_ns, policy)
    earlier = (each.number for each in verification.attempts[:-1])
    old = any(parse_job_id(report.job, verification.id, number)[0] for number in earlier)
    raise ForeignReportError(
        Foreign.OLD_ATTEMPT if old else Foreign.NO_SUCH_JOB,
        f"report {report.job}: attempt {attempt.number} of verification {verification.id} has no such job",
    )


def _fired(attempt: Attempt, phase: str) -> Round | None:
    """The round that a job id names, if it names it the way that we do: one job has one id."""
    return next((fired for fired in attempt.rounds if str(fired.number) == phase), None)


def _baseline_report(
    verification: Verification, attempt: Attempt, report: Report, candidate: Candidate, now_ns: int, policy: Policy
) -> Step:
    if verification.state is not State.BASELINE or any(entry.vantage == report.vantage for entry in attempt.paths):
        return Step(verification)
    entry = BaselinePath(report.vantage, path(report, candidate, policy))
    return _advance(_update(verification, replace(attempt, paths=(*attempt.paths, entry))), now_ns, policy)


def _round_report(
    verification: Verification, attempt: Attempt, report: Report, row: int, number: int, now_ns: int, policy: Policy
) -> Step:
    known = any(seen.row == row and seen.round == number for seen in attempt.observations)
    if verification.state is not State.MEASURING or known or attempt.challenge is None:
        return Step(verification)
    expected = attempt.challenge.rows[row].expected[attempt.rounds[number].window]
    seen = observation(report, row, attempt.challenge.rows[row], number, attempt.seed)
    if expected is Expectation.ANSWER:
        # An expected answer needs no packet: the raw report is kept, and this record must stay small. Nor is it a flood
        # in a monitor's name that could make it look blocked.
        seen = replace(seen, packet=b"", unasked=(), unasked_total=0)
    attempt = replace(attempt, observations=(*attempt.observations, seen))
    verification = _update(verification, attempt)
    refutes = expected is Expectation.SILENCE and (seen.outcome.is_answer or bool(seen.unasked))
    if not refutes and not _accounted(attempt) and now_ns < round_ends_ns(attempt.rounds[-1].start_at_ns, policy):
        return Step(verification)
    return _advance(verification, now_ns, policy)


def _accounted(attempt: Attempt) -> bool:
    """Whether every exchange leased so far has been reported."""
    return len(attempt.observations) >= sum(len(fired.leased) for fired in attempt.rounds)


def _unreachable(verification: Verification, jobs: tuple[JobId, ...], now_ns: int, policy: Policy) -> Step:
    attempt = verification.attempt
    if attempt is None:
        return Step(verification)
    open_jobs = {job.id: job for job in outstanding(verification, policy)}
    for job_id in jobs:
        if (job := open_jobs.get(job_id)) is None:
            continue
        if verification.state is State.BASELINE:
            attempt = replace(attempt, paths=(*attempt.paths, BaselinePath(job.vantage, None)))
        elif attempt.challenge is not None:
            number = int(parse_job_id(job_id, verification.id, attempt.number)[0])
            views = [row.perspective.vantage for row in attempt.challenge.rows]
            failed = Observation(views.index(job.vantage), number, Outcome.PROBE_FAILED)
            attempt = replace(attempt, observations=(*attempt.observations, failed))
    return _advance(_update(verification, attempt), now_ns, policy)


def _distrusted(verification: Verification, vantage: VantageId, now_ns: int, policy: Policy) -> Step:
    """What is closed stays as it is; an attempt that cannot come to a proof without the vantage ends."""
    attempt = verification.attempt
    if attempt is None or not verification.state.is_open:
        return Step(verification)
    left = without(attempt, vantage)
    if left == attempt:
        return Step(verification)
    if (verdict := given_up(left, policy)) is not None:
        return Step(_conclude(_update(verification, left), verdict, State.CONCLUDED, now_ns))
    return _advance(_update(verification, left), now_ns, policy)


def _ready(verification: Verification, now_ns: int, policy: Policy) -> Step:
    attempt = verification.attempt
    if verification.state is State.MEASURING:
        return Step(verification)
    if verification.state is not State.CHALLENGED or attempt is None:
        raise NotNowError(
            f"verification {verification.id} is {verification.state.value}: say ready once it is "
            f"{State.CHALLENGED.value} and its instructions are carried out"
        )
    measuring = replace(verification, state=State.MEASURING)
    return _advance(_update(measuring, replace(attempt, ready_at_ns=now_ns)), now_ns, policy)


def _advance(verification: Verification, now_ns: int, policy: Policy) -> Step:
    """Take every step that the time and what is known allow."""
    attempt = verification.attempt
    if attempt is None:
        return Step(verification)
    match verification.state:
        case State.BASELINE:
            complete = len(attempt.paths) == len(attempt.candidates)
            if not complete and now_ns < baseline_ends_ns(attempt.baseline_start_at_ns, policy):
                return Step(verification)
            return Step(_challenge(verification, attempt, now_ns, policy))
        case State.CHALLENGED:
            if now_ns < attempt.challenged_at_ns + policy.ready_window_ns:
                return Step(verification)
            expired = _idle(Reason.NOT_READY_IN_TIME, verification)
            return Step(_conclude(verification, expired, State.EXPIRED, now_ns))
        case State.MEASURING:
            return _measure(verification, attempt, now_ns, policy)
        case State.REQUESTED | State.CONCLUDED | State.EXPIRED | State.WITHDRAWN:
            return Step(verification)
        case _:
            assert_never(verification.state)


def _challenge(verification: Verification, attempt: Attempt, now_ns: int, policy: Policy) -> Verification:
    by_id = {candidate.vantage.id: candidate for candidate in attempt.candidates}
    known = [(by_id[entry.vantage], entry.path) for entry in attempt.paths if entry.path is not None]
    # Who was sent packets that nobody asked for is being flooded in its name already: nothing can be learned from it.
    usable = [
        (candidate, seen)
        for candidate, seen in known
        if seen.answered >= policy.baseline_min_answers and not seen.unasked
    ]
    # In a canonical order: the order in which reports came must not reach a decision.
    usable.sort(key=lambda pair: pair[0].vantage.id)
    challenge = draw(usable, verification.target, verification.variant, attempt.number, attempt.seed, policy)
    if challenge is None:
        # A probe that failed by itself, or was not there, says nothing about the target.
        asked = [seen for _, seen in known if seen.asked >= policy.baseline_min_answers]
        few_answered = asked and len(usable) <= len(asked) // 2
        reason = Reason.BASELINE_UNANSWERED if few_answered else Reason.TOO_FEW_VANTAGES
        if any(seen.unasked for _, seen in known):
            reason = Reason.BACKSCATTER
        return _conclude(verification, Inconclusive(reason, (), NOTHING), State.CONCLUDED, now_ns)
    challenged = replace(attempt, challenge=challenge, challenged_at_ns=now_ns)
    return _update(replace(verification, state=State.CHALLENGED), challenged)


def _measure(verification: Verification, attempt: Attempt, now_ns: int, policy: Policy) -> Step:
    assessment = assess(attempt, policy)
    due_ns = next_due_ns(attempt, assessment, policy)
    verification = _update(verification, replace(attempt, verdict=assessment.verdict))
    given_up = now_ns >= due_ns and (assessment.only_reports_missing or _reports_keep_missing(assessment, policy))
    if assessment.final or given_up or now_ns >= _measuring_ends_ns(attempt, policy):
        return Step(_conclude(verification, assessment.verdict, State.CONCLUDED, now_ns))
    if now_ns < due_ns or attempt.challenge is None:
        return Step(verification)
    start_at_ns = max(next_start_ns(attempt, assessment, policy), now_ns + policy.lead_ns)
    if round_ends_ns(start_at_ns, policy) > _measuring_ends_ns(attempt, policy):
        # What a round shows that cannot be reported in time would be held for missing reports.
        return Step(_conclude(verification, assessment.verdict, State.CONCLUDED, now_ns))
    fired = Round(len(attempt.rounds), 0, start_at_ns, tuple(range(len(attempt.challenge.rows))))
    jobs = round_jobs(
        verification.id, attempt.number, attempt.seed, verification.target, attempt.challenge, fired, policy
    )
    attempt = replace(
        attempt,
        verdict=assessment.verdict,
        rounds=(*attempt.rounds, fired),
        observations=attempt.observations + failures(attempt, fired),
    )
    return Step(_update(verification, attempt), tuple(job for job in jobs if job.vantage not in attempt.distrusted))


def _measuring_ends_ns(attempt: Attempt, policy: Policy) -> int:
    return attempt.ready_at_ns + policy.measuring_window_ns


def _reports_keep_missing(assessment: Assessment, policy: Policy) -> bool:
    """A probe that takes jobs and never reports allows no proof; an attempt does not go on for hours because of it."""
    return sum(state.reason is Reason.REPORT_MISSING for state in assessment.rounds) >= policy.max_rounds


def _idle(reason: Reason, verification: Verification) -> Inconclusive:
    verdict = verification.verdict
    return Inconclusive(reason, (), verdict.tally)


def _conclude(verification: Verification, verdict: Verdict, state: State, now_ns: int) -> Verification:
    attempt = verification.attempt
    concluded = replace(verification, state=state)
    return (
        concluded if attempt is None else _update(concluded, replace(attempt, verdict=verdict, concluded_at_ns=now_ns))
    )


def _update(verification: Verification, attempt: Attempt) -> Verification:
    return replace(verification, attempts=(*verification.attempts[:-1], attempt))
