"""Worlds: what the network, the server, its owner and our own probes do.

Every number is a probability.

`loss` is what one exchange loses on the whole (request or reply). Bursts and dark paths come on top.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from poolproof.variant import Variant

SECOND_NS = 1_000_000_000


class Owner(Enum):
    """Who is behind the target, and what they did to its configuration."""

    HONEST = "honest"
    """Enacted the whole challenge before saying ready."""
    REJECTING = "rejecting"
    """The same by a firewall that refuses with ICMP, of which some is rate-limited away."""
    ABSENT = "absent"
    """Somebody said ready; nobody touched the server."""
    HALF = "half"
    """Blocks some of the verifiers only, or answers some of the witnesses."""

    @property
    def deserves_proof(self) -> bool:
        """Whether a proof would be true."""
        return self in (Owner.HONEST, Owner.REJECTING)


@dataclass(frozen=True, slots=True)
class Cut:
    """One event that cuts the target off from whole groups of vantages, for good.

    Attributes:
        chance: that it happens in an attempt.
        share: of the groups, that each is cut with.
        groups: number of groups, to which vantages belong by chance (upstreams, anycast sites, backends); 0: each
            failure domain is a group.
        regional: the groups are the five registries.
        before: it was so before the baseline already.
        refuses: what is cut off gets refusals that quote its packets, not silence.
    """

    chance: float
    share: float
    groups: int = 0
    regional: bool = False
    before: bool = False
    refuses: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """One kind of world.

    Attributes:
        name: shown in the table.
        owner: who is behind the target.
        variant: of the challenge.
        ipv6_prefixes: the target is IPv6 and the vantages have prefixes.
        vantages: size of the fleet.
        loss: per exchange, on every path.
        loss_after: per exchange from "ready" on, if it changes (congestion); None: as before.
        diurnal: loss that the busiest hour of the day (noon UTC) adds; at midnight none.
        burst_share, burst_loss: share of time that a path is in a burst, and what it loses then.
        burst_s: after how long, on average, it is drawn anew whether a path is in a burst.
        dark: chance that a path goes dark between baseline and the end, by itself.
        cut: one event that cuts many paths.
        limited, leak: share of the sources that the server limits from "ready" on, and what it answers of theirs.
        late: chance that an answer comes after the timeout.
        duplicates: chance that an answer comes twice.
        unsynchronised: chance that an answer says that the server's clock is not set.
        rate_limit: chance that the server drops, or kisses off, an exchange, whoever asks.
        rejects_after: share of everything that the server, or something before it, rejects by ICMP from "ready" on.
        stale_sources, stale_flows: share of sources, or of exchanges, that reach a backend with the old configuration.
        shared_address: chance that a monitor has the address of a blocked host (NAT), and is blocked with it.
        outages: chance that the server is down for a while during the measurement.
        dead_probes: chance that a probe is not connected when it is needed.
        failing_control: chance that a probe's control servers do not answer.
        lost_reports: chance that a report never comes, or only after a minute.
        repeated_reports: chance that a report comes twice.
        blocked_share: of the must-be-silent ones, that a HALF owner blocks.
        ready_s: the owner says ready so many seconds after the challenge, at the least and at the most.
    """

    name: str
    owner: Owner
    variant: Variant = Variant.BLOCK
    ipv6_prefixes: bool = False
    vantages: int = 16
    loss: float = 0.0
    loss_after: float | None = None
    diurnal: float = 0.0
    burst_share: float = 0.0
    burst_loss: float = 0.9
    burst_s: float = 4.0
    dark: float = 0.0
    cut: Cut | None = None
    limited: float = 0.0
    leak: float = 0.25
    late: float = 0.0
    duplicates: float = 0.0
    unsynchronised: float = 0.0
    rate_limit: float = 0.0
    rejects_after: float = 0.0
    stale_sources: float = 0.0
    stale_flows: float = 0.0
    shared_address: float = 0.0
    outages: float = 0.0
    dead_probes: float = 0.0
    failing_control: float = 0.0
    lost_reports: float = 0.0
    repeated_reports: float = 0.0
    blocked_share: float = 0.6
    ready_s: tuple[int, int] = (10, 600)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a world's row in the table must reach; None: nothing is promised but that no false proof happens.

    `false_strong` is what `make soak` holds an application's chance of a false strong proof to.
    """

    proven: float | None = None
    refuted_in_round_one: float | None = None
    median_rounds: int | None = None
    false_strong: float = 1e-6


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world, its share of the attempts, and its goal."""

    world: World
    goal: Goal = field(default_factory=Goal)
    weight: int = 1


def _messy(name: str, owner: Owner, **more: float) -> World:
    return World(
        name,
        owner,
        loss=0.02,
        burst_share=0.03,
        dark=0.01,
        late=0.01,
        duplicates=0.02,
        failing_control=0.01,
        repeated_reports=0.05,
        **more,  # type: ignore[arg-type]
    )


HONEST = Goal(proven=0.999, median_rounds=3)
UNCONFIGURED = Goal(refuted_in_round_one=0.999)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(World("honest, no loss", Owner.HONEST), HONEST),
    Scenario(World("honest, 2 % loss", Owner.HONEST, loss=0.02), HONEST, weight=4),
    Scenario(World("honest, 10 % loss", Owner.HONEST, loss=0.10), Goal(proven=0.99, median_rounds=3), weight=4),
    Scenario(World("honest, 30 % loss", Owner.HONEST, loss=0.30)),
    Scenario(World("honest, allow-only, 2 % loss", Owner.HONEST, Variant.ALLOW_ONLY, loss=0.02), HONEST, weight=2),
    Scenario(
        World("honest, allow-only, 10 % loss", Owner.HONEST, Variant.ALLOW_ONLY, loss=0.10),
        Goal(proven=0.99, median_rounds=4),
        weight=2,
    ),
    Scenario(World("honest, IPv6 prefixes, 2 % loss", Owner.HONEST, ipv6_prefixes=True, loss=0.02), HONEST, weight=2),
    # Strong rests on the refusals alone, of which these kernels send six in ten: that takes more rounds than medium.
    Scenario(
        World("honest, rejecting, 2 % loss", Owner.REJECTING, loss=0.02), Goal(proven=0.999, median_rounds=4), weight=2
    ),
    Scenario(World("honest, rejecting, 10 % loss", Owner.REJECTING, loss=0.10), Goal(proven=0.99, median_rounds=5)),
    # Two of the twelve share an ASN: eleven domains have odds of 1 in 1e6 only once every other explanation is out.
    Scenario(
        World("honest, 12 vantages, 2 % loss", Owner.HONEST, vantages=12, loss=0.02),
        Goal(proven=0.999, median_rounds=4),
    ),
    Scenario(_messy("honest, messy network", Owner.HONEST), Goal(proven=0.99), weight=2),
    Scenario(World("honest, rate-limits everyone", Owner.HONEST, loss=0.02, rate_limit=0.05)),
    Scenario(World("honest, flaky server", Owner.HONEST, loss=0.02, outages=0.5), Goal(proven=0.99)),
    Scenario(World("honest, dead probes", Owner.HONEST, loss=0.02, dead_probes=0.05)),
    Scenario(World("honest, lost reports", Owner.HONEST, loss=0.02, lost_reports=0.01)),
    Scenario(World("absent, no loss", Owner.ABSENT), UNCONFIGURED, weight=2),
    Scenario(World("absent, 2 % loss", Owner.ABSENT, loss=0.02), UNCONFIGURED, weight=2),
    Scenario(World("absent, 10 % loss", Owner.ABSENT, loss=0.10), UNCONFIGURED, weight=4),
    Scenario(World("absent, 30 % loss", Owner.ABSENT, loss=0.30), weight=2),
    Scenario(World("absent, 50 % loss", Owner.ABSENT, loss=0.50), weight=2),
    Scenario(
        World("absent, allow-only, 10 % loss", Owner.ABSENT, Variant.ALLOW_ONLY, loss=0.10), UNCONFIGURED, weight=2
    ),
    Scenario(World("absent, IPv6 prefixes, 10 % loss", Owner.ABSENT, ipv6_prefixes=True, loss=0.10), UNCONFIGURED),
    Scenario(World("absent, loss rises to 50 %", Owner.ABSENT, loss_after=0.5), weight=2),
    Scenario(World("absent, loss rises to 70 %", Owner.ABSENT, loss=0.05, loss_after=0.7), weight=2),
    Scenario(_messy("absent, messy network", Owner.ABSENT), weight=2),
    Scenario(World("absent, rate-limits everyone", Owner.ABSENT, loss=0.02, rate_limit=0.6), weight=2),
    Scenario(World("absent, rejects at random", Owner.ABSENT, loss=0.02, rejects_after=0.45), weight=2),
    Scenario(World("absent, flaky server", Owner.ABSENT, loss=0.10, outages=0.8), weight=2),
    Scenario(World("absent, dark paths", Owner.ABSENT, loss=0.10, dark=0.03), weight=2),
    Scenario(World("absent, dead probes", Owner.ABSENT, loss=0.10, dead_probes=0.5, lost_reports=0.1), weight=2),
    Scenario(World("half-blocking, 2 % loss", Owner.HALF, loss=0.02), weight=2),
    Scenario(World("half-blocking, 50 % loss", Owner.HALF, loss=0.5), weight=2),
    Scenario(World("half-blocking, lost reports", Owner.HALF, loss=0.10, lost_reports=0.2), weight=2),
)
