"""Real ntpsec, chrony and openntpd in a host of the lab, answering as synchronised servers within a second.

What a test gives are the owner's lines; the lab puts before them what makes the daemon a public server with a time of
its own, and a way for the lab to ask it over loopback whatever the owner forbids. The machine's clock is never touched:
every daemon runs without CAP_SYS_TIME, and is told so where it can be.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.lab.ask import ask
from tests.lab.namespaces import LabError, end_group
from tests.lab.net import Host
from tests.lab.packages import program, tool

READY_S = 15.0
"""A daemon that has not answered by then is broken; a healthy one takes 0.1 s (chrony, openntpd) to 1 s (ntpsec)."""


class Daemon(ABC):
    """An NTP daemon in a host; a context manager that stops it.

    A daemon to be added is a subclass that says how it is configured and started (README.md).

    Attributes:
        host: where it runs.
        lines: the owner's configuration.
        reference: whether it gets a time of its own, so that it answers as synchronised.
    """

    package: ClassVar[str]
    can_synchronise: ClassVar[bool] = True

    def __init__(self, host: Host, lines: Sequence[str] = (), *, reference: bool = True) -> None:
        self.host = host
        self.reference = reference
        self.folder = Path(tempfile.mkdtemp(prefix=f"{host.namespace}-{self.package}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(lines)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def configuration(self) -> Path:
        """The daemon's configuration file; a test may edit it and `restart`."""
        return self.folder / "conf"

    @property
    def log(self) -> str:
        """Everything that it has written so far, over all its starts."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        """Id of its main process.

        Raises:
            LabError: it is not running.
        """
        if self._process is None:
            raise LabError(f"{self.package} on {self.host.name} is stopped")
        return self._process.pid

    def start(self) -> None:
        """Starts it and returns when it answers, as synchronised if it can.

        Raises:
            LabError: it ended, or did not answer in time; has its log.
        """
        if self._process is not None:
            raise LabError(f"{self.package} on {self.host.name} is already running")
        with (self.folder / "log").open("ab") as log:
            command = [
                *(tool("setpriv"), "--bounding-set", "-sys_time,-sys_nice", "--inh-caps", "-all", "--"),
                *self._command(),
            ]
            self._process = self.host.popen(command, stdout=log, stderr=subprocess.STDOUT, folder=self.folder)
        self._await_answer(self._process)

    def stop(self) -> None:
        """Stops it, as `systemctl stop` would; nothing happens if it is stopped."""
        if self._process is not None:
            end_group(self._process)
            self.host.forget(self._process)
            self._process = None

    def restart(self, lines: Sequence[str] | None = None) -> None:
        """Stops and starts it, with other lines of the owner if some are given."""
        self.stop()
        if lines is not None:
            self.configure(lines)
        self.start()

    def configure(self, lines: Sequence[str]) -> None:
        """Writes the configuration file anew; the daemon reads it at its next start."""
        self.lines: tuple[str, ...] = tuple(lines)
        text = "\n".join((*self._before(), *self.lines, *self._after(), ""))
        self.configuration.write_text(text)

    def close(self) -> None:
        """Stops it and deletes its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def _before(self) -> Sequence[str]: ...

    def _after(self) -> Sequence[str]:
        return ()

    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        want_synchronised = self.can_synchronise and self.reference
        deadline = time.monotonic() + READY_S
        while True:
            heard = ask(self.host, "127.0.0.1", timeout_s=0.1)
            if heard.synchronised or (heard.answer is not None and not want_synchronised):
                return
            if process.poll() is not None:
                raise LabError(f"{self.package} on {self.host.name} ended with {process.returncode}:\n{self._story()}")
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self.package} on {self.host.name} gave no {'synchronised ' if want_synchronised else ''}answer "
                    f"in {READY_S:.0f} s; last: {heard}\n{self._story()}"
                )
            time.sleep(0.02)  # paces the questions; the loop ends by the answer or the deadline

    def _story(self) -> str:
        return f"--- configuration\n{self.configuration.read_text()}--- log\n{self.log}"


class Chrony(Daemon):
    """chronyd, open to everyone unless the lines say otherwise; stratum 2 by its own reference."""

    package = "chrony"

    def chronyc(self, *words: str) -> str:
        """Sends a command over its own socket, like `chronyc("deny 198.18.1.7")`, and gives what it prints.

        Raises:
            LabError: chronyd refused it.
        """
        return self.host.run([program("chrony", "chronyc"), "-h", str(self.folder / "socket"), " ".join(words)]).stdout

    def _before(self) -> Sequence[str]:
        return (
            *(("local stratum 2",) if self.reference else ()),
            "allow all",
            f"pidfile {self.folder / 'pid'}",
            f"driftfile {self.folder / 'drift'}",
            f"bindcmdaddress {self.folder / 'socket'}",  # a Unix socket; its folder must be 0700
            "cmdport 0",
        )

    def _after(self) -> Sequence[str]:
        return ("allow 127.0.0.1", "allow ::1")

    def _command(self) -> Sequence[str]:
        return (program("chrony", "chronyd"), "-d", "-x", "-u", "root", "-f", str(self.configuration))


class Ntpsec(Daemon):
    """ntpd of ntpsec with Debian's default restrictions (`limited` too: ask at most once a second and address).

    Its reference is orphan mode at stratum 5. A change of its file needs `restart`.
    """

    package = "ntpsec"

    def _before(self) -> Sequence[str]:
        own_time = ("tos orphan 5 orphanwait 0", "refclock local", "disable ntp") if self.reference else ()
        return (
            "restrict default kod nomodify noquery limited",
            *own_time,
            f"driftfile {self.folder / 'drift'}",
            f"statsdir {self.folder}",
        )

    def _after(self) -> Sequence[str]:
        return ("restrict 127.0.0.1", "restrict ::1")

    def _command(self) -> Sequence[str]:
        return (
            *(program("ntpsec", "ntpd"), "-n", "-x", "-c", str(self.configuration), "-p", str(self.folder / "pid")),
        )


class Openntpd(Daemon):
    """ntpd of OpenBSD. It has no ACL, and answers as unsynchronised: without the clock it never gets further.

    It wants its own user and folders under /var/lib: it gets both in a mount namespace, and the machine keeps neither.
    """

    package = "openntpd"
    can_synchronise = False

    _USER_ID = 64123

    def _before(self) -> Sequence[str]:
        return ("listen on *",)

    def _command(self) -> Sequence[str]:
        state = self.folder / "lib"
        for name in ("run", "db"):
            (state / "openntpd" / name).mkdir(parents=True, exist_ok=True)
        jail = self.folder / "jail"  # the unprivileged half is confined to it
        jail.mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        for name, entry in (("passwd", f":{self._USER_ID}::{jail}:/usr/sbin/nologin"), ("group", ":")):
            accounts = Path("/etc", name).read_text().splitlines()
            others = [line for line in accounts if not line.startswith("ntpd:")]
            (self.folder / name).write_text("\n".join((*others, f"ntpd:x:{self._USER_ID}{entry}", "")))
        script = (
            'mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group &&'
            ' mount --bind "$1/lib" /var/lib && exec "$2" -d -v -f "$1/conf" -p "$1/pid"'
        )
        return ("unshare", "--mount", "sh", "-c", script, "sh", str(self.folder), program("openntpd", "ntpd"))


def chrony(host: Host, lines: Sequence[str] = (), *, reference: bool = True) -> Chrony:
    """A chronyd for a `with` statement, which starts it."""
    return Chrony(host, lines, reference=reference)


def ntpsec(host: Host, lines: Sequence[str] = (), *, reference: bool = True) -> Ntpsec:
    """An ntpsec ntpd for a `with` statement, which starts it."""
    return Ntpsec(host, lines, reference=reference)


def openntpd(host: Host, lines: Sequence[str] = ()) -> Openntpd:
    """An openntpd for a `with` statement, which starts it."""
    return Openntpd(host, lines)
