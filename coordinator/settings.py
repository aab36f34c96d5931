"""The coordinator's settings: one frozen tree, from defaults, a TOML file and the environment, the later winning.

Only this module reads the environment. The key `state_dir` of the file is `POOLPROOF_COORDINATOR_STATE_DIR` there.
Lists are TOML arrays in the file and separated by commas in the environment. An unknown key is an error: a misspelt
limit must not be a default.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from coordinator.calibration.addresses import read_place
from poolproof.ids import PolicyId
from poolproof.policy import SECOND_NS
from poolproof.special_purpose import Network, forbidden_target
from poolproof.target import InvalidTargetError, canonical_address, split_host_port

PREFIX = "POOLPROOF_COORDINATOR_"
FILE_VARIABLE = PREFIX + "FILE"
SQLITE, MEMORY = "sqlite", "memory"
LONGEST_HEARTBEAT_NS = 600 * SECOND_NS


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it, its value and what to give."""


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """All that a coordinator process can be told.

    Attributes:
        fleet_file: TOML with the vantages.
        listen: address and port of the gRPC listener; port 0 takes a free one.
        allow_plaintext: listen without encryption on addresses that are not loopback.
        state_dir: the embedded store and the draw key live here.
        store: `sqlite`, or `memory` (everything is gone with the process).
        policy: id of the policy that new verifications are judged by; else that of `policy_file`, else the newest.
        policy_file: TOML with a policy of the operator's own, made of a dated one with other numbers.
        allow_networks: special-purpose networks that may be targets all the same (a lab, a demo).
        allow_ports: UDP ports that may be targets.
        heartbeat_interval_ns: how often an agent is told to send a heartbeat.
        missed_heartbeats: an agent that says nothing for this many intervals is dead.
        max_clock_offset_ns: a probe whose clock is certainly off by more is given no work.
        send_queue: messages that may wait for one agent's stream.
        ticket_grace_ns: how long after the end of its job a report is taken.
        resolve_timeout_ns: how long looking up a host name may take.
        drain_grace_ns: how long calls under way may take to end when the coordinator stops.
        calibration_listen: where calibration targets are, like `192.0.2.10:123` or `[2001:db8:c::/64]:123`; none: there
            are no calibrations.
        otel: OpenTelemetry's standard variables, as the environment has them.
    """

    fleet_file: Path
    listen: str = "127.0.0.1:8443"
    allow_plaintext: bool = False
    state_dir: Path = Path("coordinator-state")
    store: str = SQLITE
    policy: PolicyId | None = None
    policy_file: Path | None = None
    allow_networks: tuple[Network, ...] = ()
    allow_ports: frozenset[int] = frozenset({123})
    heartbeat_interval_ns: int = 2 * SECOND_NS
    missed_heartbeats: int = 3
    max_clock_offset_ns: int = SECOND_NS // 10
    send_queue: int = 256
    ticket_grace_ns: int = 24 * 3600 * SECOND_NS
    resolve_timeout_ns: int = 5 * SECOND_NS
    drain_grace_ns: int = 5 * SECOND_NS
    calibration_listen: tuple[str, ...] = ()
    otel: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.store not in (SQLITE, MEMORY):
            raise SettingsError(f"store: {self.store!r}: give {SQLITE} or {MEMORY}")
        if not SECOND_NS // 10 <= self.heartbeat_interval_ns <= LONGEST_HEARTBEAT_NS:
            raise SettingsError(
                f"heartbeat_interval_ns: {self.heartbeat_interval_ns}: give {SECOND_NS // 10} to {LONGEST_HEARTBEAT_NS}"
            )
        for text in self.calibration_listen:
            try:
                place = read_place(text)
            except InvalidTargetError as error:
                raise SettingsError(f"calibration_listen: {error}") from None
            found = forbidden_target(str(place.network.network_address), self.allow_networks)
            if found is not None:
                raise SettingsError(
                    f"calibration_listen: {text}: lies in {found}, where no probe asks; give a public address"
                )
            if place.port not in self.allow_ports:
                ports = ", ".join(map(str, sorted(self.allow_ports)))
                raise SettingsError(
                    f"calibration_listen: {text}: a target at another port than those of allow_ports would be known at"
                    f" once; give one of {ports}"
                )
        host, _ = self.endpoint
        if not host.is_loopback and not self.allow_plaintext:
            raise SettingsError(
                f"listen: {self.listen} is reachable from elsewhere, and this listener neither encrypts nor"
                " asks who calls; listen on 127.0.0.1 or [::1], or set allow_plaintext = true on a network"
                " where everybody is trusted"
            )

    @property
    def endpoint(self) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
        """Address and port of `listen`."""
        host, colon, port = self.listen.rpartition(":")
        try:
            if colon and port == "0":
                return ipaddress.ip_address(canonical_address(host.removeprefix("[").removesuffix("]"))), 0
            if not port.isdigit() or not colon:
                raise SettingsError(f"listen: {self.listen!r}: the port is missing; give something like 127.0.0.1:8443")
            name, number = split_host_port(self.listen)
            return ipaddress.ip_address(canonical_address(name)), number
        except InvalidTargetError as error:
            raise SettingsError(f"listen: {error}") from None


def load(environ: Mapping[str, str] | None = None, file: Path | None = None) -> CoordinatorSettings:
    """Settings from defaults, then the file, then the environment.

    Args:
        environ: the process environment unless given.
        file: TOML; the variable POOLPROOF_COORDINATOR_FILE names one as well.

    Raises:
        SettingsError: an unknown key, a value that cannot be read, or a tree that makes no sense.
    """
    variables = os.environ if environ is None else environ
    given = {name.removeprefix(PREFIX).lower(): value for name, value in variables.items() if name.startswith(PREFIX)}
    named = given.pop("file", None)
    path = file or (Path(named) if named else None)
    values: dict[str, Any] = {**(_from_file(path) if path else {}), **given}
    hints = get_type_hints(CoordinatorSettings)
    known = [each.name for each in fields(CoordinatorSettings) if each.name != "otel"]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise SettingsError(f"{unknown[0]}: no such setting; there are {', '.join(known)}")
    read = {name: _read(name, value, hints[name]) for name, value in values.items()}
    if "fleet_file" not in read:
        raise SettingsError(f"fleet_file: missing; give the file with the vantages, e.g. {PREFIX}FLEET_FILE=fleet.toml")
    return CoordinatorSettings(
        **read, otel={name: text for name, text in variables.items() if name.startswith("OTEL_")}
    )


def _from_file(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"settings file {path}: {error}") from None
    for name in ("fleet_file", "policy_file", "state_dir"):
        # Relative to the file that says it, so that the file can be used from anywhere.
        if isinstance(document.get(name), str):
            document[name] = str(path.parent / document[name])
    return document


def _read(name: str, value: Any, hint: Any) -> Any:
    """One value as its field's type, from TOML or from text."""
    try:
        if hint is bool:
            return _truth(value)
        if hint is int:
            return _positive(value)
        if hint == tuple[Network, ...]:
            return tuple(ipaddress.ip_network(item) for item in _items(value))
        if hint == tuple[str, ...]:
            return tuple(_text(item) for item in _items(value))
        if hint == frozenset[int]:
            return frozenset(_port(item) for item in _items(value))
        text = _text(value)
        return Path(text) if hint in (Path, Path | None) else text
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name}: cannot read {value!r}: {error}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("give text in quotes")
    return value


def _truth(value: Any) -> bool:
    words = {"true": True, "false": False, True: True, False: False}
    if not isinstance(value, bool | str) or value not in words:
        raise ValueError("give true or false")
    return words[value]


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
    if port > 65_535:
        raise ValueError("give ports from 1 to 65535")
    return port
