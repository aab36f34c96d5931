"""Spans to draw, and attempts to speak of."""

from __future__ import annotations

from dataclasses import replace

from poolproof import semconv
from poolproof.challenge import Method, Observation
from poolproof.ids import PolicyId, VerificationId
from poolproof.outcome import Outcome
from poolproof.span import Span, SpanContext, SpanEvent, SpanKind, SpanStatus
from poolproof.target import Target
from poolproof.variant import Variant
from poolproof.verdict import ControlRefuted, Reason
from poolproof.verification import Attempt, State, Verification
from tests.kernel.situations import challenge, rounds

S = 1_000_000_000
MS = 1_000_000
ROOT = SpanContext(bytes([1] * 16), bytes([2] * 8))
EARLIER = SpanContext(bytes([9] * 16), bytes([8] * 8))


def verification() -> Verification:
    """Refuted in its second attempt: the first of two rounds had an answer where silence was asked for."""
    asked = challenge(2, 1)
    fired = tuple(replace(each, start_at_ns=each.start_at_ns + 30 * S) for each in rounds(asked, 2))
    seen = tuple(
        Observation(row, 0, Outcome.REPLIED, "192.0.2.9", 30 * S + row * MS, 30 * S + 20 * MS) for row in range(3)
    )
    nothing = Verification(
        VerificationId("w1"),
        Target("192.0.2.80"),
        "ntp.example.org",
        "alice",
        Method.DIFFERENTIAL,
        Variant.BLOCK,
        PolicyId("2026-11"),
        S,
    )
    verdict = ControlRefuted(
        Reason.ANSWERED_WHERE_SILENCE_WAS_ASKED, asked.rows[2].perspective, seen[2], nothing.verdict.tally
    )
    first = Attempt(3, bytes(32), EARLIER.traceparent, 2 * S, (), 3 * S, concluded_at_ns=4 * S)
    second = Attempt(
        4,
        bytes(32),
        ROOT.traceparent,
        10 * S,
        (),
        11 * S,
        challenge=asked,
        challenged_at_ns=20 * S,
        ready_at_ns=25 * S,
        rounds=fired[:1],
        observations=seen,
        verdict=verdict,
        concluded_at_ns=31 * S,
    )
    return replace(nothing, state=State.CONCLUDED, attempts=(first, second))


def probe_span(
    name: str, number: int, parent: bytes, start_ns: int, length_ns: int, failure: str = "", **attributes: str
) -> Span:
    return Span(
        SpanContext(ROOT.trace_id, number.to_bytes(8)),
        parent,
        name,
        SpanKind.INTERNAL,
        start_ns,
        start_ns + length_ns,
        {name.replace("__", "."): value for name, value in attributes.items()},
        SpanStatus.ERROR if failure else SpanStatus.UNSET,
        failure,
    )


def exchange_span(number: int, parent: bytes, outcome: str, source: str, *events: SpanEvent, failure: str = "") -> Span:
    has = {
        semconv.KIND: "client-v4",
        semconv.OUTCOME: outcome,
        semconv.SOURCE_ADDRESS: source,
        semconv.SERVER_ADDRESS: "2001:db8::80" if ":" in source else "192.0.2.80",
        semconv.SERVER_PORT: "123",
    }
    if failure:
        has |= {semconv.FAULT: failure, semconv.FAULT_DETAIL: "source 192.0.2.1: address not available"}
    plain = probe_span(semconv.EXCHANGE, number, parent, 30 * S, 15 * MS, failure)
    return replace(plain, attributes=has, events=events)
