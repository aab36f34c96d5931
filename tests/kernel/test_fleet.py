"""A vantage that could not be what it says is refused by field, value and remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from poolproof.fleet import Perspective, Rir, Role, Vantage
from poolproof.ids import VantageId
from poolproof.target import Family

GOOD = Vantage(VantageId("ams1"), "192.0.2.7", "2001:db8::7", "2001:db8:7::/64", 64500, Rir.RIPE, 52.4, 4.9)


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("ipv4", "2001:db8::7", "give one like 192.0.2.7"),
        ("ipv6", "192.0.2.7", "give one like 2001:db8::7"),
        ("ipv6", "2001:DB8::7", "canonical"),
        ("ipv6", "::ffff:192.0.2.7", "canonical"),
        ("ipv4", "here", "give one like 192.0.2.7"),
        ("ipv6_prefix", "2001:db8:0:7::/64 ", "give one like 2001:db8:7::/64"),
        ("ipv6_prefix", "2001:db8:7::1/64", "give one like 2001:db8:7::/64"),
        ("ipv6_prefix", "192.0.2.0/24", "give one like 2001:db8:7::/64"),
        ("ipv6_prefix", "2001:DB8:7::/64", "write it in canonical form, '2001:db8:7::/64'"),
        ("ipv6_prefix", "2001:db8:7:0::/64", "write it in canonical form, '2001:db8:7::/64'"),
        ("ipv6_prefix", "2001:db8:7::", "write it in canonical form, '2001:db8:7::/128'"),
        ("ipv6_prefix", "fe80::%1/64", "write it in canonical form, 'fe80::/64'"),
        ("ipv6_prefix", "2001:db8:7::/113", "give /112 or shorter"),
        ("asn", 0, "give 1 to 4294967295"),
        ("asn", 1 << 32, "give 1 to 4294967295"),
        ("latitude", 90.1, "give degrees from -90 to 90"),
        ("latitude", float("nan"), "give degrees from -90 to 90"),
        ("longitude", -180.5, "give degrees from -180 to 180"),
    ],
)
def test_a_bad_field_is_refused(field: str, value: object, remedy: str) -> None:
    changed: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"vantage ams1: {field} ") as refused:
        replace(GOOD, **changed)
    assert remedy in str(refused.value)
    assert str(value).strip() in str(refused.value)


def test_a_vantage_without_any_address_is_none() -> None:
    with pytest.raises(ValueError, match="vantage ams1: give ipv4, ipv6 or ipv6_prefix"):
        Vantage(VantageId("ams1"), None, None, None, 64500, Rir.RIPE)


@pytest.mark.parametrize("degrees", [(-90.0, -180.0), (90.0, 180.0), (0.0, 0.0)])
def test_the_poles_and_the_date_line_are_places(degrees: tuple[float, float]) -> None:
    assert replace(GOOD, latitude=degrees[0], longitude=degrees[1]).latitude == degrees[0]


def test_a_vantage_shows_each_family_what_it_has_there() -> None:
    assert GOOD.source(Family.IPV4) == GOOD.source(Family.IPV4, prefix=True) == "192.0.2.7"
    assert GOOD.source(Family.IPV6) == "2001:db8::7"
    assert GOOD.source(Family.IPV6, prefix=True) == "2001:db8:7::/64"
    assert replace(GOOD, ipv4=None).source(Family.IPV4) is None
    assert replace(GOOD, ipv6_prefix=None).source(Family.IPV6, prefix=True) is None


@pytest.mark.parametrize(("source", "is_prefix"), [("2001:db8:7::/64", True), ("2001:db8::7", False)])
def test_a_perspective_knows_whether_each_exchange_has_another_address(source: str, is_prefix: bool) -> None:
    assert Perspective(GOOD.id, Role.WITNESS, source, 64500, Rir.RIPE).is_prefix is is_prefix
