"""The last word on every packet: counts what really leaves, by a clock that nobody sets.

The guard judges plans. Between plan and packet a process may be stopped, a loop held up, the wall clock set; then
packets that were planned apart would leave together. So the engine asks here just before each send, for targets and
control servers alike, and what finds no room is not sent: the exchange has a fault and is evidence of nothing.

A process that was killed a moment ago may have sent as much as it was allowed to. What it had planned is in the
journal (`recall`), and for the windows of a second nothing is sent in the first second after such a start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from poolproof.target import Target
from probe.budgets import SENT_SLACK_NS, Budgets
from probe.guard import Permit
from probe.pace import SECOND_NS
from probe.settings import ProbeSettings

_FORGET_EVERY_NS: Final = 10 * SECOND_NS
QUIET_NS: Final = SECOND_NS + SENT_SLACK_NS


class Gate:
    """Lets packets out, or not. One for each process, whatever sessions and jobs it has."""

    def __init__(self, settings: ProbeSettings, *, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Args: settings: the probe's limits and control servers. now_ns: a clock that is never set."""
        self._budgets = Budgets(settings, SENT_SLACK_NS)
        self._control = frozenset(settings.control.servers)
        self._now_ns = now_ns
        self._opens_at_ns = 0
        self._forgot_at_ns = now_ns()

    def recall(self, permit: Permit, wall_ns: int) -> None:
        """An earlier process may have sent what this permit allowed until now.

        Args:
            permit: as the journal kept it.
            wall_ns: now, Unix ns.
        """
        now_ns = self._now_ns()
        self._opens_at_ns = now_ns + QUIET_NS
        self._budgets.plan(permit.target, [now_ns - (wall_ns - at_ns) for at_ns in permit.times if at_ns <= wall_ns])

    def refuses(self, target: Target) -> str | None:
        """Why a packet may not leave now, for people; None if it may, and then it counts as sent."""
        now_ns = self._now_ns()
        if now_ns < self._opens_at_ns:
            return f"quiet: nothing is sent in the first {QUIET_NS} ns after a restart"
        if now_ns - self._forgot_at_ns >= _FORGET_EVERY_NS:
            self._budgets.forget(now_ns)
            self._forgot_at_ns = now_ns
        is_control = target in self._control
        over = self._budgets.control_over(str(target), [now_ns]) if is_control else None
        if over is None and not is_control:
            over = self._budgets.over(target.address, [now_ns])
        if over is not None:
            return f"{over.limit.value}: {over.detail}"
        if is_control:
            self._budgets.plan_control(str(target), [now_ns])
        else:
            self._budgets.plan(target.address, [now_ns])
        return None
