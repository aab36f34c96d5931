"""A finished span as it travels with a report and lies in the store: OpenTelemetry's, with text attributes only.

Pure: `tracing` makes these from the SDK's spans, `wire` puts them into messages. Ids of the spans that the coordinator
makes about an attempt are derived from the attempt's own context, so that a coordinator that was killed and comes back
names the same parents as before, and nothing it says twice is two things.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
_SAMPLED = "01"
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


class SpanKind(Enum):
    """What side of a call a span is."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class SpanStatus(Enum):
    """How a span ended; UNSET is OpenTelemetry's word for "nobody said"."""

    UNSET = "unset"
    OK = "ok"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class SpanContext:
    """Where in which trace something is.

    Attributes:
        trace_id: 16 bytes, not all zero.
        span_id: 8 bytes, not all zero.
    """

    trace_id: bytes
    span_id: bytes

    def __post_init__(self) -> None:
        for name, value, size in (
            ("trace_id", self.trace_id, TRACE_ID_BYTES),
            ("span_id", self.span_id, SPAN_ID_BYTES),
        ):
            if len(value) != size or not any(value):
                raise ValueError(f"{name}: {value.hex()!r}: give {size} bytes, not all zero")

    @property
    def traceparent(self) -> str:
        """As W3C Trace Context writes it (§3.2), sampled."""
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-{_SAMPLED}"

    def child(self, name: str) -> SpanContext:
        """The context of the one child that has this name."""
        return SpanContext(self.trace_id, hashlib.sha256(self.span_id + name.encode()).digest()[:SPAN_ID_BYTES])


def read_traceparent(text: str) -> SpanContext | None:
    """The context that a W3C traceparent names; None for an empty or malformed one, or one of all zeros."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    trace_id, span_id = bytes.fromhex(found[1]), bytes.fromhex(found[2])
    return SpanContext(trace_id, span_id) if any(trace_id) and any(span_id) else None


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened within a span, at a Unix time in ns."""

    name: str
    time_ns: int
    attributes: Mapping[str, str] = field(default_factory=lambda: NO_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class SpanLink:
    """Another span that this one has to do with, but is no child of."""

    context: SpanContext
    attributes: Mapping[str, str] = field(default_factory=lambda: NO_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Span:
    """One finished span.

    Attributes:
        context: its own trace and id.
        parent: its parent's span id; None: a root.
        name: one of `semconv`.
        kind: what side of a call it is.
        start_ns, end_ns: Unix ns.
        attributes: names of `semconv`, values as text.
        status, status_detail: how it ended, and words for people.
        events, links: see there.
        resource: who made it: service.name and the like.
    """

    context: SpanContext
    parent: bytes | None
    name: str
    kind: SpanKind
    start_ns: int
    end_ns: int
    attributes: Mapping[str, str] = field(default_factory=lambda: NO_ATTRIBUTES)
    status: SpanStatus = SpanStatus.UNSET
    status_detail: str = ""
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    resource: Mapping[str, str] = field(default_factory=lambda: NO_ATTRIBUTES)
