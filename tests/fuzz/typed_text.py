"""What people type and operators write: targets, addresses, and the TOML files of fleet, policy and responder."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar, cast

from coordinator.fleet import FleetError, load_fleet
from coordinator.policy_file import PolicyFileError, load_policy
from poolproof.cohort import Candidate
from poolproof.fleet import Vantage
from poolproof.ids import VerificationId
from poolproof.ntp import client_request
from poolproof.plan import baseline_jobs
from poolproof.policy import Policy
from poolproof.serving import Behaviour, reply_to
from poolproof.special_purpose import forbidden_target, special_purpose
from poolproof.target import InvalidTargetError, Target, canonical_address, family_of, split_host_port
from poolproof.wire import WireError, job_from_wire, job_to_wire, vantage_from_wire, vantage_to_wire
from poolproof.wire.checks import address as checked_address
from poolproof.wire.checks import source as checked_source
from probe.responder import read_behaviour
from tests.fuzz.harness import Harness
from tests.fuzz.splitter import Splitter
from tests.kernel.fleets import TARGET, vantage

T = TypeVar("T")
_ADDRESSES = (
    *(
        "192.0.2.7",
        "[2001:db8::7]:123",
        "2001:db8::7",
        "ntp.example:123",
        "::ffff:192.0.2.7",
        "fe80::1%eth0",
        "1.2.3.4:0",
    ),
    *("[::]", "[]:1", "a:b:c", " 192.0.2.7 ", "0x7f.1", "127.1", "[1.2.3.4]:99999", "::ffff:0:1.2.3.4", "::1.2.3.4"),
)


def _target(data: bytes) -> str:
    """Whatever is typed becomes one canonical target, or is refused; what we write for it is read as the same."""
    text = data.decode("utf-8", "replace")
    for check in (checked_address, checked_source):
        try:
            assert check("field", text) == text
        except WireError:
            continue
        assert "%" not in text
        assert "/" in text or canonical_address(text) == text
    try:
        host, port = split_host_port(text)
    except InvalidTargetError:
        return "refused"
    assert host
    assert 1 <= port <= 65_535
    try:
        address = canonical_address(host)
    except InvalidTargetError:
        return "name"
    target = Target(address, port)
    assert canonical_address(address) == address
    assert family_of(address).value == ipaddress.ip_address(address).version
    mapped = ipaddress.ip_address(host)
    assert not isinstance(mapped, ipaddress.IPv6Address) or mapped.ipv4_mapped is None or ":" not in address
    host_again, port_again = split_host_port(str(target))
    assert Target(canonical_address(host_again), port_again) == target
    return "address"


def _wrapped(inner: ipaddress.IPv4Address, split: Splitter) -> ipaddress.IPv6Address:
    """An IPv6 address that carries an IPv4 address, in one of the forms that there are."""
    low, random = int(inner), split.number(4)
    return ipaddress.IPv6Address(
        split.pick(
            (
                0xFFFF << 32 | low,
                low,
                0xFFFF << 48 | low,
                0x64FF9B << 96 | low,
                0x64FF9B0001 << 80 | random << 32 | low,
                0x2002 << 112 | low << 80 | random,
                0x20010000 << 96 | random << 64 | low ^ 0xFFFF_FFFF,
            )
        )
    )


def _special(data: bytes) -> str:
    """No address that Python's own registry calls special passes, and none that wraps an IPv4 address."""
    split = Splitter(data)
    inner = ipaddress.IPv4Address(split.number(4))
    whole: ipaddress.IPv4Address | ipaddress.IPv6Address
    match split.below(4):
        case 0:
            whole = inner
        case 1:
            whole = _wrapped(inner, split)
            assert special_purpose(str(whole)) is not None
            assert special_purpose(whole.exploded) is not None
            assert special_purpose(f"{whole}%eth0") is not None
        case _:
            whole = ipaddress.IPv6Address(
                (split.pick((0x2001, 0x2A00, 0xFE80, split.number(2))) << 112) | split.number(14)
            )
    found = special_purpose(str(whole))
    if not whole.is_global or whole.is_multicast:
        assert found is not None, f"{whole} is special"
    allowed = forbidden_target(str(whole), [ipaddress.ip_network(f"{whole}/{whole.max_prefixlen}")])
    assert allowed is None
    return "ordinary" if found is None else "special"


_VALUES = (
    *("1", "0", "-1", "16", "64", "300", "4294967296", "1_000_000_000", "60_000_000_001", "10" * 20, "true", "false"),
    *("0.5", "1e-6", "0.0", "-1.5", "inf", "-inf", "nan", "1e400", "[]", "{}", "1979-05-27", '""', '"2026-11"'),
    *('"ripe"', '"own"', '"ams1"', '"192.0.2.7"', '"2001:db8::7"', '"2001:db8:7::/64"', '"::ffff:192.0.2.7"', '"deny"'),
    *('["192.0.2.0/24"]', '["2001:db8::/32"]', "[1]", "[true]", '["x"]', '"GPS"', '"false"', '"5"', f'"{"x" * 300}"'),
)


def _written(data: bytes, heading: str, names: Sequence[str], whole: str) -> bytes:
    """The file itself, or one with some of its lines changed, or new ones, from fields and values that there are."""
    split = Splitter(data)
    if split.below(4) == 3:
        return split.rest()
    lines = {line.partition(" = ")[0]: line.partition(" = ")[2] for line in whole.splitlines() if " = " in line}
    tables = []
    for _ in range(1 + split.below(3) if heading else 1):
        changed = dict(lines)
        for _ in range(split.below(5)):
            name = split.pick(names) if split.below(16) != 15 else split.text(8)
            if split.below(8) == 7:
                changed.pop(name, None)
            else:
                value = split.pick(_VALUES)
                changed[name] = value if split.below(8) != 7 else json.dumps(split.text(20))
        tables.append("\n".join((heading, *(f"{name} = {value}" for name, value in changed.items()), "")))
    return "\n".join(tables).encode()


_VANTAGE_FIELDS = tuple(each.name for each in fields(Vantage))
_POLICY_FIELDS = ("based_on", *(each.name for each in fields(Policy)))
_BEHAVIOUR_FIELDS = tuple(each.name for each in fields(Behaviour))
_FLEET = """
id = "ams1"
ipv4 = "192.0.2.7"
asn = 64500
rir = "ripe"
operator = "Example"
"""
_POLICY = """
id = "own"
based_on = "2026-11"
settle_ns = 1_000
"""
_BEHAVIOUR = """
refusal = "deny"
stratum = 2
refid = "GPS"
"""


class _File:
    """A file of these bytes, as far as a reader of text asks."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_text(self, encoding: str) -> str:
        return self._data.decode(encoding)

    def __str__(self) -> str:
        return "file.toml"


def _read(data: bytes, load: Callable[[Path], T], documented: type[Exception]) -> T | None:
    """What is read, or None if it is refused by the documented error."""
    try:
        return load(cast(Path, _File(data)))
    except documented as error:
        assert str(error).startswith(("fleet file file.toml", "policy file file.toml"))
        return None


def _fleet(data: bytes) -> str:
    """A fleet that is taken is one that every record and message can hold, without a second of anything."""
    written = _written(data, "[[vantage]]", _VANTAGE_FIELDS, _FLEET)
    fleet = _read(written, load_fleet, FleetError)
    if fleet is None:
        return "refused"
    assert fleet
    assert len({each.id for each in fleet}) == len(fleet)
    for each in fleet:
        assert vantage_from_wire(vantage_to_wire(each)) == each
        job = VerificationId(f"verify1/1/baseline/{each.id}")
        assert len(job) <= 256
    return "taken"


def _policy(data: bytes) -> str:
    """A policy that is taken asks for jobs that every probe can read."""
    policy = _read(_written(data, "", _POLICY_FIELDS, _POLICY), load_policy, PolicyFileError)
    if policy is None:
        return "refused"
    assert 0 < policy.alpha_strong <= policy.alpha_medium <= policy.alpha_weak < 1
    candidates = [Candidate(vantage(1), "192.0.2.2")]
    for job in baseline_jobs(VerificationId("verify1"), 1, TARGET, candidates, policy.lead_ns, policy):
        assert job_from_wire(job_to_wire(job)) == job
    return "taken"


def _behaviour(data: bytes) -> str:
    """A behaviour that is taken answers every request without a failure."""
    try:
        behaviour = read_behaviour(_written(data, "", _BEHAVIOUR_FIELDS, _BEHAVIOUR).decode("utf-8"))
    except ValueError:
        return "refused"
    for blocked, hurried in ((False, False), (True, False), (False, True)):
        reply = reply_to(
            client_request(1), behaviour=behaviour, blocked=blocked, hurried=hurried, received_ns=1, transmit_ns=2
        )
        assert reply is None or len(reply) == 48
        # Stratum 0 is a kiss code's (RFC 5905 §7.3): it must come of nothing but a refusal or no synchronisation.
        assert reply is None or reply[1] or reply[0] >> 6 == 3
    assert behaviour.blocks("192.0.2.7") in (True, False)
    assert behaviour.blocks("2001:db8::7") in (True, False)
    return "with lists" if behaviour.deny or behaviour.allow_only else "taken"


HARNESSES = (
    Harness(
        "target",
        "poolproof.target: split_host_port, canonical_address; wire.checks: address, source",
        _target,
        frozenset({"refused", "name", "address"}),
        tuple(each.encode() for each in _ADDRESSES),
    ),
    Harness("special", "poolproof.special_purpose", _special, frozenset({"ordinary", "special"})),
    Harness("fleet", "coordinator.fleet", _fleet, frozenset({"refused", "taken"})),
    Harness("policy", "coordinator.policy_file", _policy, frozenset({"refused", "taken"})),
    Harness("behaviour", "probe.responder: read_behaviour", _behaviour, frozenset({"refused", "taken", "with lists"})),
)
