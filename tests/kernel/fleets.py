"""Fleets, verifications and reports for tests of the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from poolproof.capture import Capture, UnaskedPacket
from poolproof.challenge import Expectation, Method
from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault, Reply
from poolproof.fleet import Rir, Vantage
from poolproof.ids import VantageId, VerificationId
from poolproof.job import ClockCheck, Job, Report
from poolproof.lifecycle import handle, next_wake_ns
from poolproof.ntp import client_request
from poolproof.policy import POLICY_2026_11, SECOND_NS
from poolproof.target import Target
from poolproof.variant import Variant
from poolproof.verdict import Reason
from poolproof.verification import Attempt, Begin, OwnerReady, Reported, Step, Verification, Wake

POLICY = POLICY_2026_11
START_NS = 1_794_000_000 * SECOND_NS
TARGET = Target("203.0.113.7")
TARGET6 = Target("2001:db8:53::7")
_SERVED = bytes((0o44, 2)) + bytes(22)
_RTT_NS = SECOND_NS // 50


def vantage(i: int, *, asn: int | None = None, rir: Rir | None = None, prefix: bool = False) -> Vantage:
    rirs = tuple(Rir)
    return Vantage(
        VantageId(f"v{i:02}"),
        f"192.0.2.{i + 1}",
        f"2001:db8:ffff::{i + 1:x}",
        f"2001:db8:{i + 1:x}::/64" if prefix else None,
        64500 + i if asn is None else asn,
        rirs[i % 5] if rir is None else rir,
    )


def fleet(size: int, *, prefix: bool = False) -> tuple[Vantage, ...]:
    return tuple(vantage(i, prefix=prefix) for i in range(size))


def requested(variant: Variant = Variant.BLOCK, target: Target = TARGET) -> Verification:
    name = VerificationId("verify1")
    return Verification(name, target, str(target), "ann", Method.DIFFERENTIAL, variant, POLICY.id, START_NS)


def begin(number: int = 1, size: int = 16, *, prefix: bool = False) -> Begin:
    return Begin(number, bytes((number,)) * 32, fleet(size, prefix=prefix))


def report(
    job: Job,
    answered: Callable[[int], bool] | bool = True,
    *,
    refused: bool = False,
    fault: LocalFault | None = None,
    late: bool = False,
    tripwire: bool = True,
    unasked: tuple[UnaskedPacket, ...] = (),
) -> Report:
    """What a healthy probe reports of a job; `answered` by step."""
    exchanges = []
    for i, step in enumerate(job.steps):
        sent_ns = job.start_at_ns + step.offset_ns
        request = client_request(0xABCDEF00 + i)
        seen = Exchange(
            step.kind,
            request,
            step.source or job.source,
            job.target.address,
            job.target.port,
            sent_ns,
            job.timeout_ns,
            fault=fault,
        )
        if fault is None and (answered(i) if callable(answered) else answered):
            arrived_ns = sent_ns + (job.timeout_ns + 1 if late else _RTT_NS)
            seen = replace(seen, replies=(Reply(_SERVED + request[40:48] + bytes(16), arrived_ns),))
        elif refused:
            seen = replace(seen, icmp=(IcmpError(3, 3, job.target.address, request, sent_ns + _RTT_NS),))
        exchanges.append(seen)
    control = _control(job)
    # The tripwire was armed with the first job, before any answer.
    capture = Capture(START_NS, ends_ns([job]), unasked, len(unasked)) if tripwire else None
    return Report(job.id, job.vantage, tuple(exchanges), (control,), (control,), ClockCheck(0, 1_000_000, 1), capture)


def _control(job: Job) -> Exchange:
    request = client_request(1)
    sent_ns = job.start_at_ns - SECOND_NS
    answer = Reply(_SERVED + request[40:48] + bytes(16), sent_ns + _RTT_NS)
    return Exchange(
        ExchangeKind.CLIENT_V4, request, job.source, "198.51.100.9", 123, sent_ns, job.timeout_ns, (answer,)
    )


def by_step(verification: Verification, job: Job) -> Callable[[int], bool]:
    """Which steps of a job of a round a server answers whose owner enacted the challenge: a prefix's other half too."""
    assert verification.attempt is not None
    assert verification.attempt.challenge is not None
    rows = verification.attempt.challenge.rows
    row = next(row for row in rows if row.perspective.vantage == job.vantage)
    return lambda i: row.expected[0] is Expectation.ANSWER or job.steps[i].source == row.neighbour != ""


def obeyed(verification: Verification, job: Job) -> bool:
    """Whether a server whose owner enacted the challenge answers this job of a round."""
    assert verification.attempt is not None
    assert verification.attempt.challenge is not None
    rows = verification.attempt.challenge.rows
    row = next(row for row in rows if row.perspective.vantage == job.vantage)
    return row.expected[0] is Expectation.ANSWER


def ends_ns(jobs: Sequence[Job]) -> int:
    """When the last report of some jobs comes."""
    return max(job.start_at_ns + job.steps[-1].offset_ns + job.timeout_ns + job.linger_ns for job in jobs)


def report_all(
    step: Step, answered: Callable[[Verification, Job], bool] | bool = True, *, refused: bool = False
) -> Step:
    """Every dispatched job reported in time; what the last report leads to."""
    at_ns, jobs, before = ends_ns(step.dispatch), step.dispatch, step.verification
    for job in jobs:
        wanted: Callable[[int], bool] | bool = answered(before, job) if callable(answered) else answered
        if callable(answered) and not wanted:
            wanted = by_step(before, job)
        step = handle(step.verification, Reported(report(job, wanted, refused=refused)), at_ns, POLICY)
    return step


def challenged(
    variant: Variant = Variant.BLOCK, *, size: int = 16, target: Target = TARGET, prefix: bool = False
) -> Verification:
    """A verification whose baseline was answered throughout."""
    step = handle(requested(variant, target), begin(size=size, prefix=prefix), START_NS, POLICY)
    return report_all(step).verification


def ready_at_ns(verification: Verification) -> int:
    assert verification.attempt is not None
    return verification.attempt.challenged_at_ns + 60 * SECOND_NS


def first_round(verification: Verification) -> Step:
    """The owner says ready; the step that fires the first round."""
    return wake(handle(verification, OwnerReady(), ready_at_ns(verification), POLICY).verification)


def wake(verification: Verification) -> Step:
    """Time passes until the next wake."""
    due_ns = next_wake_ns(verification, POLICY)
    assert due_ns is not None
    return handle(verification, Wake(), due_ns, POLICY)


def attempt_of(verification: Verification) -> Attempt:
    assert verification.attempt is not None
    return verification.attempt


def reason_of(verification: Verification) -> Reason:
    return verification.verdict.reason


def round_of(step: Step, *, obeying: bool = True, refused: bool = False) -> Step:
    """The dispatched round is reported: by an owner who did what was asked, or of a server that answers everybody."""
    return report_all(step, obeyed if obeying else True, refused=refused)
