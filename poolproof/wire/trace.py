"""Finished spans on the wire (proto/poolproof/v1/trace.proto), and batches of them in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError

from poolproof.span import (
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    Span,
    SpanContext,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanStatus,
)
from poolproof.v1 import trace_pb2 as pb
from poolproof.wire import checks

MAX_SPANS: Final = 256
"""Spans in one delivery: a job of 64 steps has 64, its control servers' tries and itself."""
MAX_ATTRIBUTES: Final = 32
MAX_ATTRIBUTE_NAME: Final = 64
MAX_ATTRIBUTE_TEXT: Final = 512
MAX_EVENTS: Final = 128
MAX_LINKS: Final = 16
MAX_NAME: Final = 64

_KINDS: Final = checks.EnumNames(SpanKind, "SPAN_KIND", pb.SpanKind.items())
_STATUS: Final = checks.EnumNames(SpanStatus, "SPAN_STATUS", pb.SpanStatus.items())


def span_to_wire(span: Span) -> pb.SpanRecord:
    """The message of a span; texts longer than the wire takes are cut."""
    return pb.SpanRecord(
        trace_id=span.context.trace_id,
        span_id=span.context.span_id,
        parent_span_id=span.parent or b"",
        name=span.name,
        kind=_KINDS.to_wire(span.kind),
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        attributes=_cut(span.attributes),
        status=_STATUS.to_wire(span.status),
        status_detail=span.status_detail[:MAX_ATTRIBUTE_TEXT],
        links=[
            pb.SpanLink(trace_id=link.context.trace_id, span_id=link.context.span_id, attributes=_cut(link.attributes))
            for link in span.links
        ],
        events=[
            pb.SpanEvent(name=event.name, time_ns=event.time_ns, attributes=_cut(event.attributes))
            for event in span.events[:MAX_EVENTS]
        ],
        resource=_cut(span.resource),
    )


def _cut(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: text[:MAX_ATTRIBUTE_TEXT] for name, text in attributes.items()}


def span_from_wire(message: pb.SpanRecord, field: str = "span") -> Span:
    """The span of a message.

    Raises:
        WireError: a field is missing or out of range.
    """
    checks.length(f"{field}.links", message.links, MAX_LINKS)
    checks.length(f"{field}.events", message.events, MAX_EVENTS)
    start_ns = checks.time_ns(f"{field}.start_ns", message.start_ns)
    return Span(
        context=_context(message.trace_id, message.span_id, field),
        parent=_id(f"{field}.parent_span_id", message.parent_span_id, SPAN_ID_BYTES)
        if message.parent_span_id
        else None,
        name=checks.text(f"{field}.name", message.name, MAX_NAME, 1),
        kind=_KINDS.from_wire(f"{field}.kind", message.kind),
        start_ns=start_ns,
        end_ns=checks.number(f"{field}.end_ns", message.end_ns, start_ns, checks.MAX_TIME_NS),
        attributes=_attributes(f"{field}.attributes", message.attributes),
        status=_STATUS.from_wire(f"{field}.status", message.status),
        status_detail=checks.text(f"{field}.status_detail", message.status_detail, MAX_ATTRIBUTE_TEXT),
        events=tuple(
            SpanEvent(
                name=checks.text(f"{field}.events[{index}].name", event.name, MAX_NAME, 1),
                time_ns=checks.time_ns(f"{field}.events[{index}].time_ns", event.time_ns),
                attributes=_attributes(f"{field}.events[{index}].attributes", event.attributes),
            )
            for index, event in enumerate(message.events)
        ),
        links=tuple(
            SpanLink(
                _context(link.trace_id, link.span_id, f"{field}.links[{index}]"),
                _attributes(f"{field}.links[{index}].attributes", link.attributes),
            )
            for index, link in enumerate(message.links)
        ),
        resource=_attributes(f"{field}.resource", message.resource),
    )


def spans_to_wire(spans: Iterable[Span]) -> list[pb.SpanRecord]:
    """The messages of some spans; whoever sends them keeps to `MAX_SPANS`."""
    return [span_to_wire(span) for span in spans]


def spans_from_wire(messages: Iterable[pb.SpanRecord], field: str = "spans") -> tuple[Span, ...]:
    """The spans of a delivery.

    Raises:
        WireError: too many, or one that is not valid.
    """
    listed = list(messages)
    checks.length(field, listed, MAX_SPANS)
    return tuple(span_from_wire(message, f"{field}[{index}]") for index, message in enumerate(listed))


def spans_to_record(spans: Iterable[Span]) -> bytes:
    """Some spans as the store keeps them."""
    return pb.SpanBatch(spans=spans_to_wire(spans)).SerializeToString(deterministic=True)


def spans_from_record(record: bytes) -> tuple[Span, ...]:
    """The reverse of `spans_to_record`.

    Raises:
        WireError: not what was written.
    """
    try:
        message = pb.SpanBatch.FromString(record)
    except DecodeError as error:
        raise checks.WireError("spans", record, f"no batch of spans ({error})") from None
    return tuple(span_from_wire(span, f"spans[{index}]") for index, span in enumerate(message.spans))


def _context(trace_id: bytes, span_id: bytes, field: str) -> SpanContext:
    return SpanContext(
        _id(f"{field}.trace_id", trace_id, TRACE_ID_BYTES), _id(f"{field}.span_id", span_id, SPAN_ID_BYTES)
    )


def _id(field: str, value: bytes, size: int) -> bytes:
    if not any(checks.octets(field, value, size, size)):
        raise checks.WireError(field, value, "give an id that is not all zero")
    return value


def _attributes(field: str, given: Mapping[str, str]) -> Mapping[str, str]:
    checks.length(field, given, MAX_ATTRIBUTES)
    for name, text in given.items():
        checks.text(f"{field}: name", name, MAX_ATTRIBUTE_NAME, 1)
        checks.text(f"{field}.{name}", text, MAX_ATTRIBUTE_TEXT)
    return MappingProxyType(dict(given))
