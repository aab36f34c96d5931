"""The coordinator's spans of an attempt, derived from its record: nothing to keep, nothing to lose in a crash. Pure.

    verification.attempt          from request to verdict; its ids are in the record
      verification.baseline       ids derived from the attempt's, so that dispatches can name their parent beforehand
        job.dispatch
      verification.round          one for each round
        job.dispatch              (the dispatcher emits these; their ids are derived as well)

The same function feeds OTLP export, once each span is finished, and `trace`, at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import assert_never

from poolproof import semconv
from poolproof.challenge import Observation, Round
from poolproof.ids import JobId
from poolproof.span import Span, SpanContext, SpanEvent, SpanKind, SpanLink, read_traceparent
from poolproof.verdict import ControlProven, ControlRefuted, Inconclusive, Verdict
from poolproof.verification import Attempt, State, Verification

_BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class AttemptSpan:
    """A span of the coordinator, and whether anything can still change in it."""

    span: Span
    finished: bool


def attempt_spans(
    verification: Verification, number: int, now_ns: int, resource: Mapping[str, str]
) -> tuple[AttemptSpan, ...]:
    """All that is to be said about one attempt so far, the root first; nothing if it has no trace.

    Args:
        verification: the record.
        number: of the attempt.
        now_ns: where spans that are not finished end for now.
        resource: who makes them.
    """
    index = next((i for i, attempt in enumerate(verification.attempts) if attempt.number == number), None)
    if index is None:
        return ()
    attempt = verification.attempts[index]
    root = read_traceparent(attempt.traceparent)
    if root is None:
        return ()
    previous = read_traceparent(verification.attempts[index - 1].traceparent) if index else None
    over_at_ns = attempt.concluded_at_ns
    spans = [_root(verification, attempt, root, previous, over_at_ns or now_ns, resource)]
    ended_at_ns = attempt.challenged_at_ns or over_at_ns
    spans.append(
        _span(
            root,
            baseline_context(root),
            semconv.BASELINE,
            attempt.started_at_ns,
            ended_at_ns or now_ns,
            {
                semconv.PERSPECTIVES: str(len(attempt.candidates)),
                semconv.REPORTED: str(sum(entry.path is not None for entry in attempt.paths)),
            },
            resource,
            finished=bool(ended_at_ns),
        )
    )
    spans += [_round(attempt, root, fired, over_at_ns, now_ns, resource) for fired in attempt.rounds]
    return tuple(spans)


def baseline_context(root: SpanContext) -> SpanContext:
    """Of the baseline's span."""
    return root.child(_BASELINE)


def round_context(root: SpanContext, number: int) -> SpanContext:
    """Of a round's span."""
    return root.child(f"round/{number}")


def parent_of(attempt: Attempt, root: SpanContext, job: JobId) -> SpanContext:
    """The span that a job is dispatched from; ids are <verification>/<attempt>/<round or baseline>/<vantage>."""
    part = job.split("/")[-2]
    return baseline_context(root) if part == _BASELINE else round_context(root, int(part))


def start_skew_ns(attempt: Attempt, fired: Round) -> int | None:
    """Between the first and the last packet of a round; None if fewer than two are known."""
    sent = [seen.sent_at_ns for seen in _observed(attempt, fired) if seen.sent_at_ns and seen.source]
    return max(sent) - min(sent) if len(sent) > 1 else None


def is_accounted_for(attempt: Attempt, fired: Round) -> bool:
    """Whether nothing more can be learned from a round."""
    seen = {observation.row for observation in _observed(attempt, fired)}
    return bool(attempt.concluded_at_ns) or seen.issuperset(fired.leased)


def verdict_word(verdict: Verdict) -> str:
    """One of `semconv.VERDICTS`."""
    match verdict:
        case ControlProven():
            return "proven"
        case ControlRefuted():
            return "refuted"
        case Inconclusive():
            return "inconclusive"
        case _:
            assert_never(verdict)


def _root(
    verification: Verification,
    attempt: Attempt,
    context: SpanContext,
    previous: SpanContext | None,
    end_ns: int,
    resource: Mapping[str, str],
) -> AttemptSpan:
    current = verification.attempt is attempt
    attributes = {
        semconv.VERIFICATION_ID: str(verification.id),
        semconv.ATTEMPT_NUMBER: str(attempt.number),
        semconv.TARGET: str(verification.target),
        semconv.METHOD: verification.method.value,
        semconv.VARIANT: verification.variant.value,
        semconv.STATE: (verification.state if current else State.CONCLUDED).value,
        semconv.VERDICT: verdict_word(attempt.verdict),
        semconv.REASON: attempt.verdict.reason.value,
    }
    if isinstance(attempt.verdict, ControlProven):
        attributes[semconv.ASSURANCE] = attempt.verdict.assurance.name.lower()
    events = [
        SpanEvent(name, time_ns)
        for name, time_ns in (
            (semconv.CHALLENGED_EVENT, attempt.challenged_at_ns),
            (semconv.READY_EVENT, attempt.ready_at_ns),
        )
        if time_ns
    ]
    span = Span(
        context=context,
        parent=None,
        name=semconv.ATTEMPT,
        kind=SpanKind.SERVER,
        start_ns=attempt.started_at_ns,
        end_ns=max(attempt.started_at_ns, end_ns),
        attributes=MappingProxyType(attributes),
        events=tuple(events),
        links=() if previous is None else (SpanLink(previous),),
        resource=resource,
    )
    return AttemptSpan(span, finished=bool(attempt.concluded_at_ns))


def _round(
    attempt: Attempt, root: SpanContext, fired: Round, over_at_ns: int, now_ns: int, resource: Mapping[str, str]
) -> AttemptSpan:
    observed = _observed(attempt, fired)
    finished = is_accounted_for(attempt, fired)
    last_ns = max((max(seen.sent_at_ns, seen.received_at_ns) for seen in observed), default=fired.start_at_ns)
    attributes = {
        semconv.ROUND_NUMBER: str(fired.number),
        semconv.PERSPECTIVES: str(len(fired.leased)),
        semconv.REPORTED: str(len({seen.row for seen in observed})),
    }
    if (skew_ns := start_skew_ns(attempt, fired)) is not None:
        attributes[semconv.START_SKEW_NS] = str(skew_ns)
    context = round_context(root, fired.number)
    # One that was cut short, by a withdrawal for one, may not even have started.
    start_ns = min(fired.start_at_ns, over_at_ns) if over_at_ns else fired.start_at_ns
    end_ns = last_ns if finished else now_ns
    return _span(root, context, semconv.ROUND, start_ns, end_ns, attributes, resource, finished=finished)


def _observed(attempt: Attempt, fired: Round) -> list[Observation]:
    return [seen for seen in attempt.observations if seen.round == fired.number]


def _span(
    root: SpanContext,
    context: SpanContext,
    name: str,
    start_ns: int,
    end_ns: int,
    attributes: Mapping[str, str],
    resource: Mapping[str, str],
    *,
    finished: bool,
) -> AttemptSpan:
    span = Span(
        context=context,
        parent=root.span_id,
        name=name,
        kind=SpanKind.INTERNAL,
        start_ns=start_ns,
        end_ns=max(start_ns, end_ns),
        attributes=MappingProxyType(dict(attributes)),
        resource=resource,
    )
    return AttemptSpan(span, finished)
