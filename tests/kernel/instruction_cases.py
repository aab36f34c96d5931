"""Small cohorts for the tests of instructions."""

from __future__ import annotations

from collections.abc import Iterable

from poolproof.fleet import Perspective, Rir, Role
from poolproof.ids import VantageId
from poolproof.instructions import Request, Software
from poolproof.refusal import ASKED_FOR, RefusalKind
from poolproof.target import Family, Target
from poolproof.variant import Variant

TARGETS = {Family.IPV4: "198.18.0.1", Family.IPV6: "2001:db8:ff::1"}
MONITORS = {
    Family.IPV4: ("203.0.113.2", "203.0.113.1"),
    Family.IPV6: ("2001:db8:1::2", "2001:db8:1::1"),
}
VERIFIERS = {
    Family.IPV4: ("203.0.113.10", "203.0.113.9", "198.51.100.7"),
    Family.IPV6: ("2001:db8:1::9", "2001:db8:7::/64"),
}


def perspectives(role: Role, sources: Iterable[str]) -> tuple[Perspective, ...]:
    """One for each source, each in an ASN of its own."""
    return tuple(
        Perspective(VantageId(f"vantage-{number}"), role, source, 64500 + number, Rir.RIPE)
        for number, source in enumerate(sources)
    )


def monitors(*sources: str) -> tuple[Perspective, ...]:
    """Allowed monitors with these sources."""
    return perspectives(Role.ALLOWED_MONITOR, sources)


def verifiers(*sources: str) -> tuple[Perspective, ...]:
    """Verifiers that must be blocked, with these sources."""
    return perspectives(Role.MUST_BE_BLOCKED, sources)


def ways(*sources: str) -> tuple[RefusalKind, ...]:
    """In turn."""
    return tuple(ASKED_FOR[number % 2] for number, _ in enumerate(sources))


def request(software: Software, variant: Variant, family: Family, port: int = 123) -> Request:
    """The cohort of the golden files."""
    return Request(
        software,
        variant,
        Target(TARGETS[family], port),
        monitors(*MONITORS[family]),
        verifiers(*VERIFIERS[family]),
        ways(*VERIFIERS[family]),
    )
