"""Tickets of jobs: what makes a report the report of this job, by this agent, about this target, in this time.

A ticket goes out with its job and comes back with the report. It is a keyed hash (HMAC-SHA256, RFC 2104) over vantage,
job, target and expiry, with a key that only coordinators have: a report that somebody else was asked for, that was
moved to another job or target, or that was made up for a job that nobody handed out, has none that fits. The same job
always has the same ticket, so that every coordinator with the key can check it and a job can be handed out again.
"""

from __future__ import annotations

import hmac
from enum import Enum
from typing import Final

from poolproof.ids import JobId, VantageId
from poolproof.job import Job, Report
from poolproof.target import Target

_EXPIRY_BYTES: Final = 8


class TicketFault(Enum):
    """What is wrong with a ticket; the values are labels of metrics."""

    BAD = "bad-ticket"
    EXPIRED = "expired-ticket"


class TicketError(ValueError):
    """A report whose ticket does not fit; the message names what does not, and the remedy."""

    def __init__(self, fault: TicketFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class Tickets:
    """Issues and checks tickets.

    Args:
        draw_key: the coordinators' 32 secret bytes; tickets have a key of their own that is derived from it.
        grace_ns: how long after its job's end a report is taken.
    """

    def __init__(self, draw_key: bytes, grace_ns: int) -> None:
        self._key = hmac.digest(draw_key, b"poolproof job tickets", "sha256")
        self._grace_ns = grace_ns

    def issue(self, job: Job) -> bytes:
        """The ticket of a job: expiry and keyed hash, 40 bytes."""
        ends_ns = job.start_at_ns + job.steps[-1].offset_ns + job.timeout_ns + job.linger_ns
        expiry = (ends_ns + self._grace_ns).to_bytes(_EXPIRY_BYTES, "big")
        return expiry + self._mac(job.vantage, job.id, job.target, expiry)

    def check(self, report: Report, vantage: VantageId, now_ns: int) -> None:
        """Refuses a report that is not the one that its ticket was issued for.

        Args:
            report: as it came.
            vantage: whose session it came by: the identity that was enrolled, not the one that is claimed.
            now_ns: Unix ns.

        Raises:
            TicketError: the ticket is missing, not ours, of something else, or expired.
        """
        expiry, mac = report.ticket[:_EXPIRY_BYTES], report.ticket[_EXPIRY_BYTES:]
        targets = {Target(exchange.destination, exchange.port) for exchange in report.exchanges}
        if len(targets) != 1 or not hmac.compare_digest(mac, self._mac(vantage, report.job, targets.pop(), expiry)):
            raise TicketError(
                TicketFault.BAD,
                f"report.ticket: {report.ticket[:12].hex() or 'none'}... was not issued to {vantage} for job"
                f" {report.job} and the target of its exchanges; send each report with the ticket of its own job",
            )
        if now_ns > (until_ns := int.from_bytes(expiry, "big")):
            raise TicketError(
                TicketFault.EXPIRED,
                f"report.ticket: expired {(now_ns - until_ns) // 1_000_000_000} s ago; the report of job {report.job}"
                " is too late to be taken, forget it",
            )

    def _mac(self, vantage: VantageId, job: JobId, target: Target, expiry: bytes) -> bytes:
        # Ids have no line breaks, so that no two tickets have the same text.
        text = "\n".join((vantage, job, target.address, str(target.port)))
        return hmac.digest(self._key, text.encode() + b"\n" + expiry, "sha256")
