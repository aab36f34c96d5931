"""Reports on their way: in the order of need, each until it is acknowledged, over as many sessions as that takes.

The journal holds the reports; here are their ids, and for the newest also the report itself with its spans, so that
the usual report needs no read from the disk. A new session begins with everything that is owed. New reports go first:
somebody waits for them, while a backlog has been late for long.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from poolproof.ids import JobId
from poolproof.job import Report
from poolproof.span import Span
from probe.clock import Clock
from probe.journal import Journal

WINDOW = 64
"""Reports sent and not yet acknowledged in a session."""
KEPT_FRESH = 256
"""Reports kept in memory with their spans; older ones are read from the journal, without."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A report to send.

    Attributes:
        report: what became of the job.
        spans: its spans.
        spans_dropped: whether there were spans that are no longer here.
    """

    report: Report
    spans: tuple[Span, ...] = ()
    spans_dropped: int = 0


class Outbox:
    """All reports that the coordinator is owed. One session at a time takes from it."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        """Args: journal: where reports are. clock: for the time of acknowledgement."""
        self._journal = journal
        self._clock = clock
        self._owed: dict[JobId, None] = dict.fromkeys(journal.held())
        self._fresh: OrderedDict[JobId, Delivery] = OrderedDict()
        self._next: deque[JobId] = deque()
        self._in_flight: set[JobId] = set()
        self._changed = asyncio.Condition()

    @property
    def owed(self) -> tuple[JobId, ...]:
        """Jobs whose reports are not acknowledged, the oldest first."""
        return tuple(self._owed)

    @property
    def full(self) -> bool:
        """As many reports are owed as the journal holds: a coordinator that takes none gets no more work done."""
        return len(self._owed) >= self._journal.max_reports

    async def put(self, delivery: Delivery) -> None:
        """A report is there, or was asked for again: it goes out next."""
        job = delivery.report.job
        self._owed.setdefault(job)
        self._fresh[job] = delivery
        self._fresh.move_to_end(job)
        if len(self._fresh) > KEPT_FRESH:
            self._fresh.popitem(last=False)
        async with self._changed:
            self._in_flight.discard(job)
            if job not in self._next:
                self._next.appendleft(job)
            self._changed.notify_all()

    def begin_session(self) -> None:
        """A new stream: everything that is owed is to be sent on it."""
        self._in_flight.clear()
        self._next = deque(self._owed)

    async def take(self) -> Delivery:
        """The next report to send; waits until there is one and the window has room."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._next and len(self._in_flight) < WINDOW)
                job = self._next.popleft()
                if job not in self._owed:
                    continue
                self._in_flight.add(job)
            delivery = self._fresh.get(job) or await self._read(job)
            if delivery is not None:
                return delivery

    async def acknowledge(self, jobs: Iterable[JobId]) -> None:
        """The coordinator has these, or will never take them."""
        for job in jobs:
            await asyncio.to_thread(self._journal.acknowledge, job, self._clock.now_ns())
            await self._forget(job)

    async def empty(self) -> None:
        """Returns when nothing is owed."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._owed)

    async def _read(self, job: JobId) -> Delivery | None:
        entry = await asyncio.to_thread(self._journal.find, job)
        if entry is None:
            # It found no room in the journal and was pushed out of memory: the coordinator will ask for it again.
            await self._forget(job)
            return None
        return Delivery(entry.report, spans_dropped=1)

    async def _forget(self, job: JobId) -> None:
        async with self._changed:
            self._owed.pop(job, None)
            self._fresh.pop(job, None)
            self._in_flight.discard(job)
            self._changed.notify_all()
