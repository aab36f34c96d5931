"""The probe's settings: one frozen tree, from defaults, a TOML file and the environment, the later winning.

Only this module reads the environment. Names are the same in both places: the key `max_jobs` of the file's table
`[guard]` is `POOLPROOF_PROBE_GUARD_MAX_JOBS`; top-level keys have no table. Lists are TOML arrays in the file and
separated by commas in the environment. An unknown key is an error: a misspelt limit must not be a default.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any, get_type_hints

from poolproof.ids import VantageId
from poolproof.job import MAX_STEPS
from poolproof.special_purpose import Network
from poolproof.target import Family, InvalidTargetError, Target, canonical_address, family_of, split_host_port

PREFIX = "POOLPROOF_PROBE_"
FILE_VARIABLE = PREFIX + "FILE"
MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000
LONGEST_PREFIX = 112
"""A longer prefix has so few addresses that they can be guessed (the same bound as in the fleet)."""


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it, its value and what to give."""


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Limits that hold whatever a coordinator says.

    Attributes:
        allow_networks: special-purpose networks that may be targets all the same (a lab, a demo).
        deny_networks: networks that may never be targets, whatever else is allowed: an own NAT64 prefix, own machines.
        allow_ports: UDP ports that may be asked.
        max_jobs: jobs accepted and not finished.
        max_start_ahead_ns: how far ahead of now a job may start.
        max_duration_ns: from the first step to the last late answer.
        max_timeout_ns: bound on a job's timeout.
        max_linger_ns: bound on a job's linger.
        target_packets_per_minute: packets to one target address in any minute, over all jobs.
        network_packets_per_minute: packets to one network, an IPv4 /24 or an IPv6 /48, in any minute.
        packets_per_second: packets to all targets in any second.
        control_packets_per_second: packets to one control server in any second, over all jobs.
        jobs_per_minute: jobs looked at in any minute, good and bad; more are refused unread.
        start_tolerance_ns: a job that arrives later than this after its start is not done.
        max_watch_ns: how far ahead of now a tripwire's watch may end.
    """

    allow_networks: tuple[Network, ...] = ()
    deny_networks: tuple[Network, ...] = ()
    allow_ports: frozenset[int] = frozenset({123})
    max_jobs: int = 512
    max_start_ahead_ns: int = 600 * SECOND_NS
    max_duration_ns: int = 900 * SECOND_NS
    max_timeout_ns: int = 10 * SECOND_NS
    max_linger_ns: int = 60 * SECOND_NS
    target_packets_per_minute: int = 24
    network_packets_per_minute: int = 480
    packets_per_second: int = 100
    control_packets_per_second: int = 50
    jobs_per_minute: int = 6_000
    start_tolerance_ns: int = 20 * MILLISECOND_NS
    max_watch_ns: int = 80 * 3600 * SECOND_NS


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """The probe's own control servers, whose answers give a target's silence a meaning.

    The defaults are public anycast services, so that a probe runs as it is; a fleet should name servers of its own,
    on other networks than its probes, that limit nobody's rate.

    Attributes:
        servers: asked before and after each job, those of the job's family.
        tries: how often each side asks until one of them answers.
        timeout_ns: how long each try waits.
        lead_ns: how long before a job's start its first control exchange goes out, if there is time.
        max_clock_offset_ns: a probe whose clock is certainly off by more does no work.
    """

    servers: tuple[Target, ...] = (
        Target("162.159.200.1"),
        Target("216.239.35.0"),
        Target("2606:4700:f1::1"),
        Target("2001:4860:4806::"),
    )
    tries: int = 3
    timeout_ns: int = 450 * MILLISECOND_NS
    lead_ns: int = 1_500 * MILLISECOND_NS
    max_clock_offset_ns: int = 100 * MILLISECOND_NS

    def of_family(self, family: Family) -> tuple[Target, ...]:
        """The control servers of one family."""
        return tuple(server for server in self.servers if server.family is family)


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Bounds of the spool on disk.

    Attributes:
        directory: where the journal lives; one probe process each.
        max_reports: reports and running jobs that are not yet acknowledged.
        max_bytes: size of all payloads.
        keep_acknowledged_ns: how long an acknowledged job is remembered.
    """

    directory: Path = Path("probe-state")
    max_reports: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    keep_acknowledged_ns: int = 3600 * SECOND_NS


class TripwireMode(StrEnum):
    """Whether a probe watches for packets that nobody asked for."""

    AUTO = "auto"
    """If it can: with CAP_NET_RAW."""
    YES = "yes"
    """It does not start without."""
    NO = "no"


@dataclass(frozen=True, slots=True)
class TripwireSettings:
    """The tripwire, and its bounds.

    Attributes:
        enabled: `auto` (if there is CAP_NET_RAW), `yes` (else the probe does not start) or `no`.
        max_watches: sources and targets watched at one time, one socket each; every packet of the host costs more.
    """

    enabled: TripwireMode = TripwireMode.AUTO
    max_watches: int = 512


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """All that a probe process can be told.

    Attributes:
        vantage: this probe's id in the fleet.
        coordinator: gRPC endpoint, host:port.
        ipv4, ipv6: own addresses to send from, or None.
        ipv6_prefix: prefix routed to this host, from which exchanges take random addresses, or None.
        guard, control, journal, tripwire: see there.
        version: of the software, told to the coordinator.
    """

    vantage: VantageId
    coordinator: str = "127.0.0.1:8443"
    ipv4: str | None = None
    ipv6: str | None = None
    ipv6_prefix: ipaddress.IPv6Network | None = None
    guard: GuardSettings = field(default_factory=GuardSettings)
    control: ControlSettings = field(default_factory=ControlSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    tripwire: TripwireSettings = field(default_factory=TripwireSettings)
    version: str = ""

    def __post_init__(self) -> None:
        if not self.vantage:
            raise SettingsError(f"vantage: missing; give the vantage's id in the fleet, e.g. {PREFIX}VANTAGE=ams1")
        for name, address, family in (("ipv4", self.ipv4, Family.IPV4), ("ipv6", self.ipv6, Family.IPV6)):
            if address is not None and (not _is_canonical(address) or family_of(address) is not family):
                raise SettingsError(f"{name}: {address!r} is not an {family.name} address in canonical form")
        if self.ipv6_prefix is not None and self.ipv6_prefix.prefixlen > LONGEST_PREFIX:
            raise SettingsError(f"ipv6_prefix: {self.ipv6_prefix} is too long; give /{LONGEST_PREFIX} or shorter")
        asked = self.control.tries * len(self.control.servers)
        if asked > MAX_STEPS:
            raise SettingsError(
                f"control: {self.control.tries} tries of {len(self.control.servers)} servers are {asked} exchanges;"
                f" a report holds {MAX_STEPS}: name fewer servers or tries"
            )
        for family, own in ((Family.IPV4, self.ipv4), (Family.IPV6, self.ipv6 or self.ipv6_prefix)):
            if own is not None and not self.control.of_family(family):
                raise SettingsError(
                    f"control.servers: none is {family.name}, but this probe sends from {own}; without one, no silence"
                    f" can be believed. Name at least one {family.name} server"
                )
        if self.ipv4 is None and self.ipv6 is None and self.ipv6_prefix is None:
            raise SettingsError("ipv4, ipv6, ipv6_prefix: all missing; give at least one address to send from")


def load(environ: Mapping[str, str] | None = None, file: Path | None = None) -> ProbeSettings:
    """Settings from defaults, then the file, then the environment.

    Args:
        environ: the process environment unless given.
        file: TOML; the variable POOLPROOF_PROBE_FILE names one as well.

    Raises:
        SettingsError: an unknown key, a value that cannot be read, or a tree that makes no sense.
    """
    variables = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in (os.environ if environ is None else environ).items()
        if name.startswith(PREFIX)
    }
    named = variables.pop("file", None)
    path = file or (Path(named) if named else None)
    given = _from_file(path) if path else {}
    for name, value in variables.items():
        table, _, key = name.partition("_")
        if table in _TABLES and key:
            given[f"{table}.{key}"] = value
        else:
            given[name] = value
    return _build(given)


_TABLES: Mapping[str, type] = {
    "guard": GuardSettings,
    "control": ControlSettings,
    "journal": JournalSettings,
    "tripwire": TripwireSettings,
}


def _from_file(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"settings file {path}: {error}") from None
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{inner}": deep for inner, deep in value.items()})
        else:
            flat[key] = value
    return flat


def _build(given: dict[str, Any]) -> ProbeSettings:
    known = {name for name in _names(ProbeSettings) if name not in _TABLES}
    known |= {f"{table}.{name}" for table, kind in _TABLES.items() for name in _names(kind)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise SettingsError(f"{unknown[0]}: no such setting; there are {', '.join(sorted(known))}")
    hints = {**{name: hint for name, hint in get_type_hints(ProbeSettings).items() if name not in _TABLES}}
    for table, kind in _TABLES.items():
        hints.update({f"{table}.{name}": hint for name, hint in get_type_hints(kind).items()})
    read = {name: _read(name, value, hints[name]) for name, value in given.items()}
    parts = {
        table: kind(**{name.partition(".")[2]: value for name, value in read.items() if name.startswith(table + ".")})
        for table, kind in _TABLES.items()
    }
    top = {name: value for name, value in read.items() if "." not in name}
    return ProbeSettings(**{"vantage": VantageId(""), "version": _version(), **top, **parts})


def _version() -> str:
    try:
        return metadata.version("poolproof")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


def _names(kind: type) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _read(name: str, value: Any, hint: Any) -> Any:
    """One value as its field's type, from TOML or from text."""
    try:
        if hint is TripwireMode:
            return _mode(value)
        if hint is int:
            return _positive(value)
        if hint is Path:
            return Path(value)
        if hint == tuple[Network, ...]:
            return tuple(ipaddress.ip_network(item) for item in _items(value))
        if hint == frozenset[int]:
            return frozenset(_port(item) for item in _items(value))
        if hint == tuple[Target, ...]:
            return tuple(_target(item) for item in _items(value))
        if hint == ipaddress.IPv6Network | None:
            return ipaddress.IPv6Network(value) if value else None
        text = _text(value)
        return text or None if hint == str | None else text
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name}: cannot read {value!r}: {error}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("give text in quotes")
    return value


def _mode(value: Any) -> TripwireMode:
    if value not in set(TripwireMode):
        raise ValueError(f"give {', '.join(TripwireMode)}")
    return TripwireMode(value)


def _items(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if not isinstance(value, list):
        raise TypeError("give a list (in the environment: separated by commas)")
    return value


def _positive(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or int(value) <= 0:
        raise ValueError("give a whole number above zero")
    return int(value)


def _port(value: Any) -> int:
    port = _positive(value)
    if port > 65535:
        raise ValueError("give ports from 1 to 65535")
    return port


def _target(value: str) -> Target:
    host, port = split_host_port(value)
    return Target(canonical_address(host), port)


def _is_canonical(address: str) -> bool:
    try:
        return canonical_address(address) == address
    except InvalidTargetError:
        return False
