"""A disk of a few megabytes: a tmpfs in a mount namespace of its own, which nobody else sees and which ends with it."""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.packages import tool

_HOLD = 'mount -t tmpfs -o size="$2" none "$1" && echo ready && exec cat'


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """The disk.

    Attributes:
        within: a command that becomes the one after it, where the disk is mounted.
        seen: the mounted folder, as this process can see it.
    """

    within: tuple[str, ...]
    seen: Path

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.seen / "ballast").open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4_096))
        free = shutil.disk_usage(self.seen).free
        assert free == 0, f"{free} bytes are left ({errno.errorcode[errno.ENOSPC]})"

    def make_room(self) -> None:
        """Take back what `fill` took."""
        (self.seen / "ballast").unlink()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """A disk of that size at that folder, which must exist; needs root."""
    command = [tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", _HOLD, "sh", str(folder), size]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == b"ready\n"
            yield SmallDisk(
                (tool("nsenter"), "--target", str(holder.pid), "--mount", "--"),
                Path(f"/proc/{holder.pid}/root{folder}"),
            )
        finally:
            holder.stdin.close()
            holder.wait()
