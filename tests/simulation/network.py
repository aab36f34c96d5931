"""One world, drawn from a seed: what comes back for each packet of each job."""

from __future__ import annotations

import random

from poolproof.capture import Capture
from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault, Reply
from poolproof.fleet import Perspective, Role
from poolproof.ids import VantageId
from poolproof.job import ClockCheck, Job, Report
from poolproof.ntp import client_request
from tests.simulation.worlds import SECOND_NS, Owner, World

_SERVED = bytes((0o44, 2)) + bytes(22)
"""LI 0, version 4, mode 4, stratum 2; the origin timestamp follows at octet 24."""
_RATE = bytes((0o344, 0)) + bytes(10) + b"RATE" + bytes(8)
_CLOCK = ClockCheck(offset_ns=0, error_ns=1_000_000, samples=2)
_KIND = ExchangeKind.CLIENT_V4
_RTT_NS = 30_000_000
_BURST_NS = 4 * SECOND_NS


class Network:
    """What the target and the paths to it do, as one seeded draw of a world."""

    def __init__(self, world: World, entropy: random.Random) -> None:
        self._world = world
        self._entropy = entropy
        self._bursts: dict[VantageId, tuple[int, bool]] = {}
        self._dark: dict[VantageId, bool] = {}
        self._roles: dict[VantageId, Perspective] = {}
        self._down: tuple[int, int] = (0, 0)
        self._ready_at_ns: int | None = None
        self._control = self._answered_control()

    def owner_ready(self, now_ns: int, perspectives: tuple[Perspective, ...]) -> None:
        """The owner did, or did not do, what was asked, and says ready."""
        self._ready_at_ns = now_ns
        draw = self._entropy
        self._roles = {perspective.vantage: perspective for perspective in perspectives}
        if self._world.outages and draw.random() < self._world.outages:
            start = now_ns + draw.randrange(1, 40) * SECOND_NS
            self._down = (start, start + draw.randrange(1, 120) * SECOND_NS)

    def report(self, job: Job) -> Report:
        """Everything that the probe sees while it does a job."""
        healthy = not self._world.failing_control or self._entropy.random() >= self._world.failing_control
        control = self._control if healthy else self._silent_control()
        exchanges = tuple(self._exchange(job, job.start_at_ns + step.offset_ns) for step in job.steps)
        # Nobody floods in these worlds: the tripwire is armed and silent.
        capture = Capture(SECOND_NS, job.start_at_ns + job.steps[-1].offset_ns + job.timeout_ns)
        return Report(job.id, job.vantage, exchanges, (control,), (control,), _CLOCK, capture)

    def missed(self, job: Job) -> Report:
        """What a probe reports that got its lease too late."""
        exchange = Exchange(
            job.steps[0].kind,
            b"",
            job.source,
            job.target.address,
            job.target.port,
            job.start_at_ns,
            job.timeout_ns,
            fault=LocalFault.MISSED_START,
        )
        return Report(job.id, job.vantage, (exchange,) * len(job.steps), (), (), _CLOCK)

    def _exchange(self, job: Job, at_ns: int) -> Exchange:
        world, draw = self._world, self._entropy
        request = client_request(draw.getrandbits(64) or 1)
        replies: tuple[Reply, ...] = ()
        icmp: tuple[IcmpError, ...] = ()
        if not self._lost(job.vantage, at_ns):
            refuses = self._ready_at_ns is not None and world.rejects_after and draw.random() < world.rejects_after
            if refuses or self._blocked(job.vantage):
                if refuses or (world.owner is Owner.REJECTING and draw.random() < 0.6):
                    icmp = (IcmpError(3, 3, job.target.address, request, at_ns + _RTT_NS),)
            elif world.rate_limit and draw.random() < world.rate_limit:
                if draw.random() < 0.5:
                    replies = (Reply(_RATE + request[40:48] + bytes(16), at_ns + _RTT_NS),)
            else:
                late = world.late and draw.random() < world.late
                arrival = at_ns + (job.timeout_ns + SECOND_NS // 2 if late else _RTT_NS)
                reply = Reply(_SERVED + request[40:48] + bytes(16), arrival)
                twice = world.duplicates and draw.random() < world.duplicates
                replies = (reply, reply) if twice else (reply,)
        return Exchange(
            job.steps[0].kind,
            request,
            job.source,
            job.target.address,
            job.target.port,
            at_ns,
            job.timeout_ns,
            replies,
            icmp,
        )

    def _lost(self, vantage: VantageId, at_ns: int) -> bool:
        world, draw = self._world, self._entropy
        measuring = self._ready_at_ns is not None and at_ns >= self._ready_at_ns
        if measuring and self._down[0] <= at_ns < self._down[1]:
            return True
        if world.dark and measuring:
            if vantage not in self._dark:
                self._dark[vantage] = draw.random() < world.dark
            if self._dark[vantage]:
                return True
        loss = world.loss if world.loss_after is None or not measuring else world.loss_after
        if world.burst_share and self._in_burst(vantage, at_ns):
            loss = world.burst_loss
        return loss > 0 and draw.random() < loss

    def _in_burst(self, vantage: VantageId, at_ns: int) -> bool:
        """Two-state Markov path (Gilbert, BSTJ 1960), sampled where it is looked at."""
        seen_at, burst = self._bursts.get(vantage, (None, False))
        share = self._world.burst_share
        if seen_at is None or self._entropy.random() < min(1.0, (at_ns - seen_at) / _BURST_NS):
            burst = self._entropy.random() < share
        self._bursts[vantage] = (at_ns, burst)
        return burst

    def _blocked(self, vantage: VantageId) -> bool:
        if self._ready_at_ns is None or self._world.owner is Owner.ABSENT:
            return False
        perspective = self._roles[vantage]
        if not _must_be_silent(perspective, self._roles):
            return False
        if self._world.owner is not Owner.HALF:
            return True
        # Fixed per verification: the same verifiers stay blocked.
        quiet = sorted(v for v, p in self._roles.items() if _must_be_silent(p, self._roles))
        return quiet.index(vantage) < round(len(quiet) * self._world.blocked_share)

    def _answered_control(self) -> Exchange:
        request = client_request(1)
        reply = Reply(_SERVED + request[40:48] + bytes(16), 1_000_000)
        return Exchange(_KIND, request, "192.0.2.1", "192.0.2.2", 123, 0, SECOND_NS, (reply,))

    def _silent_control(self) -> Exchange:
        return Exchange(_KIND, client_request(1), "192.0.2.1", "192.0.2.2", 123, 0, SECOND_NS)


def _must_be_silent(perspective: Perspective, roles: dict[VantageId, Perspective]) -> bool:
    if any(other.role is Role.MUST_BE_BLOCKED for other in roles.values()):
        return perspective.role is Role.MUST_BE_BLOCKED
    return perspective.role is Role.WITNESS
