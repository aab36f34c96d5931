"""Tickets: what is not exactly the job that was handed out, by the agent it was handed to, has none that fits."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from coordinator.tickets import TicketError, TicketFault, Tickets
from poolproof.ids import JobId, VantageId
from poolproof.job import Job
from poolproof.lifecycle import handle
from tests.fuzz.harness import NOISE, Harness
from tests.fuzz.splitter import Splitter
from tests.kernel.fleets import POLICY, START_NS, begin, ends_ns, report, requested

_GRACE_NS = 3_600_000_000_000
_TICKETS, _OTHERS = Tickets(bytes(32), _GRACE_NS), Tickets(bytes(31) + b"\1", _GRACE_NS)


@cache
def _jobs() -> tuple[Job, ...]:
    return handle(requested(), begin(), START_NS, POLICY).dispatch[:3]


def _checked(data: bytes) -> str:
    """Of all reports the one that was asked for passes, until its time is over; no other with any ticket does."""
    split = Splitter(data)
    job, other = split.pick(_jobs()), split.pick(_jobs())
    issued = split.pick((_TICKETS, _TICKETS, _TICKETS, _OTHERS)).issue(other)
    ticket = issued
    if split.below(4) == 3:
        at = split.below(len(issued) + 1)
        ticket = issued[:at] + split.octets(4) + issued[at + split.below(5) :]
    elif split.below(8) == 7:
        ticket = split.octets(64)
    now_ns = ends_ns([job]) + split.pick((0, _GRACE_NS, _GRACE_NS + 1, -_GRACE_NS, split.number(7)))
    came = replace(report(job), ticket=ticket)
    session = split.pick((job.vantage, other.vantage, VantageId(split.text(8))))
    if split.below(8) == 7:
        came = replace(came, job=JobId(split.text(12)))
    if split.below(8) == 7:
        elsewhere = tuple(replace(each, port=split.pick((123, 124))) for each in came.exchanges)
        came = replace(came, exchanges=elsewhere)
    if split.below(8) == 7:
        first = replace(came.exchanges[0], destination="203.0.113.99")
        came = replace(came, exchanges=(first, *came.exchanges[1:]))
    theirs = (session, came.job, {(each.destination, each.port) for each in came.exchanges})
    ours = (job.vantage, job.id, {(job.target.address, job.target.port)})
    fits = theirs == ours and ticket == _TICKETS.issue(job)
    try:
        _TICKETS.check(came, session, now_ns)
    except TicketError as error:
        assert len(str(error)) < 1_000
        if error.fault is TicketFault.EXPIRED:
            assert fits
            assert now_ns > ends_ns([job]) + _GRACE_NS
            return "expired"
        assert not fits, "the report that was asked for is refused"
        return "bad"
    assert fits, "a report that nobody asked for is taken"
    assert now_ns <= ends_ns([job]) + _GRACE_NS
    return "fits"


HARNESSES = (
    Harness("ticket", "coordinator.tickets", _checked, frozenset({"expired", "bad", "fits"}), (bytes(1), *NOISE)),
)
