"""The fleet file: every vantage that the operator has registered.

[[vantage]]
id = "ams1"
ipv4 = "192.0.2.7"
ipv6_prefix = "2001:db8:7::/64"
asn = 64500
rir = "ripe"
operator = "Example Networks"
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poolproof.fleet import Rir, Vantage
from poolproof.ids import VantageId
from poolproof.target import InvalidTargetError, canonical_address
from poolproof.wire.judgement import MAX_OPERATOR

_ID = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
"""Ids become parts of job ids and of the store's keys."""
_FIELDS: Mapping[str, tuple[type, ...]] = {
    "id": (str,),
    "ipv4": (str,),
    "ipv6": (str,),
    "ipv6_prefix": (str,),
    "asn": (int,),
    "rir": (str,),
    "latitude": (float, int),
    "longitude": (float, int),
    "operator": (str,),
}


class FleetError(ValueError):
    """The fleet file cannot be used; the message names the entry, the field, the value and what to give."""


def load_fleet(path: Path) -> tuple[Vantage, ...]:
    """The vantages of a fleet file, in its order.

    Raises:
        FleetError: it cannot be read, an entry is wrong, or two entries share an id or an address.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FleetError(f"fleet file {path}: {error}") from None
    unknown = sorted(set(document) - {"vantage"})
    if unknown:
        raise FleetError(f"fleet file {path}: {unknown[0]}: no such table; write one [[vantage]] for each vantage")
    entries = document.get("vantage", [])
    if not isinstance(entries, list) or not entries:
        raise FleetError(f"fleet file {path}: it has no vantage; write one [[vantage]] for each")
    fleet = tuple(_vantage(f"fleet file {path}: vantage {n}", entry) for n, entry in enumerate(entries, 1))
    _refuse_duplicates(path, fleet)
    return fleet


def _vantage(where: str, entry: Any) -> Vantage:
    if not isinstance(entry, dict):
        raise FleetError(f"{where}: {entry!r}: write it as a [[vantage]] table")
    if isinstance(entry.get("id"), str):
        where = f"{where} ({entry['id']})"
    unknown = sorted(set(entry) - set(_FIELDS))
    if unknown:
        raise FleetError(f"{where}: {unknown[0]}: no such field; there are {', '.join(_FIELDS)}")
    for name in ("id", "asn", "rir"):
        if name not in entry:
            raise FleetError(f"{where}: {name}: missing; every vantage needs it")
    for name, value in entry.items():
        if isinstance(value, bool) or not isinstance(value, _FIELDS[name]):
            raise FleetError(f"{where}: {name}: {value!r}: give {' or '.join(k.__name__ for k in _FIELDS[name])}")
    if not _ID.fullmatch(entry["id"]):
        raise FleetError(f"{where}: id: {entry['id']!r}: give 1 to 63 of a-z, 0-9, '.' and '-', like ams1")
    registries = {rir.value: rir for rir in Rir}
    if entry["rir"] not in registries:
        raise FleetError(f"{where}: rir: {entry['rir']!r}: give one of {', '.join(registries)}")
    for name in ("ipv4", "ipv6"):
        try:
            canonical_address(entry.get(name, "::"))
        except InvalidTargetError as error:
            raise FleetError(f"{where}: {name}: {error}") from None
    for name, limit in (("latitude", 90), ("longitude", 180)):
        if not -limit <= entry.get(name, 0) <= limit:
            raise FleetError(f"{where}: {name}: {entry[name]}: give degrees from -{limit} to {limit}")
    if len(entry.get("operator", "")) > MAX_OPERATOR:
        raise FleetError(f"{where}: operator: {len(entry['operator'])} characters; give at most {MAX_OPERATOR}")
    try:
        return Vantage(
            id=VantageId(entry["id"]),
            ipv4=entry.get("ipv4"),
            ipv6=entry.get("ipv6"),
            ipv6_prefix=entry.get("ipv6_prefix"),
            asn=entry["asn"],
            rir=registries[entry["rir"]],
            latitude=float(entry.get("latitude", 0)),
            longitude=float(entry.get("longitude", 0)),
            operator=entry.get("operator", ""),
        )
    except ValueError as error:
        raise FleetError(f"{where}: {error}") from None


def _refuse_duplicates(path: Path, fleet: tuple[Vantage, ...]) -> None:
    """Two vantages at one address would be one perspective counted twice."""
    ids: set[VantageId] = set()
    held: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, Vantage, str]] = []
    for vantage in fleet:
        if vantage.id in ids:
            raise FleetError(f"fleet file {path}: vantage {vantage.id}: id: stands twice; give each vantage its own")
        ids.add(vantage.id)
        for name in ("ipv4", "ipv6", "ipv6_prefix"):
            source = getattr(vantage, name)
            if source is None:
                continue
            network = ipaddress.ip_network(source)
            for other, owner, other_name in held:
                if owner is not vantage and network.version == other.version and network.overlaps(other):
                    raise FleetError(
                        f"fleet file {path}: vantage {vantage.id}: {name}: {source} overlaps the {other_name} of"
                        f" {owner.id} ({other}); give each vantage addresses of its own"
                    )
            held.append((network, vantage, name))
