"""Which of its own addresses the probe sends from: the job's, or random ones of the job's prefix."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from probe.control import Entropy

_INTERFACE_BITS = 64
_ANYCAST_BITS = 7
"""RFC 2526 §2 reserves the highest 128 interface identifiers of a subnet."""


def draw_sources(source: str, slots: Iterable[tuple[int, str]], entropy: Entropy) -> dict[int, str]:
    """An address for each source slot.

    Args:
        source: an address, which all slots then share, or an IPv6 prefix, of which each takes another address.
        slots: source slots, repeated or not, each with the part of the prefix that it draws from, or empty for all of
            it; of a repeated slot the first part counts.
        entropy: that many random bits.
    """
    drawn: dict[int, str] = {}
    for slot, part in slots:
        while slot not in drawn:
            address = source if "/" not in source else random_address(ipaddress.IPv6Network(part or source), entropy)
            if "/" not in source or address not in drawn.values():
                drawn[slot] = address
    return drawn


def random_address(prefix: ipaddress.IPv6Network, entropy: Entropy) -> str:
    """A random address of a prefix that can belong to a host."""
    bits = prefix.max_prefixlen - prefix.prefixlen
    while True:
        host = entropy(bits)
        if not _is_anycast(host, bits):
            return str(prefix.network_address + host)


def _is_anycast(host: int, bits: int) -> bool:
    """Subnet-router anycast (RFC 4291 §2.6.1) and reserved subnet anycast addresses (RFC 2526 §2)."""
    width = min(bits, _INTERFACE_BITS)
    interface = host & ((1 << width) - 1)
    all_ones = (1 << width) - 1
    highest = {all_ones >> _ANYCAST_BITS}
    if width == _INTERFACE_BITS:
        # With the universal/local bit of EUI-64 identifiers cleared: fdff:ffff:ffff:ff80 and up.
        highest.add((all_ones ^ 1 << 57) >> _ANYCAST_BITS)
    return interface == 0 or interface >> _ANYCAST_BITS in highest
