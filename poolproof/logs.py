"""Log lines for machines (JSON, the default) or people, each with the ids of the trace that it belongs to.

The standard library's logging throughout: `_log.info("what happened", extra={"job": ..., "vantage": ...})`. Whatever is
in `extra` becomes a field. One event, one line, on stderr.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, TextIO

from poolproof.tracing import current_ids

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


MOST_PER_MINUTE = 1_200
_MINUTE_S = 60.0


class LogFormat(Enum):
    """How a line looks."""

    JSON = "json"
    TEXT = "text"


def configure(form: LogFormat, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sets up the root logger, replacing what was there.

    Args:
        form: how lines look.
        level: the least severity that is written, by its standard name.
        stream: stderr unless given.

    Raises:
        ValueError: no such level.
    """
    known = logging.getLevelNamesMapping()
    if level.upper() not in known:
        raise ValueError(f"log level {level!r}: give one of {', '.join(known)}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(Floodgate())
    handler.setFormatter(_Json() if form is LogFormat.JSON else _Text())
    logging.basicConfig(level=known[level.upper()], handlers=[handler], force=True)


class Floodgate(logging.Filter):
    """Warnings that a stranger can cause must not fill a disk: at most so many of one kind in a minute.

    A kind is one place in the code. The first line of a later minute says in `left_out` how many were. Lines below
    WARNING pass: they tell of our own work.
    """

    def __init__(self, most: int = MOST_PER_MINUTE) -> None:
        """Args: most: lines of one kind in a minute."""
        super().__init__()
        self._most = most
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno < logging.WARNING:
            return True
        kind = (record.pathname, record.lineno)
        began, count = self._seen.get(kind, (record.created, 0))
        if not 0 <= record.created - began < _MINUTE_S:
            if count > self._most:
                record.left_out = count - self._most
            began, count = record.created, 0
        self._seen[kind] = began, count + 1
        return count < self._most


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    ids = current_ids()
    if ids is not None:
        fields["trace_id"], fields["span_id"] = ids
    return fields


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII, so that no terminal or collector trips over what a remote server put into a text.
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(value: object) -> str:
    text = str(value)
    return text if text.isascii() and text.isprintable() and " " not in text and text else json.dumps(text)
