"""The product in the lab: a coordinator, twelve probes and their control servers, each in a host of its own.

The tests talk to the coordinator as `poolproof` does, over gRPC; a forwarder carries the bytes into its namespace.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from coordinator.cli.snapshot import Snapshot, snapshot_from_wire
from poolproof.fleet import Rir
from poolproof.v1 import judgement_pb2 as judgement
from poolproof.v1 import verification_pb2 as pb
from poolproof.v1.verification_pb2_grpc import VerificationServiceStub
from poolproof.variant import Variant
from poolproof.verification import State
from poolproof.wire import VARIANTS
from tests.lab.namespaces import LabError
from tests.lab.net import Host, Network

_POOLPROOF = [sys.executable, "-c", "from coordinator.cli import main; main()"]
_START_S = 60.0
_CALL_S = 20.0
_PATIENCE_S = 200.0
_POLL_S = 0.5
_PORT = 8443
_NETWORKS = "198.18.0.0/15,2001:db8::/32"
PROBES = 12


class Product:
    """A running coordinator with its probes; a context manager that ends all of them."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._folder = tempfile.TemporaryDirectory(prefix="poolproof-lab-")
        self._processes: list[tuple[Host, subprocess.Popen[bytes]]] = []
        self.core = net.host("core", ipv4="198.18.0.1", ipv6="2001:db8::1")
        self._control = net.host("control", ipv4=("198.18.0.2", "198.18.0.3"), ipv6=("2001:db8::2", "2001:db8::3"))
        self.probes: dict[str, Host] = {}
        self._pids: dict[str, int] = {}
        self._forwarder: Forwarder | None = None
        self._channel: grpc.Channel | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process; the network does so too, at the latest."""
        if self._channel is not None:
            self._channel.close()
        if self._forwarder is not None:
            self._forwarder.close()
        for host, process in self._processes:
            process.kill()
            process.wait()
            host.forget(process)
        self._processes.clear()
        self._folder.cleanup()

    def freeze(self, vantage: str) -> None:
        """Stop a probe's process as SIGSTOP does: it is there and says nothing."""
        os.kill(self._pids[vantage], 19)

    def thaw(self, vantage: str) -> None:
        """Let it go on."""
        os.kill(self._pids[vantage], 18)

    def request(self, target: str, variant: Variant) -> Snapshot:
        """`poolproof request`."""
        asked = pb.CreateVerificationRequest(
            target=target,
            method=judgement.METHOD_DIFFERENTIAL,
            variant=VARIANTS.to_wire(variant),
            applicant="lab",
        )
        return snapshot_from_wire(self._stub.CreateVerification(asked, timeout=_CALL_S).verifications[0])

    def show(self, verification: str) -> Snapshot:
        """`poolproof show`."""
        request = pb.GetVerificationRequest(id=verification)
        return snapshot_from_wire(self._stub.GetVerification(request, timeout=_CALL_S).verification)

    def instructions(self, verification: str, software: str) -> pb.GetInstructionsResponse:
        """`poolproof instructions --for`."""
        request = pb.GetInstructionsRequest(id=verification, software=software)
        return self._stub.GetInstructions(request, timeout=_CALL_S)

    def ready(self, verification: str) -> None:
        """`poolproof ready`."""
        self._stub.MarkReady(pb.MarkReadyRequest(id=verification), timeout=_CALL_S)

    def until(self, verification: str, done: Callable[[Snapshot], bool], *, every_s: float = _POLL_S) -> Snapshot:
        """Follow a verification until something is so, or it is closed.

        Raises:
            LabError: neither happened in time.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            seen = self.show(verification)
            if done(seen) or not seen.state.is_open:
                return seen
            if time.monotonic() > deadline:
                raise LabError(
                    f"{verification} is still {seen.state.value} after {_PATIENCE_S:.0f} s: {seen.judgement}"
                )
            time.sleep(every_s)  # paces the questions; the loop ends by the answer or the deadline

    def challenged(self, target: str, variant: Variant) -> Snapshot:
        """Request, and wait for the challenge."""
        asked = self.request(target, variant)
        seen = self.until(asked.id, lambda now: now.state not in (State.REQUESTED, State.BASELINE))
        if seen.state is not State.CHALLENGED:
            raise LabError(f"{target}: no challenge, but {seen.judgement}")
        return seen

    def concluded(self, verification: str) -> Snapshot:
        """Wait for the verdict."""
        return self.until(verification, lambda seen: not seen.state.is_open)

    def _start(self) -> None:
        folder = Path(self._folder.name)
        listen = [f"--listen={a}:123" if ":" not in a else f"--listen=[{a}]:123" for a in self._control.addresses]
        self._spawn(self._control, "control", [sys.executable, "-m", "probe.responder", *listen], {})
        vantages = [self._vantage(number) for number in range(1, PROBES + 1)]
        (folder / "fleet.toml").write_text("\n".join(vantages))
        settings = {
            "FLEET_FILE": str(folder / "fleet.toml"),
            "LISTEN": f"{self.core.ipv4}:{_PORT}",
            "ALLOW_PLAINTEXT": "true",
            "STATE_DIR": str(folder / "coordinator"),
            "ALLOW_NETWORKS": _NETWORKS,
        }
        self._spawn(self.core, "coordinator", [*_POOLPROOF, "coordinator"], _prefixed("COORDINATOR", settings))
        self._await("coordinator", lambda: re.search(r"listening on ", self._log("coordinator")) is not None)
        for name, host in self.probes.items():
            self._spawn(host, name, [*_POOLPROOF, "probe"], _prefixed("PROBE", self._probe(name, host)))
        self._forwarder = Forwarder(self.core, self.core.ipv4, _PORT)
        self._channel = grpc.insecure_channel(self._forwarder.address)
        self._stub = VerificationServiceStub(self._channel)
        self._await("probes", lambda: self._connected() == PROBES)

    def _vantage(self, number: int) -> str:
        name = f"vp{number:02}"
        rir = list(Rir)[number % len(Rir)]
        prefix = _prefix(number)
        host = self._net.host(name, ipv4=f"198.18.1.{number}", ipv6=f"2001:db8:2::{number:x}", prefix=prefix)
        self.probes[name] = host
        lines = (
            f'id = "{name}"',
            f'ipv4 = "{host.ipv4}"',
            f'ipv6 = "{host.ipv6}"',
            f'ipv6_prefix = "{prefix}"',
            f"asn = {64500 + number}",
            f'rir = "{rir.value}"',
        )
        return "\n".join(("[[vantage]]", *lines))

    def _probe(self, name: str, host: Host) -> dict[str, str]:
        return {
            "VANTAGE": name,
            "COORDINATOR": f"{self.core.ipv4}:{_PORT}",
            "IPV4": host.ipv4,
            "IPV6": host.ipv6,
            "IPV6_PREFIX": _prefix(int(name.removeprefix("vp"))),
            "CONTROL_SERVERS": ",".join(f"[{a}]" if ":" in a else a for a in self._control.addresses),
            "GUARD_ALLOW_NETWORKS": _NETWORKS,
            "JOURNAL_DIRECTORY": str(Path(self._folder.name) / name),
        }

    def _spawn(self, host: Host, name: str, command: Sequence[str], environment: dict[str, str]) -> None:
        with (Path(self._folder.name) / f"{name}.log").open("wb") as log:
            whole = os.environ | environment
            process = host.popen(command, stdout=log, stderr=subprocess.STDOUT, environment=whole)
        self._processes.append((host, process))
        self._pids[name] = process.pid

    def _connected(self) -> int:
        vantages = self._stub.ListVantages(pb.ListVantagesRequest(), timeout=_CALL_S).vantages
        return sum(status.connected for status in vantages)

    def _log(self, name: str) -> str:
        path = Path(self._folder.name) / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _await(self, what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            with suppress(grpc.RpcError):
                if done():
                    return
            for host, process in self._processes:
                if process.poll() is not None:
                    logs = "\n".join(self._log(name)[-1500:] for name, pid in self._pids.items() if pid == process.pid)
                    raise LabError(f"a process on {host.name} ended with {process.returncode}:\n{logs}")
            if time.monotonic() > deadline:
                raise LabError(f"{what}: not there in {_START_S:.0f} s:\n{self._log('coordinator')[-2000:]}")
            time.sleep(0.05)  # paces the questions; the loop ends by the answer or the deadline


class Forwarder:
    """Carries TCP from loopback of the tests into a host of the lab."""

    def __init__(self, host: Host, address: str, port: int) -> None:
        self._host, self._to = host, (address, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close every connection."""
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = self._host.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                far.connect(self._to)
            except OSError:
                near.close()
                far.close()
                continue
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _prefix(number: int) -> str:
    return f"2001:db8:1:{number:x}::/64"


def _prefixed(role: str, settings: dict[str, str]) -> dict[str, str]:
    return {f"POOLPROOF_{role}_{name}": value for name, value in settings.items()}
