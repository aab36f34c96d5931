"""When an attempt that is measuring does what: the next round, the pause before it, the wait for missing reports."""

from __future__ import annotations

from poolproof.decide import Assessment, decide
from poolproof.plan import round_ends_ns
from poolproof.policy import Policy
from poolproof.verdict import Reason
from poolproof.verification import Attempt


def assess(attempt: Attempt, policy: Policy) -> Assessment:
    """Judge an attempt as things stand."""
    if attempt.challenge is None:
        raise AssertionError(f"attempt {attempt.number} is measured without a challenge")
    return decide(attempt.challenge, attempt.rounds, attempt.observations, attempt.number, policy)


def next_start_ns(attempt: Attempt, assessment: Assessment, policy: Policy) -> int:
    """When the next round's packets go out: settled, spaced, and ever more rarely while the target serves too few."""
    if not attempt.rounds:
        return attempt.ready_at_ns + policy.settle_ns
    streak = 0
    for state in reversed(assessment.rounds):
        if state.reason is None:
            break
        # A round whose reports are missing neither ends a time of too little service nor makes one longer.
        streak += state.reason is not Reason.REPORT_MISSING
    spacing = min(policy.max_round_spacing_ns, policy.round_spacing_ns << max(0, min(streak, 20) - 1))
    return attempt.rounds[-1].start_at_ns + spacing


def next_due_ns(attempt: Attempt, assessment: Assessment, policy: Policy) -> int:
    """When time alone changes something: the next round can be fired, or missing reports are given up.

    A round is fired once the last one is accounted for or overdue, and its start is near.
    """
    if assessment.only_reports_missing:
        return round_ends_ns(attempt.rounds[-1].start_at_ns, policy) + policy.missing_grace_ns
    due_ns = next_start_ns(attempt, assessment, policy) - policy.lead_ns
    if not attempt.rounds:
        return due_ns
    last = attempt.rounds[-1]
    seen = {observation.row for observation in attempt.observations if observation.round == last.number}
    return due_ns if seen.issuperset(last.leased) else max(due_ns, round_ends_ns(last.start_at_ns, policy))
