"""The probe's clocks: the port by which everything learns and awaits the time, and the check of our own clock.

Rounds fire at an absolute time on all perspectives, so a probe whose clock is wrong must do no work. How wrong it is
follows from the exchanges with its control servers (RFC 5905 §8). Our request's transmit timestamp is random, so T1 is
the time at which the kernel took the request, and T4 the kernel's receive timestamp; T2 and T3 come from the reply.

A clock is `WRONG` only if it is off by more than it may be *and* than the path's asymmetry could explain: a control
server 250 ms away must not idle a probe whose clock is right. If no control server told the time, the clock is
`UNKNOWN` and the work is done all the same: an answer from the target is evidence whatever the time, and silence is
worth nothing then, because the control bracket is missing as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import Protocol

from poolproof.classify import answered, answering_reply
from poolproof.exchange import Exchange
from poolproof.job import ClockCheck
from poolproof.ntp import Header, decode, from_ntp

_SERVER = 4
_UNSYNCHRONISED_LEAP = 3
_LONGEST_NAP_S = 1.0


class Clock(Protocol):
    """Wall-clock time, and waiting for it."""

    def now_ns(self) -> int:
        """Unix time in ns."""
        ...

    async def sleep_until(self, at_ns: int) -> None:
        """Return at that time, or at once if it is past."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Unix time in ns."""
        return time.time_ns()

    async def sleep_until(self, at_ns: int) -> None:
        """Return at that time. Looks again every second, because the wall clock may be set meanwhile."""
        while (left_ns := at_ns - self.now_ns()) > 0:  # noqa: ASYNC110 - time is no event
            await asyncio.sleep(min(left_ns / 1e9, _LONGEST_NAP_S))


class ClockVerdict(Enum):
    """Whether a probe may work by its clock."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class _Sample:
    offset_ns: int
    round_trip_ns: int


def server_answer(exchange: Exchange) -> Header | None:
    """The header of a control server's answer: in time, our origin, mode 4; None if there is none."""
    reply = answering_reply(exchange)
    if reply is None or not answered(exchange):
        return None
    header = decode(reply.payload)
    return header if header.mode == _SERVER else None


def check_clock(exchanges: Iterable[Exchange]) -> ClockCheck:
    """How far our clock is off, by the answers of control servers; unsynchronised ones tell no time."""
    samples = [sample for exchange in exchanges if (sample := _sample(exchange)) is not None]
    if not samples:
        return ClockCheck(offset_ns=0, error_ns=0, samples=0)
    return ClockCheck(
        offset_ns=int(median(sample.offset_ns for sample in samples)),
        error_ns=min(sample.round_trip_ns for sample in samples) // 2,
        samples=len(samples),
    )


def judge_clock(check: ClockCheck, max_offset_ns: int) -> ClockVerdict:
    """Whether the probe may work: `WRONG` if it is off by more than `max_offset_ns` beyond the check's own error."""
    if check.samples == 0:
        return ClockVerdict.UNKNOWN
    return ClockVerdict.WRONG if abs(check.offset_ns) - check.error_ns > max_offset_ns else ClockVerdict.RIGHT


def _sample(exchange: Exchange) -> _Sample | None:
    header, reply = server_answer(exchange), answering_reply(exchange)
    if header is None or reply is None:
        return None
    if (
        header.leap == _UNSYNCHRONISED_LEAP
        or not 1 <= header.stratum <= 15
        or not header.receive
        or not header.transmit
    ):
        return None
    t1, t4 = exchange.sent_at_ns, reply.received_at_ns
    t2, t3 = from_ntp(header.receive, t1), from_ntp(header.transmit, t1)
    return _Sample(
        offset_ns=((t2 - t1) + (t3 - t4)) // 2,
        # A round trip below zero is a server whose clock ticks more coarsely than the path is long.
        round_trip_ns=max(0, (t4 - t1) - (t3 - t2)),
    )
