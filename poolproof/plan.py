"""From challenge to packets: the jobs of a baseline and of a round, and what their reports amount to.

Job ids are derived, not drawn: the same step of the same attempt always has the same id, so a coordinator that was
killed and comes back hands out the very same jobs, and a probe that has done one answers with the report it has.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import replace

from poolproof.challenge import MAX_SIGHTED, Challenge, Observation, Path, Round, Row
from poolproof.classify import answering_reply, classify_report, refusing_error
from poolproof.cohort import Candidate
from poolproof.exchange import Exchange, ExchangeKind
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import Job, Report, Step
from poolproof.outcome import Outcome
from poolproof.policy import SECOND_NS, Policy
from poolproof.refusal import RefusalKind, kind_of
from poolproof.target import Target, family_of, whole

PAIR_SPACING_NS = SECOND_NS // 50
"""Between the exchanges of a prefix's two halves: what cuts the one off, and is not the owner, cuts off the other."""
_WATCH_MORE_NS = 60 * SECOND_NS
"""A tripwire watches for this much longer than the next job can take to come."""
BASELINE = "baseline"
"""The phase in the id of a baseline job; a round's is its number."""


def baseline_job_id(verification: VerificationId, attempt: int, vantage: VantageId) -> JobId:
    """The id of one vantage's baseline job."""
    return JobId(f"{verification}/{attempt}/{BASELINE}/{vantage}")


def round_job_id(verification: VerificationId, attempt: int, number: int, vantage: VantageId) -> JobId:
    """The id of one vantage's job in one round."""
    return JobId(f"{verification}/{attempt}/{number}/{vantage}")


def parse_job_id(job: JobId, verification: VerificationId, attempt: int) -> tuple[str, VantageId]:
    """Phase (BASELINE or a round's number) and vantage of a job of one attempt; empty ones if it is of another."""
    prefix = f"{verification}/{attempt}/"
    phase, _, vantage = job.removeprefix(prefix).partition("/") if job.startswith(prefix) else ("", "", "")
    return phase, VantageId(vantage)


def baseline_exchanges(candidate: Candidate, policy: Policy) -> int:
    """How many steps a candidate's baseline job has."""
    return policy.baseline_exchanges + (policy.prefix_burst if "/" in candidate.source else 0)


def baseline_jobs(
    verification: VerificationId,
    attempt: int,
    target: Target,
    candidates: Sequence[Candidate],
    start_at_ns: int,
    policy: Policy,
) -> tuple[Job, ...]:
    """One short series for each candidate; a prefix first bursts from one address, then goes on from others."""
    return tuple(
        Job(
            id=baseline_job_id(verification, attempt, candidate.vantage.id),
            verification=verification,
            vantage=candidate.vantage.id,
            target=target,
            source=candidate.source,
            start_at_ns=start_at_ns,
            steps=_baseline_steps("/" in candidate.source, policy),
            timeout_ns=policy.timeout_ns,
            linger_ns=policy.linger_ns,
            # The owner may take all the time there is; each round then sets a new end.
            watch_until_ns=baseline_ends_ns(start_at_ns, policy) + policy.ready_window_ns + _WATCH_MORE_NS,
        )
        for candidate in candidates
    )


def _baseline_steps(prefix: bool, policy: Policy) -> tuple[Step, ...]:
    kind, spacing = ExchangeKind.CLIENT_V4, policy.baseline_spacing_ns
    if not prefix:
        return tuple(Step(kind, i * spacing) for i in range(policy.baseline_exchanges))
    burst = tuple(Step(kind, i * policy.prefix_burst_spacing_ns) for i in range(policy.prefix_burst))
    after = policy.prefix_burst * policy.prefix_burst_spacing_ns
    return burst + tuple(Step(kind, after + i * spacing, source_slot=i + 1) for i in range(policy.baseline_exchanges))


def baseline_ends_ns(start_at_ns: int, policy: Policy) -> int:
    """When every report of a baseline should be in."""
    longest = (
        policy.prefix_burst * policy.prefix_burst_spacing_ns + policy.baseline_exchanges * policy.baseline_spacing_ns
    )
    return start_at_ns + longest + _tail_ns(policy)


def round_ends_ns(start_at_ns: int, policy: Policy) -> int:
    """When every report of a round should be in."""
    return start_at_ns + _tail_ns(policy)


def _tail_ns(policy: Policy) -> int:
    return policy.timeout_ns + policy.linger_ns + policy.report_grace_ns + SECOND_NS


def path(report: Report, candidate: Candidate, policy: Policy) -> Path:
    """What a baseline says of one path.

    For a prefix the burst is left out of the loss, and the series after it, each from a fresh address, tells whether
    the target limits by prefix: half of it or less is answered. A burst of which nothing was answered has tried
    nothing, and what is not tried is not relied on.
    """
    outcomes = classify_report(report)
    bursting = policy.prefix_burst if "/" in candidate.source else 0
    burst, series = outcomes[:bursting], outcomes[bursting:]
    counted = [outcome for outcome in series if outcome is not Outcome.PROBE_FAILED]
    answered = sum(outcome.shows_presence for outcome in counted)
    served_in_burst = sum(outcome.shows_presence for outcome in burst)
    limited = bursting > 0 and (served_in_burst == 0 or answered <= len(counted) // 2)
    replies = map(answering_reply, report.exchanges)
    until_ns = max((reply.received_at_ns for reply in replies if reply is not None), default=0)
    return Path(
        len(counted),
        answered,
        prefix_limited=limited,
        answered_until_ns=until_ns,
        watched=_watched(report, until_ns),
        unasked=report.capture.unasked_total if report.capture is not None else 0,
    )


def _watched(report: Report, since_ns: int) -> bool:
    """Whether the report's tripwire has watched without a gap from before that time until after the last exchange."""
    capture = report.capture
    if capture is None or capture.lost or capture.since_ns > since_ns:
        return False
    return all(capture.until_ns >= exchange.sent_at_ns for exchange in report.exchanges)


def round_jobs(
    verification: VerificationId,
    attempt: int,
    seed: bytes,
    target: Target,
    challenge: Challenge,
    fired: Round,
    policy: Policy,
) -> tuple[Job, ...]:
    """One job for each leased row of a round. All start at one absolute time."""
    jobs: list[Job] = []
    for index in fired.leased:
        row = challenge.rows[index]
        jobs.append(
            Job(
                id=round_job_id(verification, attempt, fired.number, row.perspective.vantage),
                verification=verification,
                vantage=row.perspective.vantage,
                target=target,
                source=whole(row.neighbour) if row.neighbour else row.perspective.source,
                start_at_ns=fired.start_at_ns,
                steps=_round_steps(row, fired.number, seed),
                timeout_ns=policy.timeout_ns,
                linger_ns=policy.linger_ns,
                watch_until_ns=round_ends_ns(fired.start_at_ns, policy)
                + policy.max_round_spacing_ns
                + policy.missing_grace_ns
                + _WATCH_MORE_NS,
            )
        )
    return tuple(jobs)


def _round_steps(row: Row, number: int, seed: bytes) -> tuple[Step, ...]:
    """One exchange; of a prefix one from either half, in an order that only the seed knows.

    Somebody who fills the probe's link just while the answer to the one half would arrive must not know which it is.
    """
    if not row.neighbour:
        return (Step(row.kind, 0),)
    told_first = hmac.digest(seed, f"pair/{number}/{row.perspective.vantage}".encode(), "sha256")[0] & 1
    parts = (row.perspective.source, row.neighbour) if told_first else (row.neighbour, row.perspective.source)
    return tuple(Step(row.kind, place * PAIR_SPACING_NS, place, part) for place, part in enumerate(parts))


def round_exchanges(row: Row, number: int, seed: bytes) -> tuple[str, ...]:
    """What each exchange of a row's job of a round is sent from: an address, or a prefix that it lies in."""
    return tuple(step.source or row.perspective.source for step in _round_steps(row, number, seed))


def observation(report: Report, index: int, row: Row, number: int, seed: bytes) -> Observation:
    """The classified exchange of one row's report of one round, and what its tripwire caught since the baseline.

    Args:
        report: of the row's job.
        index, row: which row.
        number: of the round.
        seed: the attempt's.
    """
    outcomes = classify_report(report)
    path = row.path
    watched = path.watched and _watched(report, path.answered_until_ns)
    # Whoever was sent something unasked in the baseline takes no part: what a capture shows has come since.
    unasked, total = (report.capture.unasked, report.capture.unasked_total) if report.capture is not None else ((), 0)
    seen = dict(zip(round_exchanges(row, number, seed), zip(report.exchanges, outcomes, strict=True), strict=True))
    exchange, outcome = seen[row.perspective.source]
    return replace(
        _observe(exchange, outcome, index, number),
        watched=watched,
        unasked=unasked[:MAX_SIGHTED],
        unasked_total=total,
        neighbour_answered=row.neighbour in seen and seen[row.neighbour][1].shows_presence,
    )


def _observe(exchange: Exchange, outcome: Outcome, row: int, number: int) -> Observation:
    reply, error = answering_reply(exchange), refusing_error(exchange)
    if reply is not None:
        received_at_ns, packet = reply.received_at_ns, reply.payload
    elif error is not None:
        # What is quoted beyond our own packet says nothing, and the record must stay small.
        received_at_ns, packet = error.received_at_ns, error.quoted[: len(exchange.request)]
    else:
        received_at_ns, packet = 0, b""
    seen = Observation(row, number, outcome, exchange.source, exchange.sent_at_ns, received_at_ns, packet)
    if outcome is not Outcome.REFUSED:
        return seen
    if reply is not None or error is None:
        return replace(seen, refusal=RefusalKind.KISS)
    return replace(seen, refusal=kind_of(error, family_of(exchange.destination)))
