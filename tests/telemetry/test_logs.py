"""Log lines: one event, one line, with the trace that it belongs to."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from poolproof.logs import MOST_PER_MINUTE, LogFormat, configure
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


def test_a_stranger_cannot_fill_the_disk_with_warnings_and_the_next_minute_says_what_was_left_out() -> None:
    stream = lines(LogFormat.JSON)
    logger, handler = logging.getLogger("probe.x"), logging.getLogger().handlers[0]

    def say(level: int, line: int, at_s: float) -> None:
        record = logger.makeRecord(logger.name, level, "x.py", line, "odd", (), None)
        record.created = at_s
        handler.handle(record)

    for _ in range(MOST_PER_MINUTE + 5):
        say(logging.WARNING, 1, 1000.0)
        say(logging.INFO, 3, 1000.0)
    say(logging.WARNING, 2, 1000.0)
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["level"] for line in written].count("warning") == MOST_PER_MINUTE + 1
    assert [line["level"] for line in written].count("info") == MOST_PER_MINUTE + 5
    say(logging.WARNING, 1, 1060.0)
    say(logging.WARNING, 1, 1060.0)
    told = [json.loads(line) for line in stream.getvalue().splitlines()[len(written) :]]
    assert [line.get("left_out") for line in told] == [5, None]
