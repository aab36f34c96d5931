"""All harnesses, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.fuzz import (
    arrivals,
    calls,
    captured_packets,
    job_tickets,
    kernel_queues,
    ntp_packets,
    typed_text,
    wire_messages,
)
from tests.fuzz.harness import Harness

CORPUS = Path(__file__).parent / "corpus"
HARNESSES: Mapping[str, Harness] = MappingProxyType(
    {
        each.name: each
        for each in (
            *ntp_packets.HARNESSES,
            *kernel_queues.HARNESSES,
            *captured_packets.HARNESSES,
            *wire_messages.HARNESSES,
            *arrivals.HARNESSES,
            *calls.HARNESSES,
            *job_tickets.HARNESSES,
            *typed_text.HARNESSES,
        )
    }
)


def committed(name: str) -> list[Path]:
    """The committed corpus of a harness, the smallest first."""
    return sorted((CORPUS / name).glob("*"), key=lambda path: (path.stat().st_size, path.name))
