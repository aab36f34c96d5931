"""Checks on single fields of a message from outside. Each takes the field's name first, for the error's text."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sized
from enum import Enum
from functools import lru_cache
from typing import Generic, TypeVar

from google.protobuf.message import Message

from poolproof.target import InvalidTargetError, canonical_address

MAX_TIME_NS = (1 << 63) - 1
"""Unix ns that fit a signed 64-bit integer: until the year 2262."""
MAX_ID_CHARACTERS = 256
MOST = 1e300
"""A number further from zero than this is none that we compute."""

_ID = re.compile(f"[!-~]{{1,{MAX_ID_CHARACTERS}}}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_SHOWN = 80
_ADDRESS_CHARACTERS = 64


class WireError(ValueError):
    """A message from outside that says nothing valid: which field, what value, and what is right instead."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        shown = repr(value)
        if len(shown) > _SHOWN:
            shown = f"{shown[:_SHOWN]}..."
        super().__init__(f"{field}: {shown}: {remedy}")
        self.field = field


def present(field: str, message: Message, name: str) -> None:
    """Refuses a message whose sub-message `name` is missing."""
    if not message.HasField(name):
        raise WireError(f"{field}.{name}", None, "is required")


def number(field: str, value: int, low: int, high: int) -> int:
    """An integer in low..high."""
    if not low <= value <= high:
        raise WireError(field, value, f"give {low} to {high}")
    return value


def real(field: str, value: float, low: float, high: float) -> float:
    """A number in low..high; NaN is in no range."""
    if not low <= value <= high:
        raise WireError(field, value, f"give {low:g} to {high:g}")
    return value


def time_ns(field: str, value: int) -> int:
    """A point in time; zero is what a missing field looks like."""
    if not 0 < value <= MAX_TIME_NS:
        raise WireError(field, value, "give nanoseconds since the Unix epoch, above zero and below 2^63")
    return value


def identifier(field: str, value: str) -> str:
    """A non-empty id of printable ASCII without spaces."""
    if _ID.fullmatch(value) is None:
        raise WireError(field, value, f"give 1 to {MAX_ID_CHARACTERS} printable ASCII characters without spaces")
    return value


def text(field: str, value: str, most: int, least: int = 0) -> str:
    """Text of bounded length, in characters."""
    if not least <= len(value) <= most:
        raise WireError(field, value, f"has {len(value)} characters; give {least} to {most}")
    return value


def octets(field: str, value: bytes, most: int, least: int = 0) -> bytes:
    """Bytes of bounded length."""
    if not least <= len(value) <= most:
        raise WireError(field, value, f"has {len(value)} bytes; give {least} to {most}")
    return value


def traceparent(field: str, value: str) -> str:
    """A W3C trace context (https://www.w3.org/TR/trace-context/ §3.2), or empty."""
    if value and _TRACEPARENT.fullmatch(value) is None:
        raise WireError(field, value, "give a W3C traceparent, or nothing")
    return value


def address(field: str, value: str) -> str:
    """An IP address in canonical form."""
    problem = _address_problem(text(field, value, _ADDRESS_CHARACTERS))
    if problem is not None:
        raise WireError(field, value, problem)
    return value


def prefix(field: str, value: str) -> str:
    """An IPv6 prefix in canonical form."""
    problem = _prefix_problem(text(field, value, _ADDRESS_CHARACTERS))
    if problem is not None:
        raise WireError(field, value, problem)
    return value


def source(field: str, value: str) -> str:
    """An IP address, or an IPv6 prefix, in canonical form."""
    return prefix(field, value) if "/" in value else address(field, value)


def length(field: str, items: Sized, most: int, least: int = 0) -> None:
    """A repeated field with least..most entries."""
    if not least <= len(items) <= most:
        raise WireError(field, f"{len(items)} entries", f"give {least} to {most}")


E = TypeVar("E", bound=Enum)
V = TypeVar("V", bound=int)


class EnumNames(Generic[E, V]):
    """One closed enum of the kernel and its protobuf twin, matched by name.

    A kernel value without a twin fails when this is built, that is, on import.
    """

    def __init__(self, kernel: type[E], prefix: str, items: Iterable[tuple[str, V]]) -> None:
        numbers = dict(items)
        self._numbers: dict[E, V] = {member: numbers[f"{prefix}_{member.name}"] for member in kernel}
        self._members: dict[int, E] = {wire: member for member, wire in self._numbers.items()}

    def to_wire(self, member: E) -> V:
        """The number on the wire."""
        return self._numbers[member]

    def from_wire(self, field: str, value: int) -> E:
        """The kernel's value; zero and unknown numbers are refused."""
        member = self._members.get(value)
        if member is None:
            known = ", ".join(f"{number} ({known.name})" for known, number in self._numbers.items())
            raise WireError(field, value, f"give one of {known}")
        return member


@lru_cache(maxsize=65536)
def _address_problem(value: str) -> str | None:
    try:
        canonical = canonical_address(value)
    except InvalidTargetError as error:
        return str(error)
    return None if canonical == value else f"write it in canonical form, {canonical!r}"


@lru_cache(maxsize=4096)
def _prefix_problem(value: str) -> str | None:
    try:
        network = ipaddress.IPv6Network(value)
    except ValueError as error:
        return f"{error}; give an address, or an IPv6 prefix like 2001:db8:7::/64"
    if str(network) != value or network.network_address.scope_id is not None:
        return f"write it in canonical form, {str(network)!r}, without a zone index"
    return None if network.prefixlen <= 112 else "give a prefix of /112 or shorter"
