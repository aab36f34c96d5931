"""Metrics at the edge: instruments for what `semconv` lists, and nothing else. Shared by coordinator and probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from opentelemetry.metrics import Meter, MeterProvider, NoOpMeterProvider

from poolproof.semconv import NO_LABELS, Instrument, Metric
from poolproof.tracing import otlp_wanted

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader


class _Record(Protocol):
    def __call__(self, amount: float, attributes: Mapping[str, str]) -> None: ...


class Metering:
    """Counts under the names of `semconv`, and refuses labels that do not stand there."""

    def __init__(self, provider: MeterProvider, metrics: Iterable[Metric]) -> None:
        """Args: provider: where the numbers go. metrics: those that this process counts."""
        self._provider = provider
        meter = provider.get_meter("poolproof")
        self._records: dict[str, _Record] = {metric.name: _instrument(meter, metric) for metric in metrics}

    def record(self, metric: Metric, amount: float, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Add to a counter, put into a histogram, or set a gauge.

        Raises:
            ValueError: labels that `semconv` does not list for this metric.
        """
        metric.check(labels)
        self._records[metric.name](amount, labels)

    def close(self) -> None:
        """Send what is left."""
        shutdown = getattr(self._provider, "shutdown", None)
        if shutdown is not None:
            shutdown()


def metering_from(environ: Mapping[str, str], resource: Mapping[str, str], metrics: Iterable[Metric]) -> Metering:
    """Metrics by OTLP if the standard variables ask for it; otherwise nobody counts.

    Raises:
        ValueError: they ask for an exporter that is not OTLP.
    """
    if not otlp_wanted(environ, "METRICS"):
        return Metering(NoOpMeterProvider(), metrics)
    # 450 ms, and most processes need none of it.
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    return metering_to([PeriodicExportingMetricReader(OTLPMetricExporter())], resource, metrics)


def metering_to(readers: Iterable[MetricReader], resource: Mapping[str, str], metrics: Iterable[Metric]) -> Metering:
    """Metrics to these readers."""
    from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
    from opentelemetry.sdk.resources import Resource

    provider = SdkMeterProvider(tuple(readers), resource=Resource.create(dict(resource)), shutdown_on_exit=False)
    return Metering(provider, metrics)


def _instrument(meter: Meter, metric: Metric) -> _Record:
    match metric.instrument:
        case Instrument.COUNTER:
            return meter.create_counter(metric.name, metric.unit, metric.description).add
        case Instrument.UP_DOWN_COUNTER:
            return meter.create_up_down_counter(metric.name, metric.unit, metric.description).add
        case Instrument.GAUGE:
            return meter.create_gauge(metric.name, metric.unit, metric.description).set
        case Instrument.HISTOGRAM:
            return meter.create_histogram(
                metric.name,
                metric.unit,
                metric.description,
                explicit_bucket_boundaries_advisory=list(metric.buckets) or None,
            ).record
