"""Jobs and settings to test the probe's parts with."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import Any

from poolproof.exchange import ExchangeKind
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import Job, Report, Step
from poolproof.target import Target
from poolproof.v1 import evidence_pb2
from poolproof.wire import report_from_wire, report_to_wire
from probe.settings import ControlSettings, GuardSettings, JournalSettings, ProbeSettings
from tests.probe.virtual import EPOCH_NS, S

TARGET = "9.9.9.9"
TARGET_V6 = "2a01:3f7::9"
OWN = "192.0.2.7"
OWN_V6 = "2001:db8::7"
PREFIX = "2001:db8:7::/64"
CONTROL = ("198.51.100.1", "198.51.100.2")
CONTROL_V6 = ("2001:db8:c::1",)


def settings(directory: Path = Path("never-used"), **guard: Any) -> ProbeSettings:
    return ProbeSettings(
        vantage=VantageId("v1"),
        ipv4=OWN,
        ipv6=OWN_V6,
        ipv6_prefix=ipaddress.IPv6Network(PREFIX),
        guard=GuardSettings(**guard),
        control=ControlSettings(servers=tuple(Target(address) for address in (*CONTROL, *CONTROL_V6))),
        journal=JournalSettings(directory=directory),
        version="test",
    )


def job(name: str = "j1", *, offsets_s: tuple[float, ...] = (0,), slots: tuple[int, ...] = (), **fields: Any) -> Job:
    """A job two seconds ahead; `slots` default to one for each step."""
    slots = slots or tuple(range(len(offsets_s)))
    plain = Job(
        id=JobId(name),
        verification=VerificationId("w1"),
        vantage=VantageId("v1"),
        target=Target(TARGET),
        source=OWN,
        start_at_ns=EPOCH_NS + 2 * S,
        steps=tuple(
            Step(ExchangeKind.CLIENT_V4, round(offset * S), slot) for offset, slot in zip(offsets_s, slots, strict=True)
        ),
        timeout_ns=S,
        linger_ns=2 * S,
    )
    return replace(plain, **fields)


def prefix_job(name: str = "p1", **fields: Any) -> Job:
    return job(name, **{"source": PREFIX, "target": Target(TARGET_V6), **fields})


def encode(report: Report) -> bytes:
    return report_to_wire(report).SerializeToString()


def decode(payload: bytes) -> Report:
    return report_from_wire(evidence_pb2.Report.FromString(payload))
