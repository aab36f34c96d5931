"""Where calibration targets live: single addresses, and IPv6 prefixes of which each target takes a random address."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from poolproof.special_purpose import Network
from poolproof.target import InvalidTargetError, Target, canonical_address, split_host_port

MAX_PREFIX_LENGTH = 112
"""A shorter prefix has addresses enough that nobody guesses the next."""


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of `calibration_listen`.

    Attributes:
        network: one address, or a prefix.
        port: UDP port.
    """

    network: Network
    port: int

    @property
    def is_single(self) -> bool:
        """Whether it is one address."""
        return self.network.num_addresses == 1

    def __str__(self) -> str:
        shown = str(self.network.network_address) if self.is_single else str(self.network)
        return f"[{shown}]:{self.port}" if self.network.version == 6 else f"{shown}:{self.port}"


def read_place(text: str) -> Place:
    """A place from `192.0.2.10`, `192.0.2.10:123`, `[2001:db8::10]:123` or `[2001:db8:c::/64]:123`.

    Raises:
        InvalidTargetError: it is none of these.
    """
    host, port = split_host_port(text)
    if "/" not in host:
        return Place(ipaddress.ip_network(canonical_address(host)), port)
    try:
        network = ipaddress.IPv6Network(host)
    except ValueError as error:
        raise InvalidTargetError(f"prefix {host!r}: {error}; give an IPv6 prefix like [2001:db8:c::/64]:123") from None
    if network.prefixlen > MAX_PREFIX_LENGTH:
        raise InvalidTargetError(f"prefix {host!r}: give /{MAX_PREFIX_LENGTH} or shorter, so that nobody guesses")
    return Place(network, port)


class Addresses:
    """Hands out addresses, each to one calibration at a time.

    Args:
        places: all there are.
        below: a random number from 0 up to its argument.
    """

    def __init__(self, places: Iterable[Place], below: Callable[[int], int]) -> None:
        self._places = tuple(places)
        self._below = below
        self._taken: set[Target] = set()

    @property
    def places(self) -> tuple[Place, ...]:
        """All there are."""
        return self._places

    def take(self) -> Target | None:
        """An address that no calibration has now; None if there is none. All places are as likely."""
        free = [place for place in self._places if not place.is_single or _only(place) not in self._taken]
        if not free:
            return None
        place = free[self._below(len(free))]
        target = _only(place) if place.is_single else self._random(place)
        self._taken.add(target)
        return target

    def give_back(self, target: Target) -> None:
        """The calibration is over."""
        self._taken.discard(target)

    def _random(self, place: Place) -> Target:
        # The first address of a subnet is its routers' (RFC 4291 §2.6.1).
        number = int(place.network.network_address) + 1 + self._below(place.network.num_addresses - 1)
        return Target(str(ipaddress.IPv6Address(number)), place.port)


def _only(place: Place) -> Target:
    return Target(str(place.network.network_address), place.port)
