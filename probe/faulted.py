"""Reports about work that the probe did not do: every step accounted for, none of them evidence of anything."""

from __future__ import annotations

from poolproof.exchange import Exchange, LocalFault
from poolproof.job import ClockCheck, Job, Report, Step

_MAX_DETAIL = 1000
"""Characters; the contract takes no more than 1,024."""
CLOCK_UNKNOWN = ClockCheck(offset_ns=0, error_ns=0, samples=0)
"""No control server told the time."""


def faulted_report(
    job: Job,
    fault: LocalFault,
    detail: str,
    *,
    at_ns: int | None = None,
    control_before: tuple[Exchange, ...] = (),
    clock: ClockCheck = CLOCK_UNKNOWN,
) -> Report:
    """A report in which every step has the same fault.

    Args:
        job: what was asked.
        fault: why it was not done.
        detail: for people: which field, value and limit.
        at_ns: when the fault arose; None: the times at which the steps were planned.
        control_before: control exchanges that were made before the probe gave up.
        clock: what they said about the clock.
    """
    return Report(
        job=job.id,
        vantage=job.vantage,
        exchanges=tuple(faulted_exchange(job, step, fault, detail, at_ns=at_ns) for step in job.steps),
        control_before=control_before,
        control_after=(),
        clock=clock,
        ticket=job.ticket,
    )


def faulted_exchange(job: Job, step: Step, fault: LocalFault, detail: str, *, at_ns: int | None = None) -> Exchange:
    """The exchange of a step for which no packet is known to have left."""
    return Exchange(
        kind=step.kind,
        request=b"",
        # The address that a prefix source would have taken was never drawn: its network address stands for it.
        source=(step.source or job.source).partition("/")[0],
        destination=job.target.address,
        port=job.target.port,
        sent_at_ns=job.start_at_ns + step.offset_ns if at_ns is None else at_ns,
        timeout_ns=job.timeout_ns,
        fault=fault,
        fault_detail=detail[:_MAX_DETAIL],
    )
