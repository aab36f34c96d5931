"""Which vantage an address belongs to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from poolproof.fleet import Vantage
from poolproof.ids import VantageId

_REMEMBERED = 4_096


class Sources:
    """All addresses and prefixes of a fleet.

    Args:
        fleet: all vantages; no two share an address.
    """

    def __init__(self, fleet: Iterable[Vantage]) -> None:
        self._single: dict[str, VantageId] = {}
        self._prefixes: list[tuple[ipaddress.IPv6Network, VantageId]] = []
        for vantage in fleet:
            self._single.update((address, vantage.id) for address in (vantage.ipv4, vantage.ipv6) if address)
            if vantage.ipv6_prefix is not None:
                self._prefixes.append((ipaddress.IPv6Network(vantage.ipv6_prefix), vantage.id))
        self._in_prefixes = lru_cache(maxsize=_REMEMBERED)(self._search)

    def vantage_of(self, source: str) -> VantageId | None:
        """The vantage; None: a stranger."""
        found = self._single.get(source)
        return found if found is not None or ":" not in source else self._in_prefixes(source)

    def _search(self, source: str) -> VantageId | None:
        address = ipaddress.IPv6Address(source)
        return next((vantage for network, vantage in self._prefixes if address in network), None)
