"""What a probe tells the coordinator that it can do."""

from __future__ import annotations

from poolproof.exchange import ExchangeKind
from poolproof.target import Family
from poolproof.wire import Capabilities
from probe.settings import ProbeSettings


def capabilities(settings: ProbeSettings, *, can_watch: bool) -> Capabilities:
    """What a probe with these settings can do, with a tripwire or without."""
    families = {Family.IPV4} if settings.ipv4 else set()
    if settings.ipv6 or settings.ipv6_prefix:
        families.add(Family.IPV6)
    return Capabilities(
        families=frozenset(families),
        ipv6_prefix=settings.ipv6_prefix is not None,
        kernel_timestamps=True,
        icmp_errors=True,
        kinds=frozenset(ExchangeKind),
        capacity=settings.guard.max_jobs,
        tripwire=can_watch,
    )
