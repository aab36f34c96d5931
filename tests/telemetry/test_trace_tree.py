"""A trace as people see it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.attempt_spans import attempt_spans, round_context
from coordinator.trace_tree import draw_text
from poolproof import semconv
from poolproof.span import Span, SpanContext, SpanEvent, SpanStatus
from tests.golden_files import check_golden
from tests.telemetry.samples import MS, ROOT, S, exchange_span, probe_span, verification

GOLDEN = Path(__file__).parent / "golden"


def spans_of_an_attempt() -> list[Span]:
    spans = [each.span for each in attempt_spans(verification(), 4, 40 * S, {})]
    number = 100
    for vantage, outcome, events in (
        ("v00", "replied", (SpanEvent(semconv.REPLY_EVENT, 30 * S + 15 * MS, {semconv.BYTES: "48"}),) * 2),
        (
            "v01",
            "refused",
            (
                SpanEvent(
                    semconv.ICMP_EVENT,
                    30 * S + MS,
                    {semconv.ICMP_TYPE: "3", semconv.ICMP_CODE: "13", semconv.ICMP_OFFENDER: "192.0.2.1"},
                ),
            ),
        ),
        ("v02", "probe-failed", ()),
    ):
        dispatch = probe_span(semconv.DISPATCH, number, round_context(ROOT, 0).span_id, 28 * S, MS // 2)
        has = {semconv.VANTAGE: vantage, semconv.DELIVERED: "true"}
        job = probe_span(semconv.JOB, number + 1, dispatch.context.span_id, 28 * S + MS, 3 * S)
        clock = {semconv.CLOCK_OFFSET_NS: "-1500000", semconv.CLOCK_ERROR_NS: "400000"} if events else {}
        before = probe_span(semconv.CONTROL, number + 2, job.context.span_id, 29 * S, 10 * MS)
        failure = "" if events else "bind-failed"
        source = "2001:db8:0:1::7" if vantage == "v01" else "192.0.2.1"
        spans += [
            replace(dispatch, attributes=has),
            replace(job, attributes={semconv.VANTAGE: vantage, **clock}),
            replace(before, attributes={semconv.SIDE: "before"}),
            exchange_span(number + 3, before.context.span_id, "replied", source),
            exchange_span(number + 4, job.context.span_id, outcome, source, *events, failure=failure),
        ]
        number += 10
    return spans


def test_an_attempt_is_drawn_from_the_request_to_each_packet() -> None:
    spans = spans_of_an_attempt()
    random.Random(7).shuffle(spans)
    check_golden(GOLDEN, "trace.txt", draw_text(spans))


def test_a_depth_leaves_the_rest_out() -> None:
    assert draw_text(spans_of_an_attempt(), depth=1).count("\n") == 3


def test_a_span_whose_parent_never_came_is_drawn_and_said_to_be_lost() -> None:
    spans = [span for span in spans_of_an_attempt() if span.name != semconv.DISPATCH]
    text = draw_text(spans)
    assert text.count("has not arrived") == 3
    assert text.count(semconv.EXCHANGE) == 6


def test_without_a_root_the_rest_is_drawn_all_the_same() -> None:
    text = draw_text(span for span in spans_of_an_attempt() if span.parent is not None)
    assert text.startswith("17 spans")
    assert text.count(semconv.EXCHANGE) == 6


def test_a_circle_of_parents_is_drawn_once() -> None:
    one = probe_span(semconv.JOB, 1, (2).to_bytes(8), S, MS)
    two = probe_span(semconv.CONTROL, 2, (1).to_bytes(8), S, MS)
    text = draw_text([one, two])
    assert text.count(semconv.JOB) == 1
    assert text.count(semconv.CONTROL) == 1


def test_a_chain_that_is_absurdly_deep_is_drawn_whole() -> None:
    chain = [probe_span(semconv.JOB, n + 1, n.to_bytes(8) if n else b"\xff" * 8, S + n, MS) for n in range(1_200)]
    assert draw_text(chain).count(semconv.JOB) == 1_200


def test_text_from_a_probe_cannot_speak_to_the_terminal_or_in_markup() -> None:
    evil = replace(
        exchange_span(1, ROOT.span_id, "replied", "192.0.2.1"),
        status=SpanStatus.ERROR,
        status_detail="\x1b[2J[bold]gone[/bold]\nroot",
    )
    text = draw_text([evil])
    assert "\x1b" not in text
    assert r"\x1b[2J[bold]gone[/bold]\x0aroot" in text


def test_a_number_from_a_probe_may_be_of_any_length() -> None:
    said = {semconv.VANTAGE: "v00", semconv.CLOCK_OFFSET_NS: "-" + "9" * 400, semconv.CLOCK_ERROR_NS: "1"}
    span = replace(probe_span(semconv.JOB, 1, bytes(8), S, S), attributes=said)
    assert "clock off by -more than a century" in draw_text([span])


def test_of_a_job_dispatched_twice_the_dispatch_that_worked_is_shown() -> None:
    failed = probe_span(semconv.DISPATCH, 1, ROOT.span_id, S, MS, "the vantage's agent is not connected")
    worked = probe_span(semconv.DISPATCH, 1, ROOT.span_id, 2 * S, MS)
    text = draw_text([failed, replace(worked, attributes={semconv.DELIVERED: "true", semconv.VANTAGE: "v1"})])
    assert "not connected" not in text
    assert text.count(semconv.DISPATCH) == 1


def test_nothing_is_said_to_be_nothing() -> None:
    assert "no spans" in draw_text([])


def test_a_context_of_zeros_is_refused() -> None:
    for trace_id, span_id in ((bytes(16), bytes([1] * 8)), (bytes([1] * 16), bytes(8)), (b"\1", bytes([1] * 8))):
        with pytest.raises(ValueError, match="not all zero"):
            SpanContext(trace_id, span_id)
