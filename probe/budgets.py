"""How many packets may go where: to one target, to its network, to all targets, to one control server.

The same budgets hold twice. `guard` keeps them over the times at which jobs will send, before anything of a job is
done. `gate` keeps them over what really leaves, whatever held the process up in between. The guard's windows are a
little longer than the gate's, and the gate's than those that are promised: so work that runs on time never meets the
gate, and what is seen on the wire never exceeds the settings.

A network counts as one, because whoever wants to hurt it cares for no single address of it: an IPv4 /24, and an IPv6
/48, which is what a site gets (RFC 6177). A single IPv6 host can have 2^64 addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from poolproof.special_purpose import Network
from probe.pace import SECOND_NS, WindowBudget
from probe.settings import ProbeSettings

PLANNED_SLACK_NS: Final = SECOND_NS // 10
SENT_SLACK_NS: Final = SECOND_NS // 20
"""How much longer than promised the windows are in which planned, and sent, packets are counted."""
_IPV4_NETWORK: Final = 24
_IPV6_NETWORK: Final = 48


class Limit(Enum):
    """Which budget has no room; the values are those of `guard.GuardRule`."""

    TARGET = "target-budget"
    NETWORK = "network-budget"
    ALL = "budget"
    CONTROL = "control-budget"


@dataclass(frozen=True, slots=True)
class Over:
    """More packets than a budget has room for.

    Attributes:
        limit: which.
        detail: who is asked, how many packets, and the setting, for people.
    """

    limit: Limit
    detail: str


class Budgets:
    """Sliding windows over packets at given times, Unix or monotonic ns."""

    def __init__(self, settings: ProbeSettings, slack_ns: int) -> None:
        """Args: settings: the limits. slack_ns: how much longer than promised the windows are."""
        limits, second, minute = settings.guard, SECOND_NS + slack_ns, 60 * SECOND_NS + slack_ns
        self._settings = settings
        self._per_target = WindowBudget(limits.target_packets_per_minute, minute)
        self._per_network = WindowBudget(limits.network_packets_per_minute, minute)
        self._all = WindowBudget(limits.packets_per_second, second)
        self._control = WindowBudget(limits.control_packets_per_second, second)

    def over(self, address: str, times: Sequence[int]) -> Over | None:
        """Which budget has no room for packets to a target at these times, sorted; None if all have."""
        limits, network = self._settings.guard, network_of(address)
        for limit, budget, key, text in (
            (Limit.TARGET, self._per_target, address, f"{limits.target_packets_per_minute} a minute"),
            (Limit.NETWORK, self._per_network, network, f"{limits.network_packets_per_minute} a minute to {network}"),
            (Limit.ALL, self._all, None, f"{limits.packets_per_second} a second in all"),
        ):
            if not budget.fits(key, times):
                return Over(limit, f"target {address}: with {len(times)} more packets over {text}")
        return None

    def plan(self, address: str, times: Sequence[int]) -> None:
        """Count packets to a target."""
        self._per_target.plan(address, times)
        self._per_network.plan(network_of(address), times)
        self._all.plan(None, times)

    def unplan(self, address: str, times: Sequence[int]) -> None:
        """Take back packets to a target that were never sent."""
        self._per_target.unplan(address, times)
        self._per_network.unplan(network_of(address), times)
        self._all.unplan(None, times)

    def control_over(self, servers: str, times: Sequence[int]) -> Over | None:
        """Whether control servers, counted under this name, may be asked at these times, sorted."""
        if self._control.fits(servers, times):
            return None
        limit = self._settings.guard.control_packets_per_second
        return Over(Limit.CONTROL, f"control servers {servers}: with another packet over {limit} a second")

    def plan_control(self, servers: str, times: Sequence[int]) -> None:
        """Count packets to control servers."""
        self._control.plan(servers, times)

    def forget(self, now_ns: int) -> None:
        """Drop what can no longer share a window with anything from now on."""
        for budget in (self._per_target, self._per_network, self._all, self._control):
            budget.forget(now_ns)

    def __len__(self) -> int:
        return len(self._per_target) + len(self._per_network)


def network_of(address: str) -> Network:
    """The network whose packets are counted together with those to an address."""
    length = _IPV6_NETWORK if ":" in address else _IPV4_NETWORK
    return ipaddress.ip_network(f"{address}/{length}", strict=False)
