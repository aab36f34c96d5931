"""The system's clock, as the conductor's `Clock` port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from poolproof.policy import SECOND_NS

_LONGEST_WAIT_S = 30.0
"""The loop waits on the monotonic clock; looking at the system's clock this often follows its steps and slews."""


class WallTimer:
    """A call at a Unix time."""

    def __init__(self, when_ns: int, callback: Callable[[], None]) -> None:
        self._when_ns = when_ns
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._wait()

    def cancel(self) -> None:
        """See `Timer.cancel`."""
        if self._handle is not None:
            self._handle.cancel()

    def _wait(self) -> None:
        left_s = (self._when_ns - time.time_ns()) / SECOND_NS
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(min(max(left_s, 0.0), _LONGEST_WAIT_S), self._look)

    def _look(self) -> None:
        if time.time_ns() < self._when_ns:
            self._wait()
        else:
            self._callback()


class WallClock:
    """Unix time of this machine."""

    def now_ns(self) -> int:
        """See `Clock.now_ns`."""
        return time.time_ns()

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> WallTimer:
        """See `Clock.call_at`."""
        return WallTimer(when_ns, callback)
