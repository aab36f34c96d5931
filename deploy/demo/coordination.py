"""The demo's coordinator, its twelve probes and their control servers, and a client to talk to them."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from coordinator.cli.snapshot import Snapshot, snapshot_from_wire
from coordinator.fleet import load_fleet
from deploy.demo.stage import Process, Stage, StageError
from poolproof.fleet import Vantage
from poolproof.ids import VantageId
from poolproof.v1 import judgement_pb2 as judgement
from poolproof.v1 import verification_pb2 as pb
from poolproof.v1.verification_pb2_grpc import VerificationServiceStub
from poolproof.variant import Variant
from poolproof.wire import VARIANTS

if TYPE_CHECKING:
    # Of the stub file alone: the generated module has one class for both.
    from poolproof.v1.verification_pb2_grpc import VerificationServiceAsyncStub

FLEET_FILE = Path(__file__).with_name("fleet.toml")
CONTROLS = ("127.0.2.1", "127.0.2.2", "fd00:2::1")
_CALL_S = 10.0
_START_S = 40.0


class Coordination:
    """The running coordinator and its probes."""

    def __init__(self, stage: Stage, *, port: int, with_ipv6: bool) -> None:
        self._stage, self._port, self._with_ipv6 = stage, port, with_ipv6
        self.fleet: tuple[Vantage, ...] = load_fleet(FLEET_FILE)
        self.probes: dict[VantageId, Process] = {}
        self.address = ""
        self._stub: VerificationServiceAsyncStub | None = None

    @property
    def stub(self) -> VerificationServiceAsyncStub:
        """The verification service."""
        if self._stub is None:
            raise StageError("the coordinator is not started")
        return self._stub

    async def start(self) -> None:
        """Start everything; returns when all probes are connected."""
        controls = [address for address in CONTROLS if self._with_ipv6 or ":" not in address]
        for number, address in enumerate(controls, 1):
            host = f"[{address}]" if ":" in address else address
            command = [sys.executable, "-m", "probe.responder", "--listen", f"{host}:{self._port}"]
            await self._stage.process(f"control-{number}", command).start()
        await self._start_coordinator()
        for vantage in self.fleet:
            self.probes[vantage.id] = self._stage.process(f"probe-{vantage.id}", _PROBE, self._probe(vantage, controls))
            await self.probes[vantage.id].start()
        await self._until_connected()

    async def _start_coordinator(self) -> None:
        environment = {
            "POOLPROOF_COORDINATOR_FLEET_FILE": str(FLEET_FILE),
            "POOLPROOF_COORDINATOR_LISTEN": "127.0.0.1:0",
            "POOLPROOF_COORDINATOR_STATE_DIR": str(self._stage.folder / "coordinator"),
            "POOLPROOF_COORDINATOR_ALLOW_NETWORKS": "127.0.0.0/8,fd00::/16",
            "POOLPROOF_COORDINATOR_ALLOW_PORTS": str(self._port),
        }
        coordinator = self._stage.process("coordinator", _COORDINATOR, environment)
        await coordinator.start()
        deadline = time.monotonic() + _START_S
        while not (found := re.search(r"listening on ([^\s;]+)", coordinator.log_end(100_000))):
            coordinator.check()
            if time.monotonic() > deadline:
                raise StageError(f"the coordinator did not listen in {_START_S:.0f} s:\n{coordinator.log_end()}")
            await asyncio.sleep(0.1)
        self.address = found[1]
        channel = grpc.aio.insecure_channel(self.address)
        self._stub = VerificationServiceStub(channel)

    def _probe(self, vantage: Vantage, controls: Sequence[str]) -> dict[str, str]:
        servers = (f"[{address}]:{self._port}" if ":" in address else f"{address}:{self._port}" for address in controls)
        settings = {
            "VANTAGE": vantage.id,
            "COORDINATOR": self.address,
            "IPV4": vantage.ipv4,
            "IPV6": vantage.ipv6 if self._with_ipv6 else None,
            "IPV6_PREFIX": vantage.ipv6_prefix if self._with_ipv6 else None,
            "CONTROL_SERVERS": ",".join(servers),
            "GUARD_ALLOW_NETWORKS": "127.0.0.0/8,fd00::/16",
            "GUARD_ALLOW_PORTS": str(self._port),
            "JOURNAL_DIRECTORY": str(self._stage.folder / f"probe-{vantage.id}"),
        }
        return {f"POOLPROOF_PROBE_{name}": value for name, value in settings.items() if value is not None}

    async def _until_connected(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            self._stage.check()
            seen = await self.stub.ListVantages(pb.ListVantagesRequest(), timeout=_CALL_S)
            connected = sum(status.connected for status in seen.vantages)
            if connected == len(self.fleet):
                return
            if time.monotonic() > deadline:
                raise StageError(f"{connected} of {len(self.fleet)} probes connected in {_START_S:.0f} s")
            await asyncio.sleep(0.3)

    async def request(self, target: str, variant: Variant, applicant: str) -> Snapshot:
        """`poolproof request TARGET --variant VARIANT --applicant APPLICANT`."""
        asked = pb.CreateVerificationRequest(
            target=target,
            method=judgement.METHOD_DIFFERENTIAL,
            variant=VARIANTS.to_wire(variant),
            applicant=applicant,
        )
        made = await self.stub.CreateVerification(asked, timeout=_CALL_S)
        return snapshot_from_wire(made.verifications[0])

    async def show(self, verification: str) -> Snapshot:
        """`poolproof show ID`."""
        seen = await self.stub.GetVerification(pb.GetVerificationRequest(id=verification), timeout=_CALL_S)
        return snapshot_from_wire(seen.verification)

    async def instructions(self, verification: str, software: str) -> pb.GetInstructionsResponse:
        """`poolproof instructions ID --for SOFTWARE`."""
        request = pb.GetInstructionsRequest(id=verification, software=software)
        return await self.stub.GetInstructions(request, timeout=_CALL_S)

    async def ready(self, verification: str) -> None:
        """`poolproof ready ID`."""
        await self.stub.MarkReady(pb.MarkReadyRequest(id=verification), timeout=_CALL_S)

    async def explain(self, verification: str) -> pb.ExplainVerificationResponse:
        """`poolproof explain ID`."""
        return await self.stub.ExplainVerification(pb.ExplainVerificationRequest(id=verification), timeout=_CALL_S)

    async def trace(self, verification: str) -> pb.GetTraceResponse:
        """`poolproof trace ID`, with the witnesses' spans, as an operator sees it."""
        request = pb.GetTraceRequest(id=verification, operator_view=True)
        return await self.stub.GetTrace(request, timeout=_CALL_S)


_POOLPROOF = [sys.executable, "-c", "from coordinator.cli import main; main()"]
_COORDINATOR = [*_POOLPROOF, "coordinator"]
_PROBE = [*_POOLPROOF, "probe"]
