"""What the conductor needs from the world, so that tests can drive it by hand: time, and hands that pass on jobs.

The store's port is `coordinator.store.port`, telemetry's is `coordinator.tracing_port`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from poolproof.fleet import Vantage
from poolproof.ids import VantageId
from poolproof.job import Job
from poolproof.target import Family


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """It will not be called any more. May be repeated, and done after the call."""
        ...


class Clock(Protocol):
    """Unix time."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        ...

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Calls back on the event loop when the time has come, or soon if it has passed."""
        ...


class Dispatcher(Protocol):
    """Knows who is connected, and passes jobs on. None of its methods waits."""

    def usable(self, family: Family) -> tuple[Vantage, ...]:
        """The vantages that can work for targets of this family now, as they can (without what their probes lack)."""
        ...

    def hand_out(self, vantage: VantageId, jobs: Sequence[Job]) -> bool:
        """Whether the jobs are on their way into the vantage's stream, all or none.

        False is certain: not one of them was, or will be, written.
        """
        ...
