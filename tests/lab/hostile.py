"""A coordinator gone bad in the lab: a real probe process to order about, and every packet that leaves its host.

The coordinator's end of the stream is `tests.probe.coordinator_peer`, on a Unix socket: so all that the probe's host
sends belongs to jobs, and nothing has to be left out of the account.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from probe.sockets import ANCILLARY_BYTES, SO_TIMESTAMPNS, stamp_of
from tests.lab.net import Host

_POOLPROOF = [sys.executable, "-c", "from coordinator.cli import main; main()", "probe"]
_ETHERNET_ALL = 0x0003
_OUTGOING = 4
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 32 * 1024 * 1024
_HEADER_IPV6 = 40
_NOTICE_S = 0.1
UDP = 17


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet that left a host.

    Attributes:
        at_ns: the kernel's time, Unix ns.
        protocol: IANA number.
        source, destination: addresses.
        port: where to, of UDP; else 0.
        payload: of UDP what the datagram carries, else what follows the IP header.
    """

    at_ns: int
    protocol: int
    source: str
    destination: str
    port: int
    payload: bytes


class Wire:
    """Keeps every packet that a host sends, on all its interfaces, loopback too. A context manager."""

    def __init__(self, host: Host) -> None:
        self._socket = host.call(
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETHERNET_ALL))
        )
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.settimeout(_NOTICE_S)
        self._packets: list[Packet] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"wire-{host.name}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def packets(self) -> tuple[Packet, ...]:
        """All until now, in the order of sending.

        Raises:
            AssertionError: the kernel dropped some, so that nobody knows what was sent.
        """
        _, dropped = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        assert dropped == 0, f"{dropped} packets were not captured"
        return tuple(self._packets)

    def _run(self) -> None:
        while True:
            try:
                raw, ancillary, _, address = self._socket.recvmsg(65536, ANCILLARY_BYTES)
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            if address[2] == _OUTGOING:
                self._packets.append(_parsed(raw, stamp_of(ancillary)))


def _parsed(raw: bytes, at_ns: int) -> Packet:
    if raw[0] >> 4 == 4:
        start, protocol = 4 * (raw[0] & 15), raw[9]
        source, destination = (socket.inet_ntop(socket.AF_INET, raw[at : at + 4]) for at in (12, 16))
    else:
        start, protocol = _HEADER_IPV6, raw[6]
        source, destination = (socket.inet_ntop(socket.AF_INET6, raw[at : at + 16]) for at in (8, 24))
    rest = raw[start:]
    if protocol != UDP:
        return Packet(at_ns, protocol, source, destination, 0, rest)
    return Packet(at_ns, protocol, source, destination, int.from_bytes(rest[2:4]), rest[8:])


class ProbeProcess:
    """`poolproof probe` in a host of the lab, with the guard's own defaults unless `settings` say otherwise."""

    def __init__(self, host: Host, folder: Path, coordinator: Path, settings: Mapping[str, str]) -> None:
        self._host = host
        self._folder = folder
        self._settings = {
            "COORDINATOR": f"unix:{coordinator}",
            "JOURNAL_DIRECTORY": str(folder / "state"),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """A new process on the same journal."""
        environment = os.environ | {f"POOLPROOF_PROBE_{name}": value for name, value in self._settings.items()}
        with (self._folder / "probe.log").open("ab") as log:
            self._process = self._host.popen(_POOLPROOF, stdout=log, stderr=log, environment=environment)

    def kill(self) -> None:
        """SIGKILL."""
        process = self._running()
        process.kill()
        process.wait()
        self._host.forget(process)

    def freeze(self) -> None:
        """SIGSTOP: it is there and does nothing."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._running().send_signal(signal.SIGCONT)

    def ended(self, timeout_s: float) -> int:
        """Wait for its end; gives the exit code."""
        process = self._running()
        code = process.wait(timeout_s)
        self._host.forget(process)
        return code

    def alive(self) -> bool:
        """Whether it runs."""
        return self._running().poll() is None

    def rss_bytes(self) -> int:
        """Memory that it occupies now."""
        status = Path(f"/proc/{self._running().pid}/status").read_text()
        (line,) = (each for each in status.splitlines() if each.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def log(self) -> Sequence[dict[str, Any]]:
        """Its log lines, over all its lives."""
        lines = (self._folder / "probe.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def log_bytes(self) -> int:
        """How long the log is."""
        return (self._folder / "probe.log").stat().st_size

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process


def most_within(times: Sequence[int], window_ns: int) -> int:
    """The most packets in any window of that length, anywhere: never more than a budget, whatever the seconds."""
    ordered = sorted(times)
    most = first = 0
    for last, at_ns in enumerate(ordered):
        while ordered[first] <= at_ns - window_ns:
            first += 1
        most = max(most, last - first + 1)
    return most
