"""The processes of the demo: started with a log each, stopped by pid whatever happens."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class StageError(RuntimeError):
    """A process of the demo did not do what it should; the message has the end of its log."""


class Process:
    """One process on stage."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._log = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; its output goes to its log."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self._environment,
                # A terminal's Ctrl-C is for the demo alone, which then stops the others in order.
                start_new_session=True,
            )

    async def stop(self, grace_s: float = 5.0) -> None:
        """End it: SIGTERM, then SIGKILL."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        self._signal(process, signal.SIGCONT)
        self._signal(process, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            self._signal(process, signal.SIGKILL)
            await process.wait()

    def freeze(self) -> None:
        """Stop it as `kill -STOP` does: it is there and says nothing."""
        if self._process is not None:
            self._signal(self._process, signal.SIGSTOP)

    def hang_up(self) -> None:
        """Tell it to read its configuration again."""
        if self._process is not None:
            self._signal(self._process, signal.SIGHUP)

    def check(self) -> None:
        """See that it still runs.

        Raises:
            StageError: it ended.
        """
        if self._process is not None and self._process.returncode is not None:
            raise StageError(f"{self.name} ended with {self._process.returncode}:\n{self.log_end()}")

    def log_end(self, characters: int = 1500) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-characters:] if self._log.exists() else ""

    @staticmethod
    def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
        try:
            process.send_signal(number)
        except ProcessLookupError:
            return


class Stage:
    """A temporary folder and all processes; an async context manager that leaves nothing behind."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="poolproof-demo-"))
        self.folder.chmod(0o700)
        self._processes: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.gather(*(process.stop() for process in reversed(self._processes)))
        shutil.rmtree(self.folder, ignore_errors=True)

    def process(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Process:
        """A process that will be stopped at the end; not yet started."""
        process = Process(name, command, self.folder, environment or {})
        self._processes.append(process)
        return process

    def check(self) -> None:
        """See that everything that was started still runs."""
        for process in self._processes:
            process.check()
