"""No address that is not one public host may be a target, in whatever form it is written."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.special_purpose import RANGES, forbidden_target, special_purpose
from poolproof.target import InvalidTargetError

ipv4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
ipv6 = st.one_of(
    st.integers(0, 2**128 - 1),
    st.integers(0x2001 << 112, (0x2002 << 112) - 1),
    st.integers(0, 2**64 - 1),
    st.sampled_from([entry for entry in RANGES if entry.network.version == 6]).flatmap(
        lambda entry: st.integers(int(entry.network.network_address), int(entry.network.broadcast_address))
    ),
).map(ipaddress.IPv6Address)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("0.0.0.0", "this network"),
        ("10.20.30.40", "private use"),
        ("100.127.255.255", "shared address space"),
        ("127.0.0.53", "loopback"),
        ("169.254.169.254", "link local"),
        ("172.31.0.1", "private use"),
        ("192.0.0.9", "Port Control Protocol"),
        ("192.0.2.1", "TEST-NET-1"),
        ("192.31.196.1", "AS112"),
        ("192.52.193.1", "AMT"),
        ("192.88.99.1", "6to4 relay"),
        ("192.168.1.1", "private use"),
        ("192.175.48.6", "AS112"),
        ("198.19.255.255", "benchmarking"),
        ("203.0.113.9", "TEST-NET-3"),
        ("224.0.1.1", "multicast"),
        ("247.1.2.3", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("100::7", "discard"),
        ("100:0:0:1::7", "dummy"),
        ("2001:2::1", "benchmarking"),
        ("2001:20::1", "ORCHIDv2"),
        ("2001:1ff::1", "IETF protocol"),
        ("2001:db8::1", "documentation"),
        ("3fff:fff::1", "documentation"),
        ("5f00::1", "segment routing"),
        ("fd00::1", "unique local"),
        ("fe80::1", "link local"),
        ("fe80::1%eth0", "link local"),
        ("fec0::1", "site local"),
        ("ff0e::101", "multicast"),
        ("4000::1", "not global unicast"),
        ("1fff::1", "not global unicast"),
    ],
)
def test_each_special_range_is_named(address: str, name: str) -> None:
    found = special_purpose(address)
    assert found is not None
    assert name in found.name


@pytest.mark.parametrize(
    "wrapped",
    [
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "::ffff:0:7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1:fffe::7f00:1",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "2a01:3f7:1:2:0:5efe:7f00:1",
        "2a01:3f7:1:2:200:5efe:808:808",
    ],
)
def test_a_wrapped_ipv4_address_is_refused_whatever_it_wraps(wrapped: str) -> None:
    found = special_purpose(wrapped)
    assert found is not None
    assert "wraps IPv4" in found.name


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "9.9.9.9",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.0",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2001:500:2f::f",
        "2003::1",
        "2606:4700:f1::1",
        "2a01:3f7::1",
        "3ffe::1",
        "2a01:3f7::100:5efe:808:808",
        "2a01:3f7::5efe:0:808:808",
    ],
)
def test_an_ordinary_public_address_may_be_a_target(address: str) -> None:
    assert special_purpose(address) is None


@given(st.one_of(ipv4, ipv6))
def test_whatever_python_knows_not_to_be_global_is_refused(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert special_purpose(str(address)) is not None


@given(ipv4)
def test_whatever_is_refused_in_ipv4_and_not_a_service_anycast_python_refuses_too(
    address: ipaddress.IPv4Address,
) -> None:
    # Globally reachable by the registry, and yet no place for an NTP server.
    services = {"AS112-v4", "AMT", "direct delegation AS112", "deprecated 6to4 relay anycast", "multicast"}
    found = special_purpose(str(address))
    if found is not None and found.network.prefixlen < 29 and found.name not in services:
        assert not address.is_global or found.name == "IETF protocol assignments"


@given(st.one_of(ipv4, ipv6))
def test_the_narrowest_range_is_the_one_named(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    holding = [entry for entry in RANGES if entry.network.version == address.version and address in entry.network]
    found = special_purpose(str(address))
    if found is None:
        assert not holding
    elif not found.name.startswith("ISATAP"):
        assert found.network.prefixlen == max(entry.network.prefixlen for entry in holding)


def test_an_allowed_network_opens_itself_and_nothing_else() -> None:
    allowed = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert forbidden_target("127.0.0.77", allowed) is None
    assert forbidden_target("::1", allowed) is None
    assert forbidden_target("10.0.0.1", allowed) is not None
    assert forbidden_target("::ffff:127.0.0.1", allowed) is not None
    assert forbidden_target("2002:7f00:1::", allowed) is not None
    assert forbidden_target("127.0.0.77") is not None


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "127.1", "0x7f000001", "1.2.3.4/32", "[::1]", "01.2.3.4"])
def test_what_is_no_address_is_an_error_that_says_what_to_give(text: str) -> None:
    with pytest.raises(InvalidTargetError, match=r"give an IPv4 or IPv6 address"):
        special_purpose(text)
