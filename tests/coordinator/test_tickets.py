"""Tickets: only the report that was asked for has one that fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.tickets import TicketError, TicketFault, Tickets
from poolproof.exchange import ExchangeKind
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import MAX_TICKET_BYTES, Job, Report, Step
from poolproof.policy import SECOND_NS
from poolproof.target import Target
from tests.coordinator.doubles import DRAW_KEY, START_NS, report_of

GRACE_NS = 3600 * SECOND_NS
TICKETS = Tickets(DRAW_KEY, GRACE_NS)


def job(name: str = "w1/1/0/v01", vantage: str = "v01", target: str = "198.51.100.7", port: int = 123) -> Job:
    steps, where = (Step(ExchangeKind.CLIENT_V4, 0),), Target(target, port)
    bare = Job(
        JobId(name), VerificationId("w1"), VantageId(vantage), where, "192.0.2.1", START_NS, steps, 1, 2
    )  # fmt: skip
    return replace(bare, ticket=TICKETS.issue(bare))


def report(asked: Job) -> Report:
    return report_of(asked, lambda _: True)


ENDS_NS = START_NS + 3 + GRACE_NS


def test_the_same_job_has_the_same_ticket_with_every_coordinator_that_has_the_key() -> None:
    asked = job()
    assert Tickets(DRAW_KEY, GRACE_NS).issue(asked) == asked.ticket
    assert len(asked.ticket) <= MAX_TICKET_BYTES
    assert Tickets(bytes(32), GRACE_NS).issue(asked) != asked.ticket


def test_the_report_that_was_asked_for_is_taken_until_its_ticket_expires() -> None:
    TICKETS.check(report(job()), VantageId("v01"), ENDS_NS)
    with pytest.raises(TicketError, match="expired 1 s ago") as late:
        TICKETS.check(report(job()), VantageId("v01"), ENDS_NS + SECOND_NS)
    assert late.value.fault is TicketFault.EXPIRED


@pytest.mark.parametrize(
    "other",
    [
        job("w1/1/1/v01"),
        job("w1/2/0/v01"),
        job("w2/1/0/v01"),
        job(vantage="v02"),
        job(target="198.51.100.8"),
        job(port=124),
        replace(job(), ticket=b""),
        replace(job(), ticket=bytes(40)),
        replace(job(), ticket=job().ticket + b"\0"),
        replace(job(), ticket=Tickets(bytes(32), GRACE_NS).issue(job())),
        replace(job(), ticket=(ENDS_NS + 1).to_bytes(8, "big") + job().ticket[8:]),
    ],
    ids=str,
)
def test_another_ticket_does_not_fit(other: Job) -> None:
    with pytest.raises(TicketError, match="was not issued to v01 for job w1/1/0/v01") as refused:
        TICKETS.check(report(replace(job(), ticket=other.ticket)), VantageId("v01"), START_NS)
    assert refused.value.fault is TicketFault.BAD


def test_a_report_moved_to_another_agent_or_target_does_not_fit() -> None:
    with pytest.raises(TicketError, match="was not issued to v02"):
        TICKETS.check(report(job()), VantageId("v02"), START_NS)
    honest = report(job())
    moved = replace(honest, exchanges=tuple(replace(each, destination="198.51.100.8") for each in honest.exchanges))
    mixed = replace(honest, exchanges=honest.exchanges + moved.exchanges)
    for spliced in (moved, mixed):
        with pytest.raises(TicketError):
            TICKETS.check(spliced, VantageId("v01"), START_NS)


@given(st.binary(max_size=MAX_TICKET_BYTES))
def test_no_made_up_ticket_ever_fits(ticket: bytes) -> None:
    with pytest.raises(TicketError):
        TICKETS.check(replace(report(job()), ticket=ticket), VantageId("v01"), START_NS)
