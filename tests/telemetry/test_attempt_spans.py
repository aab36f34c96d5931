"""The coordinator's spans of an attempt follow from its record, whoever asks and however often."""

from __future__ import annotations

from dataclasses import replace

from coordinator.attempt_spans import attempt_spans, parent_of, round_context
from poolproof import semconv
from poolproof.ids import JobId
from poolproof.plan import baseline_job_id, round_job_id
from poolproof.verification import State
from tests.telemetry.samples import EARLIER, MS, ROOT, S, verification


def test_all_hang_below_a_root_that_has_the_records_ids_and_is_linked_to_the_attempt_before() -> None:
    root, *others = [each.span for each in attempt_spans(verification(), 4, 40 * S, {"service.name": "x"})]
    assert (root.context, root.parent) == (ROOT, None)
    assert [link.context for link in root.links] == [EARLIER]
    assert (root.start_ns, root.end_ns) == (10 * S, 31 * S)
    assert root.attributes[semconv.VERDICT] == "refuted"
    assert [span.name for span in others] == [semconv.BASELINE, semconv.ROUND]
    assert {span.parent for span in others} == {ROOT.span_id}
    assert others[1].attributes[semconv.START_SKEW_NS] == str(2 * MS)


def test_the_first_attempt_follows_nothing() -> None:
    (root, *_) = attempt_spans(verification(), 3, 40 * S, {})
    assert root.span.links == ()


def test_what_is_under_way_is_told_as_far_as_it_is_known_and_not_finished() -> None:
    done = verification()
    running = replace(done.attempts[1], concluded_at_ns=0, observations=done.attempts[1].observations[:1])
    spans = attempt_spans(replace(done, state=State.MEASURING, attempts=(running,)), 4, 40 * S, {})
    finished = {each.span.name: each.finished for each in spans}
    assert finished == {semconv.ATTEMPT: False, semconv.BASELINE: True, semconv.ROUND: False}
    assert spans[0].span.end_ns == 40 * S
    assert spans[0].span.attributes[semconv.STATE] == "measuring"


def test_ids_are_the_same_every_time_and_different_for_each() -> None:
    first, second = (attempt_spans(verification(), 4, now, {}) for now in (40 * S, 50 * S))
    ids = [each.span.context for each in first]
    assert ids == [each.span.context for each in second]
    assert len(set(ids)) == len(ids)


def test_a_job_hangs_below_the_phase_that_its_id_names() -> None:
    done = verification()
    attempt = done.attempts[1]
    vantage = attempt.challenge.rows[0].perspective.vantage if attempt.challenge else None
    assert vantage is not None
    baseline = next(s.span for s in attempt_spans(done, 4, S, {}) if s.span.name == semconv.BASELINE)
    assert parent_of(attempt, ROOT, baseline_job_id(done.id, 4, vantage)) == baseline.context
    assert parent_of(attempt, ROOT, round_job_id(done.id, 4, 0, vantage)) == round_context(ROOT, 0)
    assert parent_of(attempt, ROOT, JobId("w1/4/7/v00")) == round_context(ROOT, 7)


def test_an_attempt_without_a_trace_or_that_does_not_exist_has_no_spans() -> None:
    done = verification()
    untraced = replace(done, attempts=(replace(done.attempts[1], traceparent=""),))
    assert attempt_spans(untraced, 4, S, {}) == ()
    assert attempt_spans(done, 99, S, {}) == ()
