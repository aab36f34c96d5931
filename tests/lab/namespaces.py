"""Namespaces with our name on them, and the processes inside: made, found and deleted.

A namespace is called `poolproof-<pid>.<start>-<network>-<host>`, where pid and start (clock ticks since boot) are those
of the process that made it. Whoever opens a network deletes what dead processes left behind.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.lab.packages import tool

FOLDER: Final = Path("/run/netns")
STOP_TIMEOUT_S: Final = 3.0

_OURS = re.compile(r"poolproof-(\d+)\.(\d+)-\d+-")
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_NETWORKS = itertools.count()


class LabError(Exception):
    """Something in the lab did not work; the message has the program's own words."""


def new_prefix() -> str:
    """What the names of one more network of this process begin with."""
    return f"poolproof-{os.getpid()}.{_start_of(os.getpid())}-{next(_NETWORKS)}-"


def enter(descriptor: int) -> None:
    """Moves the calling thread into a network namespace (os.setns came with Python 3.12)."""
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def batch(lines: str, namespace: str = "") -> str:
    """Runs lines of `ip -batch`, in a namespace or in the caller's own, and gives what they print.

    Raises:
        LabError: `ip` refused a line.
    """
    command = [tool("ip"), *(["-n", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise LabError(f"`{' '.join(command)}` failed ({done.returncode}): {done.stderr.strip()}\n{lines}")
    return done.stdout


def end_group(process: subprocess.Popen[bytes], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Ends a process started by `Host.popen` and its children: SIGTERM, and after `timeout_s` SIGKILL."""
    if process.poll() is not None:
        return
    process.terminate()
    deadline = time.monotonic() + timeout_s
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, process.pid, ended) is None and time.monotonic() < deadline:
        time.sleep(0.002)
    # The leader is not reaped yet (WNOWAIT), so the id of its group cannot belong to anybody else.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def delete_stale() -> None:
    """Ends what processes that are dead now left in their namespaces; deletes those, and folders named after them."""
    stale = [path.name for path in FOLDER.glob("poolproof-*") if _is_stale(path.name)]
    if stale:
        delete(stale)
    for path in Path(tempfile.gettempdir()).glob("poolproof-*"):
        if _is_stale(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _is_stale(name: str) -> bool:
    match = _OURS.match(name)
    return match is not None and _start_of(int(match[1])) != match[2]


def delete(namespaces: Sequence[str]) -> None:
    """Ends whatever still runs in namespaces of ours and deletes them; one deleted meanwhile is fine."""
    inodes = set()
    for namespace in namespaces:
        try:
            inodes.add((FOLDER / namespace).stat().st_ino)
        except FileNotFoundError:
            continue
    inodes.discard(Path("/proc/self/ns/net").stat().st_ino)  # whatever else is wrong, not this machine's own
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while (left := processes_in(inodes)) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.005)
    for namespace in namespaces:
        if (FOLDER / namespace).exists():
            command = [tool("ip"), "netns", "delete", namespace]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            if done.returncode and (FOLDER / namespace).exists():
                raise LabError(f"`{' '.join(command)}` failed ({done.returncode}): {done.stderr.strip()}")


def processes_in(inodes: Iterable[int]) -> tuple[int, ...]:
    """Processes (never this one) whose network namespace is one of these."""
    wanted, found = frozenset(inodes), []
    for entry in Path("/proc").glob("[0-9]*/ns/net"):
        pid = int(entry.parts[2])
        try:
            if entry.stat().st_ino in wanted and pid != os.getpid():
                found.append(pid)
        except OSError:  # it ended while we looked, or is a zombie
            continue
    return tuple(found)


def _start_of(pid: int) -> str | None:
    """When a process began, in clock ticks since boot (proc(5), field 22 of stat); None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
