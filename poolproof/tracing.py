"""Tracing at the edge: our finished spans through the OpenTelemetry SDK, and the current context for log lines.

A span of ours is a value (`span.Span`) that somebody made from what happened: from a report's kernel timestamps, from
a verification's record. It travels with the report and lies in the store, so that no collector is needed to look at
one. Where the standard environment variables ask for OTLP, the same values are replayed through the SDK with their own
ids and times; nothing is traced twice and nothing is measured while packets are due.

Shared by coordinator and probe; not pure. Nothing here sets OpenTelemetry's global providers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from poolproof.span import Span, SpanContext, SpanKind, SpanStatus, read_traceparent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

QUEUE_SPANS: Final = 32_768
"""The SDK's default of 2,048 drops silently when a round's reports come in together."""
BATCH_SPANS: Final = 512

Entropy = Callable[[int], int]
"""That many random bits, as `secrets.randbits`."""


class SpanSink(Protocol):
    """Where finished spans go besides the store."""

    def emit(self, spans: Iterable[Span]) -> None:
        """Take them; never waits and never raises."""
        ...

    def close(self) -> None:
        """Send what is left, within some seconds."""
        ...


class NoSink:
    """Nobody asked for spans."""

    def emit(self, spans: Iterable[Span]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class PresetIdGenerator(IdGenerator):
    """Gives the next span the ids that it was told, and random ones if it was told none."""

    def __init__(self, entropy: Entropy = secrets.randbits) -> None:
        self._entropy = entropy
        self._next: SpanContext | None = None

    @contextmanager
    def preset(self, context: SpanContext) -> Iterator[None]:
        """The one span that is started within gets these ids. For one thread at a time."""
        self._next = context
        try:
            yield
        finally:
            self._next = None

    def generate_span_id(self) -> int:
        """8 bytes as an int, never zero."""
        return int.from_bytes(self._next.span_id) if self._next else self._random(64)

    def generate_trace_id(self) -> int:
        """16 bytes as an int, never zero."""
        return int.from_bytes(self._next.trace_id) if self._next else self._random(128)

    def _random(self, bits: int) -> int:
        while True:
            if drawn := self._entropy(bits):
                return drawn


def fresh_context(entropy: Entropy = secrets.randbits) -> SpanContext:
    """The context of a new trace's root."""
    ids = PresetIdGenerator(entropy)
    return SpanContext(ids.generate_trace_id().to_bytes(16), ids.generate_span_id().to_bytes(8))


class SdkSink:
    """Replays spans through the SDK, which exports them."""

    def __init__(self, processor: SpanProcessor, resource: Mapping[str, str]) -> None:
        """Args: processor: gets each span when it is done. resource: who makes them, where a span does not say."""
        self._ids = PresetIdGenerator()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create(dict(resource)), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("poolproof")

    def emit(self, spans: Iterable[Span]) -> None:
        """Hands the spans to the SDK's queue, which drops them if it is full."""
        for span in spans:
            self._replay(span)

    def close(self) -> None:
        """Flushes and ends the exporter's thread."""
        self._provider.shutdown()

    def _replay(self, span: Span) -> None:
        parent = None if span.parent is None else SpanContext(span.context.trace_id, span.parent)
        with self._ids.preset(span.context):
            live = self._tracer.start_span(
                span.name,
                context=otel_context.Context() if parent is None else _remote(parent),
                kind=_kind(span.kind),
                attributes=dict(span.attributes),
                links=[trace.Link(_otel(link.context), dict(link.attributes)) for link in span.links],
                start_time=span.start_ns,
            )
        for event in span.events:
            live.add_event(event.name, dict(event.attributes), event.time_ns)
        if span.status is not SpanStatus.UNSET:
            code = trace.StatusCode.OK if span.status is SpanStatus.OK else trace.StatusCode.ERROR
            live.set_status(code, span.status_detail if span.status is SpanStatus.ERROR else None)
        live.end(span.end_ns)


def sink_from(environ: Mapping[str, str], resource: Mapping[str, str]) -> SpanSink:
    """An OTLP exporter if the standard variables ask for one; its own settings it reads from the process environment.

    Raises:
        ValueError: they ask for an exporter that is not OTLP.
    """
    if not otlp_wanted(environ, "TRACES"):
        return NoSink()
    # 450 ms, and most processes need none of it.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return batching_sink(OTLPSpanExporter(), environ, resource)


def batching_sink(exporter: SpanExporter, environ: Mapping[str, str], resource: Mapping[str, str]) -> SdkSink:
    """A sink that exports in batches from a queue with room for a fleet's round."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    queue = None if "OTEL_BSP_MAX_QUEUE_SIZE" in environ else QUEUE_SPANS
    batch = None if "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" in environ else BATCH_SPANS
    return SdkSink(BatchSpanProcessor(exporter, max_queue_size=queue, max_export_batch_size=batch), resource)


def otlp_wanted(environ: Mapping[str, str], signal: str) -> bool:
    """Whether the standard variables ask for OTLP export.

    Args:
        environ: the process environment.
        signal: "TRACES" or "METRICS".

    Raises:
        ValueError: they ask for an exporter that is not OTLP.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    variable = f"OTEL_{signal}_EXPORTER"
    named = environ.get(variable, "").strip().lower()
    if named not in ("", "otlp", "none"):
        raise ValueError(f"{variable}: {named!r}: give otlp or none; poolproof exports by OTLP over gRPC alone")
    if named:
        return named == "otlp"
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(environ.get(endpoint, "").strip() for endpoint in endpoints)


@contextmanager
def current(traceparent: str) -> Iterator[None]:
    """Makes a trace context the current one, so that log lines within bear its ids; an empty one changes nothing."""
    context = read_traceparent(traceparent)
    if context is None:
        yield
        return
    token = otel_context.attach(_remote(context))
    try:
        yield
    finally:
        otel_context.detach(token)


def current_ids() -> tuple[str, str] | None:
    """Trace and span id of the current context, in hex; None outside of any."""
    context = trace.get_current_span().get_span_context()
    return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context.is_valid else None


def _otel(context: SpanContext) -> trace.SpanContext:
    return trace.SpanContext(
        trace_id=int.from_bytes(context.trace_id),
        span_id=int.from_bytes(context.span_id),
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )


def _remote(context: SpanContext) -> otel_context.Context:
    return trace.set_span_in_context(trace.NonRecordingSpan(_otel(context)), otel_context.Context())


def _kind(kind: SpanKind) -> trace.SpanKind:
    match kind:
        case SpanKind.INTERNAL:
            return trace.SpanKind.INTERNAL
        case SpanKind.SERVER:
            return trace.SpanKind.SERVER
        case SpanKind.CLIENT:
            return trace.SpanKind.CLIENT
        case SpanKind.PRODUCER:
            return trace.SpanKind.PRODUCER
        case SpanKind.CONSUMER:
            return trace.SpanKind.CONSUMER
        case _:
            assert_never(kind)
