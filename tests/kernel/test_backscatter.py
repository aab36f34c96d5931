"""What tripwires catch, from the baseline to the verdict: who is flooded takes no part, and a flood later refutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from poolproof.capture import Capture, UnaskedKind, UnaskedPacket
from poolproof.fleet import Role
from poolproof.job import Job, Report
from poolproof.lifecycle import handle
from poolproof.plan import baseline_ends_ns, round_ends_ns
from poolproof.policy import Assurance
from poolproof.target import whole
from poolproof.variant import Variant
from poolproof.verdict import Ceiling, ControlProven, ControlRefuted, Inconclusive, Reason
from poolproof.verification import Reported, State, Step, Verification
from tests.kernel.fleets import (
    POLICY,
    START_NS,
    TARGET6,
    attempt_of,
    begin,
    by_step,
    challenged,
    ends_ns,
    first_round,
    obeyed,
    report,
    requested,
    wake,
)


def packet(at_ns: int) -> UnaskedPacket:
    return UnaskedPacket(UnaskedKind.UDP, at_ns, "203.0.113.7", "192.0.2.1", b"\x24\x02")


def reported(step: Step, see: Callable[[Verification, Job], Report]) -> Step:
    """Every dispatched job reported; what the last report leads to."""
    at_ns, jobs = ends_ns(step.dispatch), step.dispatch
    for job in jobs:
        step = handle(step.verification, Reported(see(step.verification, job)), at_ns, POLICY)
    return step


def flooded_baseline(flooded: set[str], size: int = 16, variant: Variant = Variant.BLOCK) -> Verification:
    def see(_: Verification, job: Job) -> Report:
        return report(job, unasked=(packet(job.start_at_ns),) if job.vantage in flooded else ())

    return reported(handle(requested(variant), begin(size=size), START_NS, POLICY), see).verification


def test_who_is_sent_what_nobody_asked_for_before_the_challenge_takes_no_part() -> None:
    asked = attempt_of(challenged()).candidates[0].vantage.id
    done = flooded_baseline({asked})
    assert done.state is State.CHALLENGED
    challenge = attempt_of(done).challenge
    assert challenge is not None
    assert asked not in {row.perspective.vantage for row in challenge.rows}


def test_a_baseline_in_which_too_many_are_flooded_says_so() -> None:
    done = flooded_baseline({f"v{i:02}" for i in range(16)})
    assert done.state is State.CONCLUDED
    assert isinstance(done.verdict, Inconclusive)
    assert done.verdict.reason is Reason.BACKSCATTER


def test_the_watch_lasts_from_the_first_job_until_the_owner_may_say_ready_and_on_from_round_to_round() -> None:
    step = handle(requested(), begin(), START_NS, POLICY)
    ready_by_ns = baseline_ends_ns(step.dispatch[0].start_at_ns, POLICY) + POLICY.ready_window_ns
    assert all(job.watch_until_ns > ready_by_ns for job in step.dispatch)
    fired = first_round(challenged())
    next_by_ns = round_ends_ns(fired.dispatch[0].start_at_ns, POLICY) + POLICY.max_round_spacing_ns
    assert all(job.watch_until_ns > next_by_ns for job in fired.dispatch)


def test_a_flood_after_the_challenge_refutes_with_the_report_that_shows_it() -> None:
    fired = first_round(challenged())
    blocked = [job for job in fired.dispatch if not obeyed(fired.verification, job)]
    seen = packet(fired.dispatch[0].start_at_ns - 1)
    done = handle(
        fired.verification, Reported(report(blocked[0], False, unasked=(seen,))), ends_ns(fired.dispatch), POLICY
    ).verification
    assert done.state is State.CONCLUDED
    verdict = done.verdict
    assert isinstance(verdict, ControlRefuted)
    assert (verdict.reason, verdict.perspective.vantage) == (Reason.BACKSCATTER, blocked[0].vantage)
    assert (verdict.sighting.received_at_ns, verdict.sighting.packet) == (seen.received_at_ns, seen.payload)


def test_a_flood_in_the_name_of_those_who_are_answered_is_not_kept() -> None:
    fired = first_round(challenged())
    served = [job for job in fired.dispatch if obeyed(fired.verification, job)]
    done = handle(
        fired.verification, Reported(report(served[0], unasked=(packet(1),))), ends_ns(fired.dispatch), POLICY
    ).verification
    assert done.state is State.MEASURING
    assert attempt_of(done).observations[0].unasked == ()


def proven(verification: Verification, see: Callable[[Verification, Job], Report]) -> ControlProven:
    step = first_round(verification)
    while True:
        step = reported(step, see)
        if not step.verification.state.is_open:
            break
        step = step if step.dispatch else wake(step.verification)
    assert isinstance(step.verification.verdict, ControlProven), step.verification.verdict
    return step.verification.verdict


@pytest.mark.parametrize(
    ("spoil", "ceiling"),
    [
        (lambda capture: capture, Ceiling.WITNESSES),
        (lambda capture: None, Ceiling.UNWATCHED),
        (lambda capture: replace(capture, since_ns=capture.until_ns - 1), Ceiling.UNWATCHED),
        (lambda capture: replace(capture, lost=1), Ceiling.UNWATCHED),
        (lambda capture: replace(capture, until_ns=capture.since_ns), Ceiling.UNWATCHED),
    ],
    ids=["watched throughout", "no tripwire", "armed anew after the baseline", "packets lost", "ended too early"],
)
def test_a_watch_with_a_hole_is_none(spoil: Callable[[Capture], Capture | None], ceiling: Ceiling) -> None:
    def see(verification: Verification, job: Job) -> Report:
        whole = report(job, obeyed(verification, job))
        assert whole.capture is not None
        return replace(whole, capture=spoil(whole.capture))

    verdict = proven(challenged(Variant.ALLOW_ONLY), see)
    assert verdict.ceiling is ceiling
    assert verdict.assurance is (Assurance.STRONG if ceiling is Ceiling.WITNESSES else Assurance.MEDIUM)


def test_a_path_that_was_not_watched_in_the_baseline_is_never_watched() -> None:
    step = handle(requested(Variant.ALLOW_ONLY), begin(), START_NS, POLICY)
    bare = reported(step, lambda _, job: report(job, tripwire=False)).verification
    verdict = proven(bare, lambda verification, job: report(job, obeyed(verification, job)))
    assert (verdict.assurance, verdict.ceiling) == (Assurance.MEDIUM, Ceiling.UNWATCHED)


def test_silence_of_both_halves_of_a_prefix_is_a_limit_by_prefix_as_well_as_an_owners_rule() -> None:
    """The owner was told one half. Somebody who floods from it fills a firewall's limit for all of it."""
    verification = challenged(target=TARGET6, prefix=True)
    verdict = proven(verification, lambda held, job: report(job, obeyed(held, job)))
    assert (verdict.assurance, verdict.ceiling) == (Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE)


def test_the_owner_is_told_one_half_of_each_prefix_and_the_other_is_asked_as_well() -> None:
    fired = first_round(challenged(target=TARGET6, prefix=True))
    challenge = attempt_of(fired.verification).challenge
    assert challenge is not None
    told = {row.perspective.vantage: row for row in challenge.rows if row.neighbour}
    assert len(told) == POLICY.must_be_silent
    for job in fired.dispatch:
        row = told.get(job.vantage)
        if row is None:
            assert [step.source for step in job.steps] == [""]
            continue
        assert {step.source for step in job.steps} == {row.perspective.source, row.neighbour}
        assert job.source == whole(row.neighbour) == whole(row.perspective.source)
    lower = {row.perspective.source < row.neighbour for row in told.values()}
    assert lower == {True, False}, "which half is drawn"


def test_silence_at_a_prefix_is_watched_as_a_whole() -> None:
    verification = challenged(target=TARGET6, prefix=True)
    verdict = proven(verification, lambda held, job: report(job, by_step(held, job)))
    assert (verdict.assurance, verdict.ceiling) == (Assurance.STRONG, Ceiling.PREFIX)
    challenge = attempt_of(verification).challenge
    assert challenge is not None
    assert all(row.perspective.is_prefix for row in challenge.rows if row.perspective.role is Role.MUST_BE_BLOCKED)
