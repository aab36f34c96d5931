"""The thing under test: one address, one port, one family.

IPv4 and IPv6 are separate targets, because a rule for one family leaves the other open. A host name is resolved once,
when the request comes in, and pinned to its addresses.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum

NTP_PORT = 123
_LONGEST_PREFIX = 112
"""Random addresses of a longer prefix could be guessed."""


class Family(Enum):
    """IP version of a target, an address or a prefix."""

    IPV4 = 4
    IPV6 = 6


class InvalidTargetError(ValueError):
    """What was given is no address and port that can be tested; the message says what to give instead."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One address and port.

    Attributes:
        address: canonical text, never an IPv4-mapped IPv6 address.
        port: UDP port, 1..65535.
    """

    address: str
    port: int = NTP_PORT

    def __post_init__(self) -> None:
        canonical = canonical_address(self.address)
        if canonical != self.address:
            raise InvalidTargetError(f"target address {self.address!r}: write it in canonical form, {canonical!r}")
        if not 1 <= self.port <= 65535:
            raise InvalidTargetError(f"target port {self.port}: give 1 to 65535 (NTP is {NTP_PORT})")

    @property
    def family(self) -> Family:
        """The family that the address belongs to."""
        return family_of(self.address)

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.family is Family.IPV6 else self.address
        return host if self.port == NTP_PORT else f"{host}:{self.port}"


def family_of(address: str) -> Family:
    """The family of a canonical address."""
    return Family.IPV6 if ":" in address else Family.IPV4


def within(address: str, source: str) -> bool:
    """Whether a canonical address is a source, or lies in it where that is a prefix; a prefix lies in itself."""
    if address == source or "/" not in source or "/" in address:
        return address == source
    return ipaddress.ip_address(address) in ipaddress.ip_network(source)


def halves(prefix: str) -> tuple[str, str] | None:
    """The lower and the upper half of an IPv6 prefix; None if halves are too short to draw addresses from (/112)."""
    network = ipaddress.IPv6Network(prefix)
    if network.prefixlen >= _LONGEST_PREFIX:
        return None
    lower, upper = network.subnets(prefixlen_diff=1)
    return str(lower), str(upper)


def whole(half: str) -> str:
    """The prefix that a half belongs to."""
    return str(ipaddress.IPv6Network(half).supernet())


def canonical_address(text: str) -> str:
    """Canonical text of an IP address; IPv4-mapped IPv6 is unwrapped.

    Raises:
        InvalidTargetError: not an address, or one with a zone index.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidTargetError(
            f"address {text!r}: give an IPv4 or IPv6 address, like 192.0.2.7 or 2001:db8::7"
        ) from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise InvalidTargetError(
                f"address {text!r}: a zone index ({address.scope_id}) means nothing to a probe elsewhere; leave it out"
            )
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)


def split_host_port(text: str) -> tuple[str, int]:
    """Host (address or name) and port of what a person typed: `192.0.2.7`, `[2001:db8::7]:1123`, `ntp.example:123`.

    Raises:
        InvalidTargetError: nothing that can be read as a host and a port.
    """
    stripped = text.strip()
    if stripped.startswith("["):
        host, bracket, rest = stripped[1:].partition("]")
        if not host or not bracket or (rest and not rest.startswith(":")):
            raise InvalidTargetError(f"target {text!r}: an IPv6 address with a port is written [2001:db8::7]:123")
        return host, _port(rest[1:], text) if rest else NTP_PORT
    if stripped.count(":") > 1:
        return stripped, NTP_PORT
    host, colon, port = stripped.partition(":")
    if not host:
        raise InvalidTargetError(f"target {text!r}: give an address or a host name, like 192.0.2.7 or ntp.example.org")
    return host, _port(port, text) if colon else NTP_PORT


def _port(digits: str, text: str) -> int:
    if not digits.isascii() or not digits.isdigit() or len(digits) > 5 or not 1 <= int(digits) <= 65535:
        raise InvalidTargetError(f"target {text!r}: port {digits!r} is not a number from 1 to 65535")
    return int(digits)
