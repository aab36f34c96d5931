"""What a person types becomes a target, or an error that says what to type instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.target import Family, InvalidTargetError, Target, canonical_address, family_of, split_host_port


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("192.0.2.7", ("192.0.2.7", 123)),
        ("192.0.2.7:1123", ("192.0.2.7", 1123)),
        (" ntp.example ", ("ntp.example", 123)),
        ("ntp.example:65535", ("ntp.example", 65535)),
        ("2001:db8::7", ("2001:db8::7", 123)),
        ("[2001:db8::7]", ("2001:db8::7", 123)),
        ("[2001:db8::7]:1", ("2001:db8::7", 1)),
    ],
)
def test_hosts_and_ports(typed: str, read: tuple[str, int]) -> None:
    assert split_host_port(typed) == read


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("", "give an address or a host name"),
        (":123", "give an address or a host name"),
        ("[2001:db8::7", "is written [2001:db8::7]:123"),
        ("[2001:db8::7]123", "is written [2001:db8::7]:123"),
        ("[]", "is written [2001:db8::7]:123"),
        ("192.0.2.7:" + "1" * 5000, "is not a number from 1 to 65535"),
        ("[2001:db8::7]:", "port '' is not a number from 1 to 65535"),
        ("192.0.2.7:", "port '' is not a number from 1 to 65535"),
        ("192.0.2.7:0", "port '0' is not a number from 1 to 65535"),
        ("192.0.2.7:65536", "port '65536' is not a number from 1 to 65535"),
        ("192.0.2.7:+5", "port '+5' is not a number from 1 to 65535"),
        ("192.0.2.7:\N{ARABIC-INDIC DIGIT ONE}", "is not a number from 1 to 65535"),
        ("192.0.2.7:\N{SUPERSCRIPT TWO}", "is not a number from 1 to 65535"),
    ],
)
def test_what_cannot_be_read_names_itself_and_the_remedy(typed: str, remedy: str) -> None:
    with pytest.raises(InvalidTargetError) as refused:
        split_host_port(typed)
    assert remedy in str(refused.value)
    assert f"target {typed!r}" in str(refused.value)


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [("2001:DB8:0::7", "2001:db8::7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("192.0.2.7", "192.0.2.7")],
)
def test_one_address_has_one_spelling(typed: str, canonical: str) -> None:
    assert canonical_address(typed) == canonical
    assert Target(canonical).address == canonical


@pytest.mark.parametrize("typed", ["2001:DB8::7", "::ffff:192.0.2.7"])
def test_a_target_takes_no_other_spelling(typed: str) -> None:
    with pytest.raises(InvalidTargetError, match=r"target address '.*': write it in canonical form, '.*'"):
        Target(typed)


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("192.0.2.07", "give an IPv4 or IPv6 address"),
        ("3221225991", "give an IPv4 or IPv6 address"),
        ("", "give an IPv4 or IPv6 address"),
        ("fe80::1%eth0", "leave it out"),
    ],
)
def test_no_address(typed: str, remedy: str) -> None:
    with pytest.raises(InvalidTargetError, match=remedy) as refused:
        Target(typed)
    assert repr(typed) in str(refused.value)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_no_port(port: int) -> None:
    with pytest.raises(InvalidTargetError, match=f"target port {port}: give 1 to 65535"):
        Target("192.0.2.7", port)


@given(st.ip_addresses().map(str).map(lambda text: canonical_address(text.partition("%")[0])), st.integers(1, 65535))
def test_what_a_target_says_of_itself_can_be_typed_again(address: str, port: int) -> None:
    target = Target(address, port)
    assert split_host_port(str(target)) == (address, port)
    assert target.family is family_of(address)
    assert (":" in address) is (target.family is Family.IPV6)


@given(st.text(max_size=40))
def test_nothing_typed_raises_anything_else(typed: str) -> None:
    try:
        host, port = split_host_port(typed)
    except InvalidTargetError:
        return
    assert host
    assert 1 <= port <= 65535
