"""What is counted, under which names and labels: nothing that `semconv` does not list."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from coordinator.attempt_telemetry import AttemptTelemetry
from coordinator.metrics import METRICS as COORDINATOR_METRICS
from coordinator.metrics import CoordinatorMetrics
from coordinator.store.memory import MemoryStore
from coordinator.traces import TraceStore
from poolproof import semconv
from poolproof.calibration import Stratum
from poolproof.conduct import Quarantine, QuarantineReason
from poolproof.exchange import LocalFault
from poolproof.job import ClockCheck
from poolproof.metering import Metering, metering_to
from poolproof.policy import POLICIES
from poolproof.semconv import Instrument, Metric
from poolproof.tracing import NoSink
from poolproof.verification import Purpose, State, Verification
from probe.faulted import faulted_report
from probe.metrics import METRICS as PROBE_METRICS
from probe.metrics import ProbeMetrics
from tests.coordinator.doubles import report_of
from tests.probe.jobs import job
from tests.telemetry.samples import verification

Point = tuple[Mapping[str, str], float]


@dataclass
class Reading:
    reader: InMemoryMetricReader
    metering: Metering

    def points(self) -> dict[str, list[Point]]:
        """Per metric: labels and value, or the count of a histogram."""
        found: dict[str, list[Point]] = {}
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for metric in itertools.chain.from_iterable(scope.metrics for scope in resource.scope_metrics):
                for point in metric.data.data_points:
                    value = getattr(point, "count", None) or getattr(point, "value", 0) or 0
                    labels = {str(name): str(text) for name, text in (point.attributes or {}).items()}
                    found.setdefault(metric.name, []).append((labels, float(value)))
        return found


def reading(metrics: tuple[Metric, ...]) -> Iterator[Reading]:
    reader = InMemoryMetricReader()
    metering = metering_to([reader], {"service.name": "test"}, metrics)
    yield Reading(reader, metering)
    metering.close()


@pytest.fixture
def probe() -> Iterator[Reading]:
    yield from reading(PROBE_METRICS)


@pytest.fixture
def coordinator() -> Iterator[Reading]:
    yield from reading(COORDINATOR_METRICS)


def telemetry(coordinator: Reading) -> AttemptTelemetry:
    return AttemptTelemetry(
        traces=TraceStore(MemoryStore(), {}),
        sink=NoSink(),
        metrics=CoordinatorMetrics(coordinator.metering),
        entropy=lambda bits: 1,
        resource={},
        policies=POLICIES,
    )


def before_its_last_report(done: Verification) -> Verification:
    attempt = done.attempts[1]
    open_still = replace(attempt, observations=attempt.observations[:2], concluded_at_ns=0)
    return replace(done, state=State.MEASURING, attempts=(done.attempts[0], open_still))


def test_a_calibration_counts_in_no_metric_of_verdicts(coordinator: Reading) -> None:
    done = replace(verification(), purpose=Purpose.CALIBRATION)
    telemetry(coordinator).advanced(before_its_last_report(done), done, 0)
    assert coordinator.points() == {}


def test_all_that_is_recorded_has_listed_names_and_labels(probe: Reading, coordinator: Reading) -> None:
    told = telemetry(coordinator)
    done = verification()
    told.advanced(before_its_last_report(done), done, 0)
    (asked,) = told.with_context(done, [job("w1/4/0/v00")])
    for delivered in (True, False):
        told.dispatched(done, asked, began_ns=1, now_ns=2, delivered=delivered)
    told.agent_connected(asked.vantage)
    for reason in semconv.REFUSED_REPORT_REASONS:
        told.report_refused(reason)
    for reason in semconv.REFUSED_SESSION_REASONS:
        told.session_refused(reason)
    for said in (True, False):
        told.calibrated(said=said)
    told.tried(dict.fromkeys(Stratum, True))
    for why in QuarantineReason:
        told.quarantined(Quarantine(why, 1, done.id, "seen"), 1)
    counted = ProbeMetrics(probe.metering)
    counted.job_done(asked, report_of(asked, lambda _: True))
    for fault in LocalFault:
        counted.job_done(asked, faulted_report(asked, fault, "x", clock=ClockCheck(0, 1, 1)))
    for end in semconv.SESSION_ENDS:
        counted.session_ended(end)
    counted.journal(3)
    points = {**probe.points(), **coordinator.points()}
    listed = {metric.name: metric for metric in semconv.METRICS}
    assert points.keys() == listed.keys(), "every metric that is listed is recorded, and no other"
    for name, recorded in points.items():
        for labels, _ in recorded:
            listed[name].check(labels)


def test_a_label_or_a_value_that_is_not_listed_is_refused(coordinator: Reading) -> None:
    for labels in ({}, {"reason": "because"}, {"reason": "no-such-job", "vantage": "ams1"}):
        with pytest.raises(ValueError, match=r"poolproof\.reports\.refused"):
            coordinator.metering.record(semconv.REPORTS_REFUSED, 1, labels)


def test_a_verdict_and_its_rounds_are_counted_once_each(coordinator: Reading) -> None:
    told, done = telemetry(coordinator), verification()
    told.advanced(before_its_last_report(done), done, 0)
    told.advanced(done, done, 1)
    points = coordinator.points()
    reason = done.verdict.reason.value
    assert points["poolproof.verifications"] == [
        ({"verdict": "refuted", "reason": reason, "method": "differential"}, 1.0)
    ]
    assert points["poolproof.rounds"] == [({"result": "counted"}, 1.0)]
    assert points["poolproof.round.start_skew"] == [({}, 1.0)]


def test_exchanges_are_counted_by_what_they_amount_to(probe: Reading) -> None:
    counted, asked = ProbeMetrics(probe.metering), job()
    counted.job_done(asked, report_of(asked, lambda _: True))
    counted.job_done(asked, report_of(asked, lambda _: False))
    counted.job_done(asked, faulted_report(asked, LocalFault.GUARD_REFUSED, "target: no"))
    points = probe.points()
    assert {(labels["outcome"], labels["fault"]): value for labels, value in points["poolproof.probe.exchanges"]} == {
        ("replied", "none"): 1.0,
        ("silent", "none"): 1.0,
        ("probe-failed", "guard-refused"): 1.0,
    }
    assert points["poolproof.probe.guard_refusals"] == [({}, 1.0)]


def test_every_histogram_of_seconds_tells_a_millisecond_from_twenty() -> None:
    for metric in semconv.METRICS:
        if metric.instrument is Instrument.HISTOGRAM:
            assert metric.unit == "s"
            assert {0.001, 0.02, 1.0} <= set(metric.buckets)
