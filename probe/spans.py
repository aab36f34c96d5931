"""Spans of a job, made from its report when it is over: the kernel's timestamps are better than any live span's.

    job.dispatch (the coordinator's; named by the job's traceparent)
      probe.job
        probe.control  side=before    its ntp.exchange spans below it
        ntp.exchange   one for each step
        probe.control  side=after

The outcome in an exchange's span is a label for people. Nothing rests on it: the coordinator judges the raw report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from poolproof import semconv
from poolproof.classify import classify, classify_report
from poolproof.exchange import Exchange
from poolproof.job import Job, Report
from poolproof.outcome import Outcome
from poolproof.span import SPAN_ID_BYTES, Span, SpanContext, SpanEvent, SpanKind, SpanStatus, read_traceparent

Entropy = Callable[[int], int]
"""That many random bits, as `secrets.randbits`."""


def job_spans(
    job: Job, report: Report, *, accepted_at_ns: int, done_at_ns: int, entropy: Entropy, resource: Mapping[str, str]
) -> tuple[Span, ...]:
    """All spans of one job, parents first; none if the job belongs to no trace.

    Args:
        job: as it was leased.
        report: what became of it.
        accepted_at_ns, done_at_ns: when the probe got it, and when the report was stored.
        entropy: for span ids.
        resource: who makes them.
    """
    dispatch = read_traceparent(job.traceparent)
    if dispatch is None:
        return ()
    maker = _Maker(dispatch.trace_id, entropy, resource)
    outcomes = classify_report(report)
    failed = sum(outcome is Outcome.PROBE_FAILED for outcome in outcomes)
    root = maker.span(
        dispatch.span_id,
        semconv.JOB,
        SpanKind.CONSUMER,
        accepted_at_ns,
        done_at_ns,
        {
            semconv.JOB_ID: job.id,
            semconv.VERIFICATION_ID: job.verification,
            semconv.VANTAGE: job.vantage,
            semconv.TARGET: str(job.target),
            semconv.CLOCK_OFFSET_NS: str(report.clock.offset_ns) if report.clock.samples else semconv.NONE,
            semconv.CLOCK_ERROR_NS: str(report.clock.error_ns) if report.clock.samples else semconv.NONE,
        },
        failure=f"{failed} of {len(outcomes)} exchanges failed in the probe" if failed else "",
    )
    spans = [root]
    spans += _control(maker, root, "before", report.control_before)
    for exchange, outcome in zip(report.exchanges, outcomes, strict=True):
        spans.append(_exchange(maker, root, exchange, outcome))
    spans += _control(maker, root, "after", report.control_after)
    return tuple(spans)


class _Maker:
    """Makes spans of one trace."""

    def __init__(self, trace_id: bytes, entropy: Entropy, resource: Mapping[str, str]) -> None:
        self._trace_id = trace_id
        self._entropy = entropy
        self._resource = resource

    def span(
        self,
        parent: bytes,
        name: str,
        kind: SpanKind,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, str],
        events: tuple[SpanEvent, ...] = (),
        failure: str = "",
    ) -> Span:
        return Span(
            context=SpanContext(self._trace_id, (self._entropy(8 * SPAN_ID_BYTES) or 1).to_bytes(SPAN_ID_BYTES)),
            parent=parent,
            name=name,
            kind=kind,
            start_ns=start_ns,
            end_ns=max(start_ns, end_ns),
            attributes=MappingProxyType(dict(attributes)),
            status=SpanStatus.ERROR if failure else SpanStatus.UNSET,
            status_detail=failure,
            events=events,
            resource=self._resource,
        )


def _control(maker: _Maker, root: Span, side: str, exchanges: Sequence[Exchange]) -> list[Span]:
    if not exchanges:
        return []
    outcomes = [classify(exchange, bracketed=True) for exchange in exchanges]
    answered = any(outcome.shows_presence for outcome in outcomes)
    parent = maker.span(
        root.context.span_id,
        semconv.CONTROL,
        SpanKind.INTERNAL,
        min(exchange.sent_at_ns for exchange in exchanges),
        max(_ended_at_ns(exchange) for exchange in exchanges),
        {semconv.SIDE: side},
        failure="" if answered else "no control server answered",
    )
    return [parent] + [
        _exchange(maker, parent, exchange, outcome) for exchange, outcome in zip(exchanges, outcomes, strict=True)
    ]


def _exchange(maker: _Maker, parent: Span, exchange: Exchange, outcome: Outcome) -> Span:
    attributes = {
        semconv.KIND: exchange.kind.value,
        semconv.OUTCOME: outcome.value,
        semconv.SOURCE_ADDRESS: exchange.source,
        semconv.SERVER_ADDRESS: exchange.destination,
        semconv.SERVER_PORT: str(exchange.port),
    }
    if exchange.fault is not None:
        attributes[semconv.FAULT] = exchange.fault.value
        attributes[semconv.FAULT_DETAIL] = exchange.fault_detail
    replies = [
        SpanEvent(semconv.REPLY_EVENT, reply.received_at_ns, MappingProxyType({semconv.BYTES: str(len(reply.payload))}))
        for reply in exchange.replies
    ]
    errors = [
        SpanEvent(
            semconv.ICMP_EVENT,
            error.received_at_ns,
            MappingProxyType(
                {
                    semconv.ICMP_TYPE: str(error.type),
                    semconv.ICMP_CODE: str(error.code),
                    semconv.ICMP_OFFENDER: error.offender,
                }
            ),
        )
        for error in exchange.icmp
    ]
    return maker.span(
        parent.context.span_id,
        semconv.EXCHANGE,
        SpanKind.CLIENT,
        exchange.sent_at_ns,
        _ended_at_ns(exchange),
        attributes,
        tuple(sorted(replies + errors, key=lambda event: event.time_ns)),
        failure=exchange.fault.value if exchange.fault is not None else "",
    )


def _ended_at_ns(exchange: Exchange) -> int:
    """The first sign from outside, or the end of the wait for one; a fault ends where it began."""
    signs = [reply.received_at_ns for reply in exchange.replies] + [error.received_at_ns for error in exchange.icmp]
    if signs:
        return max(exchange.sent_at_ns, min(signs))
    return exchange.sent_at_ns if exchange.fault is not None else exchange.sent_at_ns + exchange.timeout_ns
