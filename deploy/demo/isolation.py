"""A network of the demo's own, so that port 123 is free, nothing outside is touched, and all is gone at the end.

Root gets a network namespace by `unshare --net`; others by a user namespace beside it, where the kernel allows that.
Where neither works the demo runs on the machine's own loopback, with IPv4 and a high port.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

INSIDE = "POOLPROOF_DEMO_INSIDE"
"""Set in the environment of the demo that runs inside: `own` network or the `host`'s."""


def enter(arguments: Sequence[str], *, own: bool) -> None:
    """Start the demo again inside a network of its own, or on the machine's loopback; does not return."""
    way = _way() if own else []
    command = [*way, sys.executable, "-m", "deploy.demo", *arguments]
    environment = os.environ | {INSIDE: "own" if way else "host"}
    os.execvpe(command[0], command, environment)


def is_own_network() -> bool:
    """Whether this process has a network of its own."""
    return os.environ.get(INSIDE) == "own"


def _way() -> list[str]:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return []
    # --kill-child: whatever the demo started ends with it, also when it is killed.
    for way in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        full = [*way, "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        tried = subprocess.run([*full, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
        if tried.returncode == 0:
            return full
    return []


def prepare(servers: Sequence[str], ipv6: Sequence[str], prefixes: Sequence[str]) -> None:
    """Bring the own network up, with all addresses that the demo uses.

    They are on an interface that goes nowhere: ntpsec takes every address of `lo`, whatever it is told. Of 127.0.0.0/8
    the addresses of probes and control servers need not be anywhere.
    """
    lines = ["link set lo up", "link add owners type veth peer name nobody", "link set owners up", "link set nobody up"]
    lines += [f"addr add {address}/32 dev owners" for address in servers]
    lines += [f"addr add {address}/128 dev owners nodad" for address in ipv6]
    # AnyIP: every address of a prefix is this host's.
    lines += [f"route add local {prefix} dev lo" for prefix in prefixes]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True, capture_output=True)
