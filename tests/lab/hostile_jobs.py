"""What a hostile coordinator asks for, and what must become of it: one list, so that nothing is refused by luck."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from dataclasses import dataclass

from poolproof.exchange import ExchangeKind
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import Job, Step
from poolproof.special_purpose import RANGES
from poolproof.target import Target
from poolproof.v1 import evidence_pb2 as pb
from poolproof.wire import job_to_wire
from probe.guard import GuardRule

MS = 1_000_000
S = 1_000 * MS
_AHEAD_NS = 60 * S
"""Far enough that no job is late, however slow the machine."""
VANTAGE = "ams1"
OWN, OWN_LAN, LAN_BROADCAST = "45.10.0.7", "45.11.0.7", "45.11.0.255"
OWN_V6, PREFIX = "2a00:1010::7", "2a00:1011:0:1::/64"
TARGET, TARGET_V6 = "45.20.1.1", "2a00:2020:1::1"
CONTROL, CONTROL_V6 = ("45.30.0.1", "45.30.0.2"), ("2a00:3030::1", "2a00:3030::2")
INVALID = "invalid"
"""Refused before the guard: the message says nothing that can be a job."""
_WRAPPED = (
    "::9.9.9.9", "::127.0.0.1", "::ffff:0:9.9.9.9", "::ffff:0:127.0.0.1", "64:ff9b::9.9.9.9", "64:ff9b::127.0.0.1",
    "64:ff9b:1:fffe::127.0.0.1", "2002:909:909::1", "2002:7f00:1::7f00:1", "2001:0:909:909:0:fbff:f6f6:f6f6",
    "2001:0:4136:e378:8000:63bf:80ff:fffe", "2a00:4040::5efe:9.9.9.9", "2a00:4040::200:5efe:127.0.0.1",
)  # fmt: skip
_NO_ADDRESS = (
    "", " ", "localhost", "pool.ntp.org", "010.0.0.1", "9.9.9.09", "0x7f.0.0.1", "0x7f000001", "2130706433", "127.1",
    "9.9.9.9.", "9.9.9.9\n", " 9.9.9.9", "9.9.9.9%eth0", "9.9.9.9/32", "[2a00:2020:1::1]", "fe80::1%eth0",
    "2a00:2020:1::1%1", "2A00:2020:1::1", "2a00:2020:01::1", "::ffff:9.9.9.9", "::ffff:127.0.0.1", "::ffff:7f00:1",
    "\uff19.9.9.9", "9.9.9.9\x00", "9" * 1_000_000,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """One job that must not be done.

    Attributes:
        job: as it goes over the wire.
        rule: a `GuardRule`, or `INVALID`.
    """

    job: pb.Job
    rule: GuardRule | str


def job(name: str, target: str, start_at_ns: int, *, offsets_ns: tuple[int, ...] = (0,), source: str = "") -> pb.Job:
    """A job that breaks no rule by itself if its target is an ordinary one; IPv6 goes out from the own address."""
    return job_to_wire(
        Job(
            id=JobId(name),
            verification=VerificationId("w1"),
            vantage=VantageId(VANTAGE),
            target=Target(target),
            source=source or (OWN_V6 if ":" in target else OWN),
            start_at_ns=start_at_ns,
            steps=tuple(Step(ExchangeKind.CLIENT_V4, offset_ns) for offset_ns in offsets_ns),
            timeout_ns=200 * MS,
            linger_ns=0,
        )
    )


def burst(name: str, target: str, start_at_ns: int) -> pb.Job:
    """Ten packets in two seconds, as fast as one job may: eight from one address of the prefix, two from others."""
    asked = job(name, target, start_at_ns, offsets_ns=tuple(n * 200 * MS for n in range(10)), source=PREFIX)
    asked.steps[8].source_slot, asked.steps[9].source_slot = 1, 2
    return asked


def forbidden() -> tuple[Ask, ...]:
    """Every job that is refused whatever else is going on, each with an id and, mostly, a target of its own."""
    asks = [*_targets(), *_ports(), *_sources(), *_shapes()]
    for number, ask in enumerate(asks):
        if ask.job.id == "?":
            ask.job.id = f"bad{number}"
    return tuple(asks)


def _plain(number: int = 1) -> pb.Job:
    return job("?", f"45.60.{number}.1", time.time_ns() + _AHEAD_NS)


def _to(address: str, rule: GuardRule | str) -> Ask:
    asked = _plain()
    asked.target.address = address
    asked.source = OWN_V6 if ":" in address else OWN
    return Ask(asked, rule)


def _targets() -> Iterator[Ask]:
    for each in RANGES:
        for edge in {each.network[0], each.network[-1]}:
            mapped = isinstance(edge, ipaddress.IPv6Address) and edge.ipv4_mapped is not None
            yield _to(str(edge), INVALID if mapped else GuardRule.TARGET)
    for wrapped in _WRAPPED:
        yield _to(str(ipaddress.ip_address(wrapped)), GuardRule.TARGET)
    for address in (OWN, OWN_V6, "2a00:1011:0:1::abc"):
        yield _to(address, GuardRule.TARGET)
    for address in _NO_ADDRESS:
        yield _to(address, INVALID)


def _ports() -> Iterator[Ask]:
    for port in (0, 65_536, 4_294_967_295):
        asked = _plain()
        asked.target.port = port
        yield Ask(asked, INVALID)
    for port in (1, 19, 53, 80, 122, 124, 161, 389, 443, 1900, 5353, 11_211, 65_535):
        asked = _plain()
        asked.target.port = port
        yield Ask(asked, GuardRule.PORT)


def _sources() -> Iterator[Ask]:
    for source in ("45.10.0.8", OWN_LAN, TARGET, "127.0.0.1", "0.0.0.0", "255.255.255.255"):
        asked = _plain()
        asked.source = source
        yield Ask(asked, GuardRule.SOURCE)
    for source in ("2a00:1010::8", "::", "::1", TARGET_V6, "2a00:1011::/32", "::/0", "2a00:1011:0:2::/64"):
        asked = job("?", "2a00:6060::1", time.time_ns() + _AHEAD_NS)
        asked.source = source
        yield Ask(asked, GuardRule.SOURCE)
    for part in ("2a00:1011:0:2::/64", "2a00:1011::/32", "2a00:4040::/64", "::/0"):
        asked = job("?", "2a00:6060::1", time.time_ns() + _AHEAD_NS, source=PREFIX)
        asked.steps[0].source = part
        yield Ask(asked, GuardRule.SOURCE)
    for source in ("", "eth0", "2a00:1011:0:1::/113", "2a00:1011:0:1::7/64", "45.10.0.0/24", OWN_V6):
        asked = _plain()
        asked.source = source
        yield Ask(asked, INVALID)


def _shapes() -> Iterator[Ask]:
    for name in ("", " ", "a b", "line\nbreak", "\x1b[2J", "j\u200b1", "x" * 257, "x" * 1_000_000):
        asked = _plain()
        asked.id = name
        yield Ask(asked, INVALID)
    for field, value, rule in (
        ("verification_id", "w" * 1_000_000, INVALID),
        ("vantage_id", "", INVALID),
        ("vantage_id", "nyc1", GuardRule.VANTAGE),
        ("traceparent", "00-zz", INVALID),
        ("start_at_ns", 0, INVALID),
        ("start_at_ns", (1 << 64) - 1, INVALID),
        ("start_at_ns", (1 << 63) - 1, GuardRule.START),
        ("start_at_ns", time.time_ns() + 700 * S, GuardRule.START),
        ("timeout_ns", 0, INVALID),
        ("timeout_ns", 11 * S, GuardRule.DURATION),
        ("timeout_ns", (1 << 64) - 1, INVALID),
        ("linger_ns", 60 * S + 1, INVALID),
        ("watch_until_ns", time.time_ns() + 81 * 3600 * S, GuardRule.WATCH),
        ("watch_until_ns", (1 << 64) - 1, INVALID),
        ("ticket", bytes(65), INVALID),
        ("ticket", bytes(500_000), INVALID),
    ):
        asked = _plain()
        setattr(asked, field, value)
        yield Ask(asked, rule)
    for offsets, words in (
        ((), INVALID),
        (tuple(8 * S * n for n in range(65)), INVALID),
        ((0,) * 100_000, INVALID),
        ((8 * S, 0), INVALID),
        ((0, 3_600 * S + 1), INVALID),
        ((0, 901 * S), GuardRule.DURATION),
        ((0, S // 10), GuardRule.PACE),
        (tuple(n * S // 5 for n in range(9)), GuardRule.PACE),
        ((0,) * 64, GuardRule.PACE),
    ):
        asked = _plain()
        del asked.steps[:]
        for offset_ns in offsets:
            asked.steps.add(kind=pb.EXCHANGE_KIND_CLIENT_V4, offset_ns=offset_ns)
        yield Ask(asked, words)
    for kind in (0, 6, 7, 999, -1):
        asked = _plain()
        asked.steps[0].kind = kind  # type: ignore[assignment]
        yield Ask(asked, INVALID)
    empty = pb.Job(id="?")
    yield Ask(empty, INVALID)
