"""Addresses that may never be a target, because they mean something else than one public host.

The ranges are those of the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates), with
multicast, the deprecated ranges, and everything outside IPv6 global unicast. Some ranges of the registries are
globally reachable (anycast services, AS112, AMT); they are refused too, because no NTP server of a pool lives there.

Wrapped forms (IPv4-mapped, IPv4-compatible, 6to4, Teredo, NAT64, ISATAP) are refused as a whole, whatever IPv4 address
they carry: a packet to them is really a packet to that address, and would pass by every rule about it. A NAT64 prefix
that some network chose for itself cannot be told from any other (RFC 6052 §2.2): a probe in such a network denies it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from poolproof.target import InvalidTargetError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class SpecialRange:
    """One range of addresses that are no public hosts.

    Attributes:
        network: the range.
        name: its name in the registry.
        source: the document that sets it aside.
    """

    network: Network
    name: str
    source: str

    def __str__(self) -> str:
        return f"{self.network} ({self.name}, {self.source})"


def special_purpose(address: str) -> SpecialRange | None:
    """The narrowest special-purpose range that an address lies in; None for an ordinary public address.

    Raises:
        InvalidTargetError: the text is no IP address.
    """
    parsed = _parsed(address)
    found = next((each for each in RANGES if each.network.version == parsed.version and parsed in each.network), None)
    if found is None and isinstance(parsed, ipaddress.IPv6Address) and int(parsed) >> 32 & _ISATAP_MASK == _ISATAP:
        return SpecialRange(ipaddress.IPv6Network((parsed, 96), strict=False), "ISATAP (wraps IPv4)", "RFC 5214 §6.1")
    return found


def forbidden_target(address: str, allow_networks: Iterable[Network] = ()) -> SpecialRange | None:
    """The same, but None as well for an address in one of the networks that an operator allowed (a lab, a demo).

    A wrapped form is judged as it is written: `::ffff:127.0.0.1` is not in 127.0.0.0/8.

    Raises:
        InvalidTargetError: the text is no IP address.
    """
    parsed = _parsed(address)
    if any(network.version == parsed.version and parsed in network for network in allow_networks):
        return None
    return special_purpose(address)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise InvalidTargetError(
            f"address {address!r}: give an IPv4 or IPv6 address, like 192.0.2.7 or 2001:db8::7"
        ) from None
    # A zone index makes Python's comparison with a network fail to match: fe80::1%eth0 is fe80::1 to this rule.
    return ipaddress.IPv6Address(int(parsed)) if isinstance(parsed, ipaddress.IPv6Address) else parsed


_ISATAP = 0x0000_5EFE
_ISATAP_MASK = 0xFDFF_FFFF
"""The upper half of an interface identifier, but for its universal/local bit; the lower half is the IPv4 address."""

_REGISTRY: tuple[tuple[str, str, str], ...] = (
    # IANA IPv4 Special-Purpose Address Registry
    ("0.0.0.0/8", "this network", "RFC 791 §3.2"),
    ("10.0.0.0/8", "private use", "RFC 1918"),
    ("100.64.0.0/10", "shared address space (carrier NAT)", "RFC 6598"),
    ("127.0.0.0/8", "loopback", "RFC 1122 §3.2.1.3"),
    ("169.254.0.0/16", "link local", "RFC 3927"),
    ("172.16.0.0/12", "private use", "RFC 1918"),
    ("192.0.0.0/24", "IETF protocol assignments", "RFC 6890 §2.1"),
    ("192.0.0.0/29", "IPv4 service continuity prefix", "RFC 7335"),
    ("192.0.0.8/32", "IPv4 dummy address", "RFC 7600"),
    ("192.0.0.9/32", "Port Control Protocol anycast", "RFC 7723"),
    ("192.0.0.10/32", "TURN anycast", "RFC 8155"),
    ("192.0.0.170/31", "NAT64/DNS64 discovery", "RFC 8880"),
    ("192.0.2.0/24", "documentation (TEST-NET-1)", "RFC 5737"),
    ("192.31.196.0/24", "AS112-v4", "RFC 7535"),
    ("192.52.193.0/24", "AMT", "RFC 7450"),
    ("192.88.99.0/24", "deprecated 6to4 relay anycast", "RFC 7526"),
    ("192.168.0.0/16", "private use", "RFC 1918"),
    ("192.175.48.0/24", "direct delegation AS112", "RFC 7534"),
    ("198.18.0.0/15", "benchmarking", "RFC 2544"),
    ("198.51.100.0/24", "documentation (TEST-NET-2)", "RFC 5737"),
    ("203.0.113.0/24", "documentation (TEST-NET-3)", "RFC 5737"),
    ("224.0.0.0/4", "multicast", "RFC 5771"),
    ("240.0.0.0/4", "reserved", "RFC 1112 §4"),
    ("255.255.255.255/32", "limited broadcast", "RFC 8190"),
    # IANA IPv6 Special-Purpose Address Registry
    ("::/128", "unspecified address", "RFC 4291 §2.5.2"),
    ("::1/128", "loopback", "RFC 4291 §2.5.3"),
    ("::/96", "deprecated IPv4-compatible (wraps IPv4)", "RFC 4291 §2.5.5.1"),
    ("::ffff:0:0/96", "IPv4-mapped (wraps IPv4)", "RFC 4291 §2.5.5.2"),
    ("::ffff:0:0:0/96", "IPv4-translated (wraps IPv4)", "RFC 2765"),
    ("64:ff9b::/96", "NAT64 (wraps IPv4)", "RFC 6052"),
    ("64:ff9b:1::/48", "local-use NAT64 (wraps IPv4)", "RFC 8215"),
    ("100::/64", "discard only", "RFC 6666"),
    ("100:0:0:1::/64", "dummy prefix", "RFC 9780"),
    ("2001::/23", "IETF protocol assignments", "RFC 2928"),
    ("2001::/32", "Teredo (wraps IPv4)", "RFC 4380"),
    ("2001:1::1/128", "Port Control Protocol anycast", "RFC 7723"),
    ("2001:1::2/128", "TURN anycast", "RFC 8155"),
    ("2001:1::3/128", "DNS-SD service registration anycast", "RFC 9665"),
    ("2001:2::/48", "benchmarking", "RFC 5180"),
    ("2001:3::/32", "AMT", "RFC 7450"),
    ("2001:4:112::/48", "AS112-v6", "RFC 7535"),
    ("2001:10::/28", "deprecated ORCHID", "RFC 4843"),
    ("2001:20::/28", "ORCHIDv2", "RFC 7343"),
    ("2001:30::/28", "drone remote identification", "RFC 9374"),
    ("2001:db8::/32", "documentation", "RFC 3849"),
    ("2002::/16", "6to4 (wraps IPv4)", "RFC 3056"),
    ("2620:4f:8000::/48", "direct delegation AS112", "RFC 7534"),
    ("3fff::/20", "documentation", "RFC 9637"),
    ("5f00::/16", "segment routing SIDs", "RFC 9602"),
    ("fc00::/7", "unique local", "RFC 4193"),
    ("fe80::/10", "link local", "RFC 4291 §2.5.6"),
    ("fec0::/10", "deprecated site local", "RFC 3879"),
    ("ff00::/8", "multicast", "RFC 4291 §2.7"),
    # What is left of IPv6 outside 2000::/3 is no global unicast space (IANA IPv6 address space registry).
    ("::/3", "not global unicast", "RFC 4291 §2.4"),
    ("4000::/2", "not global unicast", "RFC 4291 §2.4"),
    ("8000::/1", "not global unicast", "RFC 4291 §2.4"),
)

RANGES: tuple[SpecialRange, ...] = tuple(
    sorted(
        (SpecialRange(ipaddress.ip_network(network), name, source) for network, name, source in _REGISTRY),
        key=lambda entry: -entry.network.prefixlen,
    )
)
"""Every range, the narrowest first."""
