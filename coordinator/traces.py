"""Spans in the store: put them, and read an attempt's trace (`trace_tree` draws it).

    spans/<verification>/<attempt>/report/<round or baseline>/<vantage>     came with that report, in its transaction
    spans/<verification>/<attempt>/dispatch/<time>-<span id>                 some dispatches, a moment after them

The attempt's own spans are derived from its record (`attempt_spans`) and not stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from coordinator.attempt_spans import attempt_spans
from coordinator.store.port import MAX_VALUE_BYTES, Put, Store, Transaction, pages
from coordinator.trace_tree import draw as draw
from coordinator.trace_tree import draw_text as draw_text
from coordinator.trace_tree import once_each
from poolproof import semconv
from poolproof.ids import JobId, VerificationId
from poolproof.span import Span, read_traceparent
from poolproof.verification import Verification
from poolproof.wire.trace import spans_from_record, spans_to_record

SPANS = "spans/"
_OF_PROBES = frozenset({semconv.JOB, semconv.CONTROL, semconv.EXCHANGE})


def attempt_prefix(verification: VerificationId, number: int) -> str:
    """Below which all spans of one attempt are."""
    return f"{SPANS}{verification}/{number}/"


def report_spans(verification: Verification, job: JobId, spans: Iterable[Span]) -> tuple[Put, ...]:
    """The write that keeps what came with a report; none if nothing did.

    A probe may speak of its own work only: spans of another trace than the current attempt's, and those that the
    coordinator makes, are left out.
    """
    attempt = verification.attempt
    root = read_traceparent(attempt.traceparent) if attempt is not None else None
    if attempt is None or root is None:
        return ()
    mine = [
        span
        for span in spans
        if span.context.trace_id == root.trace_id and span.parent is not None and span.name in _OF_PROBES
    ]
    record = spans_to_record(mine)
    if not mine or len(record) > MAX_VALUE_BYTES:
        return ()
    phase, vantage = job.split("/")[-2:]
    return (Put(f"{attempt_prefix(verification.id, attempt.number)}report/{phase}/{vantage}", record),)


class TraceStore:
    """Traces in a store."""

    def __init__(self, store: Store, resource: Mapping[str, str]) -> None:
        """Args: store: where. resource: who makes the derived spans."""
        self._store = store
        self._resource = resource

    async def keep_dispatches(self, verification: VerificationId, number: int, spans: Sequence[Span]) -> None:
        """Stores some dispatch spans of one attempt.

        Raises:
            StoreUnavailableError: it could not be done now.
        """
        first = spans[0]
        # A job that is dispatched again has the same span id: the time keeps it from writing over the first batch.
        name = f"{first.start_ns:019d}-{first.context.span_id.hex()}"
        key = f"{attempt_prefix(verification, number)}dispatch/{name}"
        await self._store.commit(Transaction(puts=(Put(key, spans_to_record(spans)),)))

    async def read(self, verification: Verification, number: int, now_ns: int) -> tuple[Span, ...]:
        """All spans of one attempt: those derived from its record, then those that were stored.

        Raises:
            StoreUnavailableError: it could not be done now.
        """
        own = [each.span for each in attempt_spans(verification, number, now_ns, self._resource)]
        stored: list[Span] = []
        async for page in pages(self._store, attempt_prefix(verification.id, number)):
            for entry in page.entries:
                stored += spans_from_record(entry.value)
        taken = {span.context.span_id for span in own}
        return (*own, *once_each(span for span in stored if span.context.span_id not in taken))


def linked_traces(spans: Iterable[Span]) -> tuple[str, ...]:
    """Ids of the traces that a trace's root is linked to, in hex."""
    return tuple(link.context.trace_id.hex() for span in spans if span.name == semconv.ATTEMPT for link in span.links)
