"""Export by OTLP: only when asked, with our own ids and times, to a receiver in this process."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc

from coordinator.attempt_spans import attempt_spans
from poolproof.tracing import NoSink, batching_sink, otlp_wanted, sink_from
from tests.telemetry.samples import S, exchange_span, verification


class Receiver(rpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[tuple[str, object]] = []
        self.came = threading.Event()

    def Export(self, request: pb.ExportTraceServiceRequest, context: object) -> pb.ExportTraceServiceResponse:  # noqa: N802
        for resource in request.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]
        self.came.set()
        return pb.ExportTraceServiceResponse()


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    served = Receiver()
    rpc.add_TraceServiceServicer_to_server(served, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield served, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def test_spans_arrive_with_our_ids_times_links_and_parents(receiver: tuple[Receiver, str]) -> None:
    served, endpoint = receiver
    sink = batching_sink(OTLPSpanExporter(endpoint=endpoint, insecure=True), {}, {"service.name": "poolproof-test"})
    sent = [each.span for each in attempt_spans(verification(), 4, 40 * S, {})]
    sent.append(exchange_span(77, sent[0].context.span_id, "probe-failed", "192.0.2.1", failure="bind-failed"))
    sink.emit(sent)
    sink.close()
    assert served.came.wait(10)
    came = {span.span_id: (service, span) for service, span in served.spans}  # type: ignore[attr-defined]
    assert came.keys() == {span.context.span_id for span in sent}
    for span in sent:
        service, other = came[span.context.span_id]
        assert service == "poolproof-test"
        assert (other.trace_id, other.parent_span_id) == (span.context.trace_id, span.parent or b"")  # type: ignore[attr-defined]
        assert (other.name, other.start_time_unix_nano, other.end_time_unix_nano) == (  # type: ignore[attr-defined]
            span.name,
            span.start_ns,
            span.end_ns,
        )
        assert {each.key: each.value.string_value for each in other.attributes} == dict(span.attributes)  # type: ignore[attr-defined]
        assert [link.trace_id for link in other.links] == [link.context.trace_id for link in span.links]  # type: ignore[attr-defined]
        assert other.status.message == span.status_detail  # type: ignore[attr-defined]


def test_more_spans_than_the_default_queue_holds_all_arrive(receiver: tuple[Receiver, str]) -> None:
    served, endpoint = receiver
    sink = batching_sink(OTLPSpanExporter(endpoint=endpoint, insecure=True), {}, {"service.name": "x"})
    sink.emit(exchange_span(n, b"\7" * 8, "replied", "192.0.2.1") for n in range(1, 5_001))
    sink.close()
    assert len(served.spans) == 5_000


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
    ],
)
def test_the_standard_variables_decide(environ: dict[str, str], wanted: bool) -> None:
    assert otlp_wanted(environ, "TRACES") is wanted


def test_an_exporter_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="OTEL_TRACES_EXPORTER: 'zipkin': give otlp or none"):
        sink_from({"OTEL_TRACES_EXPORTER": "zipkin"}, {})


def test_who_does_not_ask_does_not_pay_for_the_exporter() -> None:
    assert isinstance(sink_from({}, {}), NoSink)
    script = "import sys, probe.compose, coordinator.attempt_telemetry; print('opentelemetry.exporter' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
