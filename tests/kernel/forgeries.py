"""Reports of something else than what was asked, each wrong in one thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from poolproof.ids import JobId, VantageId
from poolproof.job import Report

FORGERIES: dict[str, Callable[[Report], Report]] = {
    "of another verification": lambda seen: _renamed(seen, 0, "verify2"),
    "of another attempt": lambda seen: _renamed(seen, 1, "77"),
    "of a phase that there is not": lambda seen: _renamed(seen, 2, "4711"),
    "of a round by another name": lambda seen: _renamed(seen, 2, "0" + seen.job.split("/")[2]),
    "of a round in other digits": lambda seen: _renamed(seen, 2, chr(0x0660 + int(seen.job.split("/")[2]))),
    "of a vantage that was not asked": lambda seen: _renamed(seen, 3, "nobody"),
    "by another vantage": lambda seen: replace(seen, vantage=VantageId("v99")),
    "about another server": lambda seen: _about(seen, "203.0.113.99", 123),
    "about another port": lambda seen: _about(seen, seen.exchanges[0].destination, 1123),
    "from an address that is not its own": lambda seen: replace(
        seen, exchanges=tuple(replace(each, source="198.51.100.77") for each in seen.exchanges)
    ),
    "of fewer steps": lambda seen: replace(seen, exchanges=seen.exchanges[1:]),
    "of more steps": lambda seen: replace(seen, exchanges=seen.exchanges * 2),
}


def _renamed(seen: Report, part: int, name: str) -> Report:
    parts = seen.job.split("/")
    parts[part] = name
    return replace(seen, job=JobId("/".join(parts)))


def _about(seen: Report, address: str, port: int) -> Report:
    return replace(seen, exchanges=tuple(replace(each, destination=address, port=port) for each in seen.exchanges))
