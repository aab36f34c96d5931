"""A probe's runner on a fake network, in virtual time, with a real journal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolproof.exchange import LocalFault
from poolproof.job import Job, Report
from probe.guard import Guard
from probe.journal import Journal
from probe.runner import Runner
from probe.settings import ProbeSettings
from tests.probe.fake_tripwire import FakeTripwire
from tests.probe.jobs import CONTROL, CONTROL_V6, decode, encode, settings
from tests.probe.virtual import FakeTransport, Host, VirtualClock, run_virtual, seeded

ANSWERING = {address: Host() for address in (*CONTROL, *CONTROL_V6)}


@dataclass
class World:
    """A probe on a fake network, in virtual time, with a real journal."""

    tree: ProbeSettings
    clock: VirtualClock
    network: FakeTransport
    tripwire: FakeTripwire
    journal: Journal
    runner: Runner

    def run(self, asked: Job) -> Report:
        return run_virtual(self.runner.run(asked))


def world_of(directory: Path, hosts: dict[str, Host], *, off_ns: int = 0, **guard: Any) -> World:
    tree = settings(directory, **guard)
    clock = VirtualClock(off_ns)
    network = FakeTransport(clock, hosts)
    journal = Journal(tree.journal, encode=encode, decode=decode)
    tripwire = FakeTripwire(clock)
    runner = Runner(
        tree,
        transport=network,
        tripwire=tripwire,
        journal=journal,
        guard=Guard(tree),
        clock=clock,
        entropy=seeded(7),
    )
    return World(tree, clock, network, tripwire, journal, runner)


def faults(report: Report) -> set[LocalFault | None]:
    return {each.fault for each in report.exchanges}
