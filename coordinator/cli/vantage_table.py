"""The fleet as a table and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from coordinator.cli.calibration_table import quarantine_json
from coordinator.cli.snapshot_json import time_json
from poolproof.conduct import Quarantine
from poolproof.fleet import Vantage
from poolproof.job import ClockCheck


@dataclass(frozen=True, slots=True)
class IncidentLine:
    """Something that was refused in a vantage's name: what, how often, when last, and the last one's words."""

    what: str
    count: int
    last_at_ns: int
    detail: str


@dataclass(frozen=True, slots=True)
class VantageLine:
    """One vantage and its probe; `last_heard_ns` 0: never; `clock` None: it has not checked it."""

    vantage: Vantage
    connected: bool
    last_heard_ns: int
    version: str
    jobs: int
    capacity: int
    draining: bool
    clock: ClockCheck | None
    tripwire: bool = False
    incidents: tuple[IncidentLine, ...] = ()
    quarantine: Quarantine | None = None


def vantage_table(lines: Iterable[VantageLine], now_ns: int) -> Table:
    """Id, state of its probe, addresses, ASN, registry, operator, jobs, when it was heard last, its clock."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("vantage", "probe", "addresses", "ASN", "RIR", "operator", "version"):
        table.add_column(name, no_wrap=name not in ("addresses", "operator"), overflow="fold")
    table.add_column("tripwire", no_wrap=True)
    for name in ("jobs", "heard", "clock off by"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*_cells(line, now_ns))
    return table


def _cells(line: VantageLine, now_ns: int) -> Iterable[Text]:
    vantage = line.vantage
    word, style = ("absent", "red") if not line.connected else ("connected", "green")
    if line.connected and line.draining:
        word, style = "draining", "yellow"
    if line.quarantine is not None:
        word, style = "quarantined", "red"
    addresses = "\n".join(each for each in (vantage.ipv4, vantage.ipv6, vantage.ipv6_prefix) if each)
    yield Text(vantage.id)
    yield Text(word, style=style)
    for text in (addresses, f"AS{vantage.asn}", vantage.rir.name, vantage.operator or "-", line.version or "-"):
        yield Text(text)
    if line.connected:
        yield Text("yes") if line.tripwire else Text("none", style="yellow")
    else:
        yield Text("-")
    yield Text(f"{line.jobs}/{line.capacity}" if line.connected else "-")
    yield Text(_ago(now_ns - line.last_heard_ns) if line.last_heard_ns else "never")
    yield Text(_clock(line.clock))


def incident_lines(lines: Iterable[VantageLine], now_ns: int) -> Iterable[str]:
    """What was refused in each vantage's name, a line each."""
    for line in lines:
        for each in line.incidents:
            times = "once" if each.count == 1 else f"{each.count} times"
            yield f"{line.vantage.id}: {each.what}, {times}, last {_ago(now_ns - each.last_at_ns)}: {each.detail}"


def _ago(ns: int) -> str:
    seconds = max(0, ns // 1_000_000_000)
    return f"{seconds} s ago" if seconds < 120 else f"{seconds // 60} min ago"


def _clock(clock: ClockCheck | None) -> str:
    if clock is None or clock.samples == 0:
        return "unknown"
    return f"{clock.offset_ns / 1e6:+.1f} ms (±{clock.error_ns / 1e6:.1f})"


def vantage_json(line: VantageLine) -> dict[str, Any]:
    """One vantage with the keys of docs/command.md."""
    vantage, clock = line.vantage, line.clock
    return {
        "id": vantage.id,
        "ipv4": vantage.ipv4,
        "ipv6": vantage.ipv6,
        "ipv6_prefix": vantage.ipv6_prefix,
        "asn": vantage.asn,
        "rir": vantage.rir.value,
        "latitude": vantage.latitude,
        "longitude": vantage.longitude,
        "operator": vantage.operator or None,
        "connected": line.connected,
        "draining": line.draining,
        "last_heard_at": time_json(line.last_heard_ns),
        "version": line.version or None,
        "jobs": line.jobs,
        "capacity": line.capacity,
        "clock": None
        if clock is None or clock.samples == 0
        else {"offset_ns": clock.offset_ns, "error_ns": clock.error_ns, "samples": clock.samples},
        "tripwire": line.tripwire,
        "incidents": [
            {"what": each.what, "count": each.count, "last_at": time_json(each.last_at_ns), "detail": each.detail}
            for each in line.incidents
        ],
        "quarantine": quarantine_json(line.quarantine),
    }
