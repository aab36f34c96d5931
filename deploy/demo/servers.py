"""Servers for the owners of the demo: real chrony and ntpsec from Debian, or the project's own reference responder.

The clock of the machine is never touched: chronyd gets `-x`, ntpd loses CAP_SYS_TIME.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from coordinator.cli.snapshot import Snapshot
from deploy.demo.ask import until_synchronised
from deploy.demo.stage import Process, Stage, StageError
from poolproof.fleet import Role
from poolproof.v1.verification_pb2 import GetInstructionsResponse
from poolproof.variant import Variant
from tests.lab.packages import program

_READY_S = 20.0


@dataclass(frozen=True, slots=True)
class Told:
    """What an owner was told.

    Attributes:
        snapshot: the verification, challenged.
        instructions: for the owner's software.
        forgotten: an assigned address that this owner overlooks, or empty.
    """

    snapshot: Snapshot
    instructions: GetInstructionsResponse
    forgotten: str = ""

    def sources(self, role: Role) -> list[str]:
        """Assigned addresses or prefixes of a role."""
        told = (line.view.source for line in self.snapshot.lines if line.view.role is role)
        return [source for source in told if source != self.forgotten]


class Server(ABC):
    """One owner's NTP server.

    Attributes:
        label: what it is, for people.
        software: what `poolproof instructions --for` calls it.
    """

    label: str
    software: str

    def __init__(self, stage: Stage, name: str, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.folder = stage.folder / name
        self.folder.mkdir(mode=0o700)
        self.process: Process = stage.process(name, self.command())

    async def start(self) -> None:
        """Start it; returns when it answers as synchronised."""
        self.configure()
        await self.process.start()
        if not await until_synchronised(self.address, self.port, _READY_S):
            self.process.check()
            raise StageError(
                f"{self.process.name} gave no synchronised answer in {_READY_S:.0f} s:\n{self.process.log_end()}"
            )

    async def stop(self) -> None:
        """Stop it, as a crash would."""
        await self.process.stop()

    @abstractmethod
    def command(self) -> list[str]:
        """Command line."""

    @abstractmethod
    def configure(self) -> None:
        """Write its configuration."""

    @abstractmethod
    async def enact(self, told: Told) -> None:
        """Carry out what the owner was told, but for the stronger alternative."""


class Chrony(Server):
    """chronyd, without privileges where there are none."""

    label, software = "chrony", "chrony"

    def command(self) -> list[str]:
        """In the foreground, never touching the clock."""
        user = ["-u", "root"] if os.geteuid() == 0 else ["-U"]
        # `bindaddress` binds one family; the other would be opened on all addresses.
        family = "-6" if ":" in self.address else "-4"
        return [program("chrony", "chronyd"), "-d", "-x", family, *user, "-f", str(self.folder / "chrony.conf")]

    def configure(self) -> None:
        """A public server at stratum 2 by its own reference."""
        lines = (
            "local stratum 2",
            "allow all",
            f"port {self.port}",
            f"bindaddress {self.address}",
            f"pidfile {self.folder / 'pid'}",
            f"driftfile {self.folder / 'drift'}",
            f"bindcmdaddress {self.folder / 'socket'}",
            "cmdport 0",
        )
        (self.folder / "chrony.conf").write_text("\n".join(lines) + "\n")

    async def enact(self, told: Told) -> None:
        """Run the `chronyc` commands as shown."""
        for step in told.instructions.steps:
            if _is_stronger_alternative(step.text):
                continue
            for command in step.commands:
                tool, _, rest = command.partition(" ")
                if tool != "chronyc":
                    raise StageError(f"the instructions for chrony say {command!r}: the demo can run chronyc only")
                await _run(program("chrony", "chronyc"), "-h", str(self.folder / "socket"), rest)


class Ntpsec(Server):
    """ntpd of ntpsec with Debian's default restrictions; port 123 only."""

    label, software = "ntpsec", "ntpsec"

    def command(self) -> list[str]:
        """In the foreground, without the right to set the clock."""
        drop = ["setpriv", "--bounding-set", "-sys_time,-sys_nice", "--"] if shutil.which("setpriv") else []
        return [*drop, program("ntpsec", "ntpd"), "-n", "-x", "-c", str(self.folder / "ntp.conf")]

    def configure(self) -> None:
        """Write the first configuration; later starts keep what the owner added."""
        path = self.folder / "ntp.conf"
        if path.exists():
            return
        lines = (
            "restrict default kod nomodify noquery limited",
            "tos orphan 5 orphanwait 0",
            "refclock local",
            "disable ntp",
            "interface ignore wildcard",
            "interface ignore all",
            f"interface listen {self.address}",
            f"driftfile {self.folder / 'drift'}",
            f"statsdir {self.folder}",
        )
        path.write_text("\n".join(lines) + "\n")

    async def enact(self, told: Told) -> None:
        """Put the shown lines into the configuration and restart."""
        with (self.folder / "ntp.conf").open("a") as configuration:
            for step in told.instructions.steps:
                if step.file and not _is_stronger_alternative(step.text):
                    configuration.writelines(f"{line}\n" for line in step.lines)
        await self.stop()
        await self.start()


class Reference(Server):
    """The project's own responder, where no daemon can be had."""

    label, software = "reference responder", "generic"

    def command(self) -> list[str]:
        """As a module of the probe."""
        listen = f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
        return [sys.executable, "-m", "probe.responder", "--listen", listen, "--behaviour", str(self._behaviour)]

    @property
    def _behaviour(self) -> Path:
        return self.folder / "behaviour.toml"

    def configure(self) -> None:
        """Answer everybody at first; later starts keep what the owner changed."""
        if not self._behaviour.exists():
            self._behaviour.write_text("")

    async def enact(self, told: Told) -> None:
        """It speaks no configuration language that could be quoted: the assigned addresses become its behaviour."""
        if told.snapshot.variant is Variant.ALLOW_ONLY:
            # The demo's own question whether it is up comes from 127.0.0.1.
            line = f"allow_only = {[*told.sources(Role.ALLOWED_MONITOR), '127.0.0.1/32']}"
        else:
            line = f"deny = {told.sources(Role.MUST_BE_BLOCKED)}"
        self._behaviour.write_text(line.replace("'", '"') + "\n")
        self.process.hang_up()


def _is_stronger_alternative(text: str) -> bool:
    return text.startswith("Stronger")


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise StageError(f"`{' '.join(command)}` failed ({process.returncode}): {output.decode(errors='replace')}")
