"""Hands jobs to agents, and knows which of them no agent's stream has taken yet.

A job that no stream took is kept until its start: its agent may still connect in time, after a restart of the
coordinator above all. Only then is it certain that it was never handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from coordinator.ports import Clock, Dispatcher
from coordinator.tickets import Tickets
from coordinator.tracing_port import Telemetry
from poolproof.ids import JobId, VantageId
from poolproof.job import Job
from poolproof.verification import Verification


class Handing:
    """The jobs of one verification on their way to its agents.

    Args:
        dispatcher: passes jobs on.
        clock: Unix time.
        telemetry: gives jobs their trace context, and is told of each.
        tickets: gives jobs their tickets.
        later: calls back at a time.
        never_handed: told of jobs whose start has come and that no stream has taken.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        clock: Clock,
        telemetry: Telemetry,
        tickets: Tickets,
        later: Callable[[int, Callable[[], None]], None],
        never_handed: Callable[[tuple[JobId, ...]], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._telemetry = telemetry
        self._tickets = tickets
        self._later = later
        self._never_handed = never_handed
        self._unhanded: dict[JobId, Job] = {}

    def hand_out(self, verification: Verification, jobs: Iterable[Job]) -> None:
        """Hands jobs to their agents, now or when these connect before the start."""
        unhanded = self._pass_on(verification, jobs)
        if unhanded:
            self._unhanded.update((job.id, job) for job in unhanded)
            names = [job.id for job in unhanded]
            self._later(max(job.start_at_ns for job in unhanded), lambda: self._give_up(names))

    def hand_again(self, verification: Verification, outstanding: Iterable[Job], vantage: VantageId) -> None:
        """An agent has connected: it gets those of the outstanding jobs that are its own."""
        self._pass_on(verification, [job for job in outstanding if job.vantage == vantage])

    def _pass_on(self, verification: Verification, jobs: Iterable[Job]) -> list[Job]:
        """Those that no stream took come back."""
        began_ns = self._clock.now_ns()
        by_vantage: dict[VantageId, list[Job]] = {}
        for job in self._telemetry.with_context(verification, jobs):
            by_vantage.setdefault(job.vantage, []).append(replace(job, ticket=self._tickets.issue(job)))
        unhanded: list[Job] = []
        for vantage, theirs in by_vantage.items():
            delivered = self._dispatcher.hand_out(vantage, theirs)
            now_ns = self._clock.now_ns()
            for job in theirs:
                self._telemetry.dispatched(verification, job, began_ns=began_ns, now_ns=now_ns, delivered=delivered)
                if delivered:
                    self._unhanded.pop(job.id, None)
                else:
                    unhanded.append(job)
        return unhanded

    def _give_up(self, jobs: Iterable[JobId]) -> None:
        never = tuple(job for job in jobs if self._unhanded.pop(job, None) is not None)
        if never:
            self._never_handed(never)
