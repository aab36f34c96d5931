"""The agent: one session with the coordinator after another, until it is told to stop.

Jobs and reports outlive sessions. Losing the coordinator costs no running job; what is owed goes out when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from probe.backoff import Backoff
from probe.ending import End, EndKind
from probe.metrics import ProbeMetrics
from probe.outbox import Outbox
from probe.workload import Workload

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentTimings:
    """How patient an agent is.

    Attributes:
        backoff_floor_s, backoff_first_s, backoff_cap_s: see `Backoff`.
        patience_s: from dialling to the welcome.
        steady_s: a session that stood this long lets the backoff begin small again.
        drain_s: bound on a graceful end: a job may run for some 10 s.
    """

    backoff_floor_s: float = 0.1
    backoff_first_s: float = 0.5
    backoff_cap_s: float = 30.0
    patience_s: float = 10.0
    steady_s: float = 5.0
    drain_s: float = 30.0


class RejectedError(Exception):
    """The coordinator will not have this agent, and trying again would not help; the message says why."""


class OneSession(Protocol):
    """What an agent needs of `session.Session`."""

    async def run(self) -> End:
        """Dial, work until it ends, and say how it ended."""
        ...


class Agent:
    """Runs sessions for one probe."""

    def __init__(
        self,
        *,
        new_session: Callable[[asyncio.Event], OneSession],
        workload: Workload,
        outbox: Outbox,
        backoff: Backoff,
        metrics: ProbeMetrics,
        timings: AgentTimings,
    ) -> None:
        """Args: new_session: makes one, given the event that says "stop". The rest: the probe's parts."""
        self._new_session = new_session
        self._workload = workload
        self._outbox = outbox
        self._backoff = backoff
        self._metrics = metrics
        self._timings = timings
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin a graceful end: finish running jobs, deliver what is owed, take nothing new."""
        self._stopping.set()
        self._workload.drain()

    async def run(self) -> None:
        """Returns when stopped, and all is done or the bound on it is reached.

        Raises:
            RejectedError: the coordinator will not have this agent.
            JournalError: the journal cannot be read.
        """
        dialling = asyncio.create_task(self._dial())
        deadline = asyncio.create_task(self._deadline())
        try:
            await asyncio.wait({dialling, deadline, self._workload.failure}, return_when=asyncio.FIRST_COMPLETED)
            for task in (dialling, self._workload.failure):
                if task.done():
                    task.result()
            if not dialling.done():
                _log.warning(
                    "not all was done in time; what is owed stays in the journal",
                    extra={"running": len(self._workload.running), "owed": len(self._outbox.owed)},
                )
        finally:
            for task in (dialling, deadline):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            await self._workload.close()

    async def _deadline(self) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._timings.drain_s)

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            end = await self._one_session()
            self._metrics.session_ended(end.kind.value)
            if end.is_final:
                raise RejectedError(end.detail)
            if end.stood and loop.time() - began >= self._timings.steady_s:
                self._backoff.reset()
            if end.kind is EndKind.DRAINED or (self._stopping.is_set() and not self._workload.running):
                _log.info("stopped", extra={"owed": len(self._outbox.owed)})
                return
            delay_s = max(self._backoff.next_s(), end.retry_after_s)
            _log.warning("session ended", extra={"end": end.kind.value, "detail": end.detail, "retry_in_s": delay_s})
            await self._pause(delay_s)

    async def _one_session(self) -> End:
        # In a task of its own: a task group that ends by an error at the moment of a cancellation (Python 3.11) tells
        # of the error alone, and this agent would never stop.
        session = asyncio.create_task(self._new_session(self._stopping).run())
        try:
            await asyncio.wait([session])
        finally:
            session.cancel()
            await asyncio.wait([session])
        return session.result()

    async def _pause(self, delay_s: float) -> None:
        """Waits; being told to stop while nothing runs ends the wait."""
        if self._stopping.is_set():
            await asyncio.sleep(delay_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
