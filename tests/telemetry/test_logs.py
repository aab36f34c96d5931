"""Log lines: one event, one line, with the trace that it belongs to."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from poolproof.logs import LogFormat, configure
from poolproof.tracing import current
from tests.telemetry.samples import ROOT


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # `force` closes the handlers that it finds, and these belong to pytest.
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level


def lines(form: LogFormat, level: str = "INFO") -> io.StringIO:
    stream = io.StringIO()
    configure(form, level, stream)
    return stream


def test_a_json_line_has_what_happened_the_fields_and_the_trace() -> None:
    stream = lines(LogFormat.JSON)
    with current(ROOT.traceparent):
        logging.getLogger("probe.x").info("job done", extra={"job": "j1", "n": 3})
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "probe.x",
        "message": "job done",
        "job": "j1",
        "n": 3,
        "trace_id": ROOT.trace_id.hex(),
        "span_id": ROOT.span_id.hex(),
    }


def test_outside_of_a_trace_there_are_no_ids_and_after_it_neither() -> None:
    stream = lines(LogFormat.JSON)
    for traceparent in ("", "nonsense", ROOT.traceparent):
        with current(traceparent):
            pass
    logging.getLogger("probe.x").info("idle")
    assert "trace_id" not in json.loads(stream.getvalue())


def test_text_from_outside_stays_on_its_line() -> None:
    stream = lines(LogFormat.TEXT)
    logging.getLogger("probe.x").warning("report refused", extra={"reason": "a\nFAKE line", "job": "j1"})
    (line,) = stream.getvalue().splitlines()
    assert r'reason="a\nFAKE line"' in line
    assert "job=j1" in line


def test_an_exception_is_part_of_the_one_json_line() -> None:
    stream = lines(LogFormat.JSON)
    try:
        json.loads("boom")
    except ValueError:
        logging.getLogger("probe.x").exception("job failed")
    (line,) = stream.getvalue().splitlines()
    assert "JSONDecodeError: Expecting value" in json.loads(line)["exception"]


def test_a_level_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'LOUD': give one of"):
        lines(LogFormat.TEXT, "LOUD")
