"""One attempt on a virtual clock: the state machine, driven by a heap of events, until it is closed."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass

from poolproof.challenge import Method
from poolproof.fleet import Rir, Vantage
from poolproof.ids import VantageId, VerificationId
from poolproof.job import Job, Report
from poolproof.lifecycle import handle, next_wake_ns
from poolproof.policy import Policy
from poolproof.target import Target
from poolproof.verdict import Verdict
from poolproof.verification import Begin, Event, OwnerReady, Reported, State, Unreachable, Verification, Wake
from tests.simulation.chance import Chance, Steered
from tests.simulation.network import Network
from tests.simulation.worlds import SECOND_NS, World

_START_NS = 1_750_000_000 * SECOND_NS
_EVENT_LIMIT = 5_000
"""More events than this in one attempt is a livelock, and a failure."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one attempt ended.

    Attributes:
        verdict: of the attempt.
        state: of the verification.
        rounds: that were fired.
        packets: sent to the target in the baseline and in the rounds.
        measured: of those, in the rounds.
        seconds: from the first packet to the end.
        log_ratio: of a steered run: logarithm of how much less likely a plain run is to be this one.
    """

    verdict: Verdict
    state: State
    rounds: int
    packets: int
    measured: int
    seconds: float
    log_ratio: float = 0.0


def fleet(world: World) -> tuple[Vantage, ...]:
    """Vantages over five registries; every eighth shares its ASN with another."""
    rirs = tuple(Rir)
    return tuple(
        Vantage(
            VantageId(f"v{i:02}"),
            f"192.0.2.{i + 1}",
            f"2001:db8:ffff::{i + 1:x}",
            f"2001:db8:{i + 1:x}::/64" if world.ipv6_prefixes else None,
            64500 + (i if i % 8 != 7 else i - 1),
            rirs[i % len(rirs)],
        )
        for i in range(world.vantages)
    )


def play(world: World, seed: str, policy: Policy, number: int = 1, *, steered: bool = False) -> Result:
    """Play one attempt of a world. The same seed gives the same result, to the last packet.

    Args:
        world: what the network, the server, its owner and our probes do.
        seed: any text.
        policy: the numbers.
        number: of the attempt on the target.
        steered: draw what leads to a false proof more often than it is, and say by how much.
    """
    entropy = random.Random(seed)
    chance = Steered(entropy) if steered else Chance(entropy)
    network = Network(world, entropy, chance)
    target = Target("2001:db8:53::7" if world.ipv6_prefixes else "203.0.113.7")
    verification = Verification(
        VerificationId("sim"), target, str(target), "somebody", Method.DIFFERENTIAL, world.variant, policy.id, _START_NS
    )
    order = itertools.count()
    agenda: list[tuple[int, int, Event]] = [
        (_START_NS, next(order), Begin(number, entropy.randbytes(32), fleet(world)))
    ]
    packets = measured = events = woken_at_ns = 0
    now_ns = _START_NS
    while agenda:
        now_ns, _, event = heapq.heappop(agenda)
        events += 1
        if events > _EVENT_LIMIT:
            raise AssertionError(f"world {world.name!r}, seed {seed!r}: {_EVENT_LIMIT} events and no end")
        before = verification.state
        step = handle(verification, event, now_ns, policy)
        verification = step.verification
        if not verification.state.is_open:
            break
        for job in step.dispatch:
            packets += len(job.steps)
            measured += len(job.steps) if verification.state is State.MEASURING else 0
            for at_ns, answer in _carry_out(job, network, world, entropy, now_ns):
                heapq.heappush(agenda, (at_ns, next(order), answer))
        if verification.state is State.CHALLENGED and before is State.BASELINE:
            said_ns = now_ns + entropy.randrange(*world.ready_s) * SECOND_NS
            heapq.heappush(agenda, (said_ns, next(order), OwnerReady()))
        if isinstance(event, OwnerReady):
            assert verification.attempt is not None
            assert verification.attempt.challenge is not None
            network.owner_ready(now_ns, verification.attempt.challenge.rows)
        if steered and network.hopeless:
            # What it would still do is repeat rounds for hours, and end without proof.
            break
        wake = next_wake_ns(verification, policy)
        if wake is not None and wake != woken_at_ns:
            woken_at_ns = wake
            heapq.heappush(agenda, (max(wake, now_ns), next(order), Wake()))
    attempt = verification.attempt
    assert attempt is not None
    return Result(
        verification.verdict,
        verification.state,
        len(attempt.rounds),
        packets,
        measured,
        (now_ns - _START_NS) / SECOND_NS,
        chance.log_ratio,
    )


def _carry_out(
    job: Job, network: Network, world: World, entropy: random.Random, now_ns: int
) -> list[tuple[int, Event]]:
    """What becomes of one job: reports in any order, twice, late, never; or a probe that is not there."""
    if world.dead_probes and entropy.random() < world.dead_probes:
        return [(now_ns, Unreachable((job.id,)))]
    done_ns = job.start_at_ns + job.steps[-1].offset_ns + job.timeout_ns + job.linger_ns
    at_ns = done_ns + entropy.randrange(SECOND_NS)
    if world.lost_reports and entropy.random() < world.lost_reports:
        if entropy.random() < 0.5:
            return []
        back: Report = network.report(job) if entropy.random() < 0.5 else network.missed(job)
        return [(at_ns + 20 * SECOND_NS, Reported(back))]
    report = Reported(network.report(job))
    repeated = world.repeated_reports and entropy.random() < world.repeated_reports
    return [(at_ns, report), (at_ns + SECOND_NS, report)] if repeated else [(at_ns, report)]
