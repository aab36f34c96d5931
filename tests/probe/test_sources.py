"""Sources drawn from a prefix are hosts' addresses of it, one for each slot."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from probe.sources import draw_sources, random_address
from tests.probe.virtual import seeded

prefixes = st.tuples(st.integers(0, 2**48 - 1), st.integers(40, 112)).map(
    lambda drawn: ipaddress.IPv6Network((0x2A01 << 112 | drawn[0] << 64, drawn[1]), strict=False)
)


@given(prefixes, st.lists(st.integers(-1, 20), max_size=20), st.integers(0, 999))
def test_each_slot_has_its_own_address_in_the_prefix(
    prefix: ipaddress.IPv6Network, slots: list[int], seed: int
) -> None:
    drawn = draw_sources(str(prefix), [(slot, "") for slot in slots], seeded(seed))
    assert set(drawn) == set(slots)
    assert len(set(drawn.values())) == len(drawn)
    assert all(ipaddress.IPv6Address(address) in prefix for address in drawn.values())


def test_an_address_is_itself_in_every_slot() -> None:
    assert draw_sources("192.0.2.7", [(0, ""), (1, ""), (1, "")], seeded(1)) == {0: "192.0.2.7", 1: "192.0.2.7"}


@given(prefixes.filter(lambda prefix: prefix.prefixlen < 112), st.integers(0, 999))
def test_a_slot_may_draw_from_a_part_of_the_prefix(prefix: ipaddress.IPv6Network, seed: int) -> None:
    lower, upper = prefix.subnets(1)
    drawn = draw_sources(str(prefix), [(-1, ""), (0, str(upper)), (1, str(lower))], seeded(seed))
    assert ipaddress.IPv6Address(drawn[0]) in upper
    assert ipaddress.IPv6Address(drawn[1]) in lower
    assert ipaddress.IPv6Address(drawn[-1]) in prefix


def test_no_anycast_address_is_ever_drawn() -> None:
    def entropy_of(*values: int) -> str:
        left = list(values)
        prefix = ipaddress.IPv6Network("2a01:db8::/64")
        return random_address(prefix, lambda bits: left.pop(0))

    subnet_router, reserved, reserved_eui64 = 0, 2**64 - 1, 0xFDFF_FFFF_FFFF_FF80
    assert entropy_of(subnet_router, reserved, reserved_eui64, 7) == "2a01:db8::7"
    short = ipaddress.IPv6Network("2a01:db8::/112")
    seen = iter([0, 0xFF80, 0xFFFF, 0xFF7F])
    assert random_address(short, lambda bits: next(seen)) == "2a01:db8::ff7f"
    long = ipaddress.IPv6Network("2a01:db8::/48")
    of_subnets = iter([5 << 64, 5 << 64 | 9])
    assert random_address(long, lambda bits: next(of_subnets)) == "2a01:db8:0:5::9"
