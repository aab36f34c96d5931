"""Vantages, roles and perspectives: who looks at a target, from where, and as what."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum, StrEnum

from poolproof.ids import VantageId
from poolproof.target import Family, InvalidTargetError, canonical_address, family_of


class Rir(StrEnum):
    """Regional Internet registry of a vantage's address."""

    AFRINIC = "afrinic"
    APNIC = "apnic"
    ARIN = "arin"
    LACNIC = "lacnic"
    RIPE = "ripe"


class Role(Enum):
    """What a vantage is in one verification. Drawn anew for each attempt."""

    ALLOWED_MONITOR = "allowed-monitor"
    """Its address is told to the owner; the server must go on answering it."""
    MUST_BE_BLOCKED = "must-be-blocked"
    """Its address (or prefix) is told to the owner; the server must stop answering it."""
    WITNESS = "witness"
    """Its address is told to nobody."""


@dataclass(frozen=True, slots=True)
class Vantage:
    """A registered network location with one probe.

    Attributes:
        id: unique in the fleet.
        ipv4: source address for IPv4 targets, or None.
        ipv6: source address for IPv6 targets, or None.
        ipv6_prefix: a prefix routed to the probe, from which each exchange takes another random address, or None.
        asn: autonomous system number: the failure domain.
        rir: registry of the addresses.
        latitude: degrees north, -90..90.
        longitude: degrees east, -180..180.
        operator: who runs the host.
    """

    id: VantageId
    ipv4: str | None
    ipv6: str | None
    ipv6_prefix: str | None
    asn: int
    rir: Rir
    latitude: float = 0.0
    longitude: float = 0.0
    operator: str = ""

    def __post_init__(self) -> None:
        for name, address, family in (("ipv4", self.ipv4, Family.IPV4), ("ipv6", self.ipv6, Family.IPV6)):
            if address is not None:
                self._check_address(name, address, family)
        for name, degrees, limit in (("latitude", self.latitude, 90), ("longitude", self.longitude, 180)):
            if not -limit <= degrees <= limit:
                raise ValueError(f"vantage {self.id}: {name} {degrees}: give degrees from -{limit} to {limit}")
        if self.ipv6_prefix is not None:
            try:
                prefix = ipaddress.IPv6Network(self.ipv6_prefix)
            except ValueError as error:
                raise ValueError(
                    f"vantage {self.id}: ipv6_prefix {self.ipv6_prefix!r}: {error}; give one like 2001:db8:7::/64"
                ) from None
            canonical = f"{ipaddress.IPv6Address(int(prefix.network_address))}/{prefix.prefixlen}"
            if canonical != self.ipv6_prefix:
                raise ValueError(
                    f"vantage {self.id}: ipv6_prefix {self.ipv6_prefix!r}: write it in canonical form, {canonical!r}"
                )
            if prefix.prefixlen > 112:
                raise ValueError(
                    f"vantage {self.id}: ipv6_prefix {self.ipv6_prefix!r}: give /112 or shorter,"
                    " so that random addresses cannot be guessed"
                )
        if self.ipv4 is None and self.ipv6 is None and self.ipv6_prefix is None:
            raise ValueError(f"vantage {self.id}: give ipv4, ipv6 or ipv6_prefix")
        if not 0 < self.asn < 1 << 32:
            raise ValueError(f"vantage {self.id}: asn {self.asn}: give 1 to 4294967295")

    def _check_address(self, name: str, address: str, family: Family) -> None:
        try:
            fits = canonical_address(address) == address and family_of(address) is family
        except InvalidTargetError:
            fits = False
        if not fits:
            example = "192.0.2.7" if family is Family.IPV4 else "2001:db8::7"
            raise ValueError(
                f"vantage {self.id}: {name} {address!r} is no canonical {family.name} address; give one like {example}"
            )

    def source(self, family: Family, *, prefix: bool = False) -> str | None:
        """The address, or with `prefix` the IPv6 prefix, that this vantage shows to a target of that family."""
        if family is Family.IPV4:
            return self.ipv4
        return self.ipv6_prefix if prefix else self.ipv6


@dataclass(frozen=True, slots=True)
class Perspective:
    """One vantage's view in one verification.

    Attributes:
        vantage: the vantage's id.
        role: what it is in this attempt.
        source: the address, or the IPv6 prefix, that the target sees.
        asn: failure domain.
        rir: registry.
    """

    vantage: VantageId
    role: Role
    source: str
    asn: int
    rir: Rir

    @property
    def is_prefix(self) -> bool:
        """Whether each exchange comes from another random address of a prefix."""
        return "/" in self.source
