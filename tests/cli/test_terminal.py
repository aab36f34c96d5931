"""`poolproof watch` in a terminal of its own: what is drawn, and how it ends."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from coordinator.cli.exit_codes import ExitCode
from tests.cli.running import scripted, serving
from tests.cli.snapshots import ID, view

_DEADLINE_S = 30.0
_ROOT = str(Path(__file__).parents[2])


class Terminal:
    """A command on a terminal 110 columns wide, in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self._screen, other = pty.openpty()
        self._seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "coordinator.cli", *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": _ROOT, "TERM": "xterm-256color", "COLUMNS": "110",
                 "LINES": "50", "LANG": "C.UTF-8", "PYTHONUTF8": "1"},
        )  # fmt: skip
        os.close(other)

    def until(self, words: str) -> str:
        """Everything that was drawn until these words; or to the end."""
        deadline = time.monotonic() + _DEADLINE_S
        while words not in (text := self._seen.decode(errors="replace")):
            ready, _, _ = select.select([self._screen], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nothing more is drawn; so far: {text}"
            try:
                more = os.read(self._screen, 65_536)
            except OSError:  # Linux says EIO when the other side is closed
                more = b""
            if not more:
                break
            self._seen += more
        return self._seen.decode(errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._screen)


@contextlib.contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    made = Terminal(*arguments)
    try:
        yield made
    finally:
        made.close()


def test_the_matrix_is_drawn_anew_until_the_verdict() -> None:
    first, last = view("measuring"), view("refuted")
    last.revision = first.revision + 1
    script = scripted([last], watches=[[first]])
    with serving(script) as address, terminal("watch", ID, "--coordinator", address) as drawn:
        text = drawn.until("no such words")
        assert drawn.process.wait(_DEADLINE_S) == ExitCode.REFUTED
    assert "\x1b[" in text
    assert "reports of round 2 are awaited" in text
    assert text.rindex("answered-where-silence-was-asked") > text.rindex("report-missing")
    assert "poolproof explain" in text


def test_ctrl_c_ends_it_and_gives_the_cursor_back() -> None:
    script = scripted([view("measuring")])
    with serving(script) as address, terminal("watch", ID, "--coordinator", address) as drawn:
        drawn.until("evidence")
        drawn.process.send_signal(signal.SIGINT)
        text = drawn.until("no such words")
        assert drawn.process.wait(_DEADLINE_S) == ExitCode.INTERRUPTED
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "Traceback" not in text


def test_a_reader_that_goes_away_is_no_verdict() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "coordinator.cli", "--help"],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=_DEADLINE_S,
            check=False,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": _ROOT},
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (ExitCode.UNREAD, b"")
