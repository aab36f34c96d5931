"""One world, drawn from a seed: what comes back for each packet of each job."""

from __future__ import annotations

import math
import random

from poolproof.capture import Capture
from poolproof.challenge import Expectation, Row, quorum
from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault, Reply
from poolproof.fleet import Perspective, Role
from poolproof.ids import VantageId
from poolproof.job import ClockCheck, Job, Report, Step
from poolproof.ntp import client_request
from poolproof.refusal import ASKED_FOR, RefusalKind
from poolproof.target import Family
from tests.simulation.chance import Chance, posterior
from tests.simulation.worlds import SECOND_NS, Cut, Owner, World

_SERVED = bytes((0o44, 2)) + bytes(22)
"""LI 0, version 4, mode 4, stratum 2; the origin timestamp follows at octet 24."""
_UNSYNCHRONISED = bytes((0o344, 0)) + bytes(10) + b"INIT" + bytes(8)
_RATE = bytes((0o344, 0)) + bytes(10) + b"RATE" + bytes(8)
_CLOCK = ClockCheck(offset_ns=0, error_ns=1_000_000, samples=2)
_KIND = ExchangeKind.CLIENT_V4
_RTT_NS = 30_000_000
_CODES = {
    Family.IPV4: {RefusalKind.PORT_UNREACHABLE: (3, 3), RefusalKind.ADMIN_PROHIBITED: (3, 13)},
    Family.IPV6: {RefusalKind.PORT_UNREACHABLE: (1, 4), RefusalKind.ADMIN_PROHIBITED: (1, 1)},
}
_DAY_NS = 86_400 * SECOND_NS
_UNLUCKY = 0.05
"""How often a steered run lets happen to those that must be answered what would spoil the round."""


class Network:
    """What the target and the paths to it do, as one seeded draw of a world.

    A run that is steered wishes for a false proof: those that must be silent fall silent by whatever makes them, each
    cause as often as it would have been the cause, and those that must be answered are.
    """

    def __init__(self, world: World, entropy: random.Random, chance: Chance | None = None) -> None:
        self._world = world
        self._entropy = entropy
        self._chance = chance or Chance(entropy)
        self._bursts: dict[VantageId, tuple[int, bool]] = {}
        self._dark: dict[VantageId, bool] = {}
        self._limited: dict[VantageId, bool] = {}
        self._cut: dict[VantageId, bool] = {}
        self._struck: dict[str, bool] = {}
        self._rows: dict[VantageId, Row] = {}
        self._roles: dict[VantageId, Perspective] = {}
        self._cuttable: frozenset[VantageId] = frozenset()
        self._quiet: frozenset[VantageId] = frozenset()
        self._unblocked: frozenset[VantageId] = frozenset()
        self._down: tuple[int, int] = (0, 0)
        self._ready_at_ns: int | None = None
        self._control = self._answered_control()

    def owner_ready(self, now_ns: int, rows: tuple[Row, ...]) -> None:
        """The owner did, or did not do, what was asked, and says ready."""
        self._ready_at_ns = now_ns
        self._rows = {row.perspective.vantage: row for row in rows}
        self._roles = {vantage: row.perspective for vantage, row in self._rows.items()}
        self._quiet = frozenset(v for v, row in self._rows.items() if Expectation.SILENCE in row.expected)
        # Of a prefix the other half must be answered: what cuts the vantage off proves nothing there.
        self._cuttable = frozenset(vantage for vantage in self._quiet if not self._rows[vantage].neighbour)
        if self._chance.happens(self._world.outages):
            start = now_ns + self._entropy.randrange(1, 40) * SECOND_NS
            self._down = (start, start + self._entropy.randrange(1, 120) * SECOND_NS)
        if self._world.cut is not None and not self._world.cut.before:
            self._strike(self._world.cut)
        self._enact()

    @property
    def hopeless(self) -> bool:
        """Whether so many of those that must be answered are cut off for good that no round will ever count."""
        lost = {vantage for known in (self._dark, self._cut) for vantage, is_so in known.items() if is_so}
        asked = [v for v, view in self._roles.items() if view.role is Role.ALLOWED_MONITOR]
        open_ = [v for v, view in self._roles.items() if view.role is Role.WITNESS and v not in self._quiet]
        served = len(asked) - len(lost.intersection(asked))
        return bool(lost and asked) and (served < quorum(len(asked)) or (bool(open_) and lost.issuperset(open_)))

    def report(self, job: Job) -> Report:
        """Everything that the probe sees while it does a job."""
        control = self._silent_control() if self._chance.happens(self._world.failing_control) else self._control
        exchanges = tuple(self._exchange(job, step) for step in job.steps)
        # Nobody floods in these worlds: the tripwire is armed and silent.
        capture = Capture(SECOND_NS, job.start_at_ns + job.steps[-1].offset_ns + job.timeout_ns)
        return Report(job.id, job.vantage, exchanges, (control,), (control,), _CLOCK, capture)

    def missed(self, job: Job) -> Report:
        """What a probe reports that got its lease too late."""
        missed = (self._seen(job, step, b"", (), (), LocalFault.MISSED_START) for step in job.steps)
        return Report(job.id, job.vantage, tuple(missed), (), (), _CLOCK)

    def _exchange(self, job: Job, step: Step) -> Exchange:
        world, chance = self._world, self._chance
        at_ns = job.start_at_ns + step.offset_ns
        request = client_request(self._entropy.getrandbits(64) or 1)
        row = self._rows.get(job.vantage)
        told = row is not None and step.source in ("", row.perspective.source)
        ready, quiet = self._ready_at_ns is not None, told and job.vantage in self._quiet
        unlucky = None if not ready else 1.0 if quiet else _UNLUCKY
        way = _CODES[job.target.family][row.refusal if row is not None and row.refusal else ASKED_FOR[-1]]
        refused = (IcmpError(*way, job.target.address, request, at_ns + _RTT_NS),)
        if self._lost(job.vantage, at_ns, quiet):
            if self._cut.get(job.vantage) and world.cut is not None and world.cut.refuses:
                return self._seen(job, step, request, (), refused)
            return self._seen(job, step, request, (), ())
        rejects = world.rejects_after if ready else 0.0
        rest = (1 - rejects) * world.rate_limit / 2
        if chance.happens(rejects, self._wish(rejects, rest, unlucky)):
            return self._seen(job, step, request, (), refused)
        if told and self._blocked(job.vantage):
            rejecting = world.owner is Owner.REJECTING and chance.happens(0.6)
            return self._seen(job, step, request, (), refused if rejecting else ())
        if chance.happens(world.rate_limit, self._wish(world.rate_limit, 0.0, unlucky)):
            kissed = chance.happens(0.5, None if unlucky is None else 1 - unlucky)
            kiss = (Reply(_RATE + request[40:48] + bytes(16), at_ns + _RTT_NS),)
            return self._seen(job, step, request, kiss if kissed else (), ())
        arrival = at_ns + (job.timeout_ns + SECOND_NS // 2 if chance.happens(world.late) else _RTT_NS)
        head = _UNSYNCHRONISED if chance.happens(world.unsynchronised) else _SERVED
        reply = Reply(head + request[40:48] + bytes(16), arrival)
        return self._seen(job, step, request, (reply,) * (1 + chance.happens(world.duplicates)), ())

    def _seen(
        self,
        job: Job,
        step: Step,
        request: bytes,
        replies: tuple[Reply, ...],
        icmp: tuple[IcmpError, ...],
        fault: LocalFault | None = None,
    ) -> Exchange:
        return Exchange(
            step.kind,
            request,
            step.source or job.source,
            job.target.address,
            job.target.port,
            job.start_at_ns + step.offset_ns,
            job.timeout_ns,
            replies,
            icmp,
            fault=fault,
        )

    @staticmethod
    def _wish(chance: float, otherwise: float, unlucky: float | None) -> float | None:
        """How a steered run draws a cause of silence that has other causes after it."""
        if unlucky is None:
            return None
        return posterior(chance, otherwise) if unlucky == 1.0 else min(chance, unlucky)

    def _lost(self, vantage: VantageId, at_ns: int, quiet: bool) -> bool:
        world, chance = self._world, self._chance
        measuring = self._ready_at_ns is not None and at_ns >= self._ready_at_ns
        if measuring and self._down[0] <= at_ns < self._down[1]:
            return True
        unlucky = None if not measuring else 1.0 if quiet else _UNLUCKY
        lasting = None if not measuring else 1.0 if vantage in self._cuttable else _UNLUCKY
        if world.cut is not None and world.cut.before and vantage not in self._cut:
            group = self._group(world.cut, vantage)
            if group not in self._struck:
                self._struck[group] = chance.happens(world.cut.share)
            self._cut[vantage] = self._struck[group]
        if self._cut.get(vantage):
            return True
        loss = self._loss(at_ns, measuring)
        if measuring and world.dark:
            if vantage not in self._dark:
                self._dark[vantage] = chance.happens(world.dark, self._wish(world.dark, self._alone(loss), lasting))
            if self._dark[vantage]:
                return True
        if measuring and world.limited:
            if vantage not in self._limited:
                likely = posterior(world.limited * (1 - world.leak) ** 3, self._alone(loss))
                limited = likely if vantage in self._cuttable else None
                self._limited[vantage] = chance.happens(world.limited, limited)
            if self._limited[vantage]:
                loss = 1 - (1 - loss) * world.leak
        if world.burst_share and self._in_burst(vantage, at_ns, loss, quiet and measuring):
            loss = world.burst_loss
        rejects = world.rejects_after if measuring else 0.0
        rest = rejects + (1 - rejects) * world.rate_limit / 2
        return chance.happens(loss, self._wish(loss, rest, unlucky))

    def _loss(self, at_ns: int, measuring: bool) -> float:
        world = self._world
        loss = world.loss if world.loss_after is None or not measuring else world.loss_after
        if world.diurnal:
            loss += world.diurnal * (1 - math.cos(2 * math.pi * (at_ns % _DAY_NS) / _DAY_NS)) / 2
        return min(loss, 1.0)

    def _alone(self, loss: float) -> float:
        """About how likely three exchanges go unanswered without a lasting cause."""
        world = self._world
        bursts = loss + (world.burst_loss - loss) * world.burst_share if world.burst_share else loss
        return (bursts + (1 - bursts) * (world.rejects_after + world.rate_limit / 2)) ** 3

    def _in_burst(self, vantage: VantageId, at_ns: int, loss: float, wanted: bool) -> bool:
        """Two-state Markov chain in continuous time (Gilbert, BSTJ 1960; Elliott, BSTJ 1963), where it is looked at."""
        world = self._world
        seen_at, burst = self._bursts.get(vantage, (None, False))
        kept = 0.0 if seen_at is None else math.exp((seen_at - at_ns) / (world.burst_s * SECOND_NS))
        share = kept * burst + (1 - kept) * world.burst_share
        wish = min(0.98, posterior(share, (loss / world.burst_loss) ** 2)) if wanted else None
        burst = self._chance.happens(share, wish)
        self._bursts[vantage] = (at_ns, burst)
        return burst

    def _strike(self, cut: Cut) -> None:
        """The one event, if it happens: it cuts whole groups, and every vantage in them."""
        chance = self._chance
        if not chance.happens(cut.chance, 0.5):
            return
        alone = min(1.0, self._alone(self._world.loss) + self._world.dark)
        if cut.groups:
            struck = sum(chance.happens(cut.share) for _ in range(cut.groups)) / cut.groups
            for vantage in self._roles:
                wish = min(0.98, posterior(struck, alone)) if vantage in self._cuttable else _UNLUCKY
                self._cut[vantage] = chance.happens(struck, wish)
            return
        groups: dict[str, list[VantageId]] = {}
        for vantage in self._roles:
            groups.setdefault(self._group(cut, vantage), []).append(vantage)
        for _, members in sorted(groups.items()):
            quiet = [vantage for vantage in members if vantage in self._cuttable]
            likely = posterior(cut.share, alone ** len(quiet)) if len(quiet) == len(members) else _UNLUCKY
            self._cut.update(dict.fromkeys(members, chance.happens(cut.share, min(0.98, likely))))

    def _group(self, cut: Cut, vantage: VantageId) -> str:
        """What goes dark together."""
        if cut.regional:
            return f"region {int(vantage[1:]) % 5}"
        return f"AS {self._roles[vantage].asn if vantage in self._roles else vantage}"

    def _enact(self) -> None:
        """Whom the owner's configuration does not reach, or reaches although it should not."""
        world = self._world
        if world.owner is Owner.ABSENT:
            self._unblocked = frozenset(self._roles)
            return
        quiet = sorted(self._quiet)
        # Fixed per verification: the same verifiers stay blocked.
        spared = quiet[round(len(quiet) * world.blocked_share) :] if world.owner is Owner.HALF else []
        stale = [vantage for vantage in self._roles if self._chance.happens(world.stale_sources)]
        hit = [vantage for vantage in self._roles if self._chance.happens(world.shared_address)]
        self._unblocked = frozenset(spared) | frozenset(stale) | (frozenset(self._roles) - self._quiet - frozenset(hit))

    def _blocked(self, vantage: VantageId) -> bool:
        if self._ready_at_ns is None or vantage in self._unblocked:
            return False
        return not self._chance.happens(self._world.stale_flows)

    def _answered_control(self) -> Exchange:
        request = client_request(1)
        reply = Reply(_SERVED + request[40:48] + bytes(16), 1_000_000)
        return Exchange(_KIND, request, "192.0.2.1", "192.0.2.2", 123, 0, SECOND_NS, (reply,))

    def _silent_control(self) -> Exchange:
        return Exchange(_KIND, client_request(1), "192.0.2.1", "192.0.2.2", 123, 0, SECOND_NS)
