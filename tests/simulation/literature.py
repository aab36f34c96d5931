"""Worlds from the measurement literature, each as an absent and as an honest owner meets it.

What a paper found says which mechanism to play; the numbers are ours unless a comment gives the paper's, and are chosen
to be bad for us. Absent owners are played in the variants in which nothing but chance stands between them and a strong
proof, honest ones in all that reach it, and in plain `block`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from poolproof.variant import Variant
from tests.simulation.worlds import Cut, Owner, Scenario, World

_FLEET = 40
"""Enough that later attempts find the larger cohorts that they need: a small fleet only makes strong rarer."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What one strand of the literature says that networks and servers do.

    Attributes:
        name: shown in the tables.
        source: where it is described, and what for.
        world: with an owner who did nothing; None where it means nothing to them.
        honest: with an owner who did what was asked; None likewise.
    """

    name: str
    source: str
    world: World | None = None
    honest: World | None = None


def _world(owner: Owner, **what: object) -> World:
    return World("", owner, vantages=_FLEET, **what)  # type: ignore[arg-type]


def _absent(**what: object) -> World:
    return _world(Owner.ABSENT, **what)


def _honest(**what: object) -> World:
    return _world(Owner.HONEST, **what)


def _event(chance: float, share: float, **how: object) -> Cut:
    return Cut(chance, share, **how)  # type: ignore[arg-type]


def picked(servers: int = 5_000, seed: str = "survey") -> World:
    """The server that looks best to an applicant who surveys many and wants the network to make the pattern for them.

    Per server the chance that a path goes dark within an hour is lognormal with median 0.1 % (heavy tails of
    availability over hosts: Dahlin and others, ToN 2003), and the loss is exponential with mean 3 % (Paxson, ToN 1999:
    2.7 and 5.2 % over all paths). The applicant looks twice from 30 vantages of their own, and takes the server whose
    paths came closest to "half of them dark": nothing that lasts is likelier to be taken for a challenge that was met.
    """
    entropy = random.Random(seed)
    best: tuple[int, float, float] | None = None
    for _ in range(servers):
        dark, loss = min(0.5, 0.001 * entropy.lognormvariate(0, 1.3)), min(0.5, entropy.expovariate(1 / 0.03))
        went_dark = sum(entropy.random() < dark + (1 - dark) * loss**4 for _ in range(30))
        score = -abs(15 - went_dark)
        if best is None or score > best[0]:
            best = score, dark, loss
    assert best is not None
    return _absent(dark=round(best[1], 4), loss=round(best[2], 4))


MECHANISMS: tuple[Mechanism, ...] = (
    Mechanism(
        "Gilbert-Elliott",
        "Losses come in bursts: a two-state chain in time (Gilbert, BSTJ 1960; Elliott, BSTJ 1963). Bursts of seconds "
        "in which nearly all is lost, 3 % of all packets (Paxson, 'End-to-end Internet packet dynamics', ToN 1999).",
        _absent(loss=0.005, burst_share=0.03, burst_s=10.0),
        _honest(loss=0.005, burst_share=0.03, burst_s=10.0),
    ),
    Mechanism(
        "dark paths",
        "Single paths fail for minutes to hours (Paxson, 'End-to-end routing behavior in the Internet', ToN 1997; "
        "Feamster and others, 'Measuring the effects of Internet path faults on reactive routing', SIGMETRICS 2003). "
        "As often as the policy has it.",
        _absent(loss=0.10, dark=0.01),
        _honest(loss=0.02, dark=0.01),
    ),
    Mechanism(
        "one event, by network",
        "A problem that part of the Internet sees and that lasts for hours (Katz-Bassett and others, 'Studying black "
        "holes in the Internet with Hubble', NSDI 2008). Each network is cut off with the worst chance.",
        _absent(loss=0.02, dark=0.01, cut=_event(1e-3, 0.5)),
        _honest(loss=0.02, cut=_event(1e-3, 0.5)),
    ),
    Mechanism(
        "one of two upstreams fails",
        "'A multi-homed AS is reachable through one provider, but probes through another terminate' (Hubble). Half of "
        "the Internet, by whatever way its routes take.",
        _absent(loss=0.02, dark=0.01, cut=_event(1e-3, 0.5, groups=2)),
        _honest(loss=0.02, cut=_event(1e-3, 0.5, groups=2)),
    ),
    Mechanism(
        "regions cut after the baseline",
        "Failures of many addresses at once follow geography and provider (Padmanabhan and others, 'How to find "
        "correlated Internet failures', PAM 2019); so do blocks of whole countries.",
        _absent(loss=0.02, dark=0.01, cut=_event(1e-3, 0.5, regional=True)),
        _honest(loss=0.02, cut=_event(1e-3, 0.5, regional=True)),
    ),
    Mechanism(
        "geo-block before the baseline",
        "Servers refuse whole countries for good (McDonald and others, '403 Forbidden: a global view of CDN "
        "geoblocking', IMC 2018). Vantages there get no answer in the baseline and take no part.",
        _absent(loss=0.10, cut=_event(1.0, 0.4, regional=True, before=True)),
        _honest(loss=0.02, cut=_event(1.0, 0.4, regional=True, before=True)),
    ),
    Mechanism(
        "anycast, a site goes dark",
        "Sites differ, and about 1 % of vantages change sites all the time (Wei and Heidemann, 'Does anycast hang up "
        "on you?', TMA 2017). One of six sites or more goes dark with 1 in 1000; who hops loses a packet now and then.",
        _absent(loss=0.02, burst_share=0.01, burst_loss=1.0, cut=_event(1e-3, 0.3, groups=6)),
        _honest(loss=0.02, burst_share=0.01, burst_loss=1.0),
    ),
    Mechanism(
        "anycast, one site was forgotten",
        "The same, but the honest owner configured five of six sites: whoever reaches the sixth is answered.",
        None,
        _honest(loss=0.02, stale_sources=1 / 6),
    ),
    Mechanism(
        "load balancer, dead backend, by source",
        "Balancers spread by source or by flow (Augustin and others, 'Measuring load-balanced paths in the Internet', "
        "IMC 2007). One of two backends dies after the baseline, with 1 in 1000.",
        _absent(loss=0.01, cut=_event(1e-3, 0.5, groups=2)),
        None,
    ),
    Mechanism(
        "load balancer, dead backend, by flow",
        "The same with a balancer that looks at ports: each exchange is lost with chance 1/2, whoever asks. The worst "
        "case of 'all at once'.",
        _absent(loss=0.0, loss_after=0.5),
        None,
    ),
    Mechanism(
        "load balancer, stale backend, by flow",
        "An honest owner with one of ten backends that still has the old configuration.",
        None,
        _honest(loss=0.02, stale_flows=0.1),
    ),
    Mechanism(
        "NAT before the target drops mappings",
        "Home gateways drop idle UDP mappings after some minutes (Hätönen and others, 'An experimental study of home "
        "gateway characteristics', IMC 2010; RFC 4787 asks for two minutes): a source is lost for as long.",
        _absent(loss=0.02, burst_share=0.05, burst_loss=1.0, burst_s=120.0),
        _honest(loss=0.02, burst_share=0.02, burst_loss=1.0, burst_s=120.0),
    ),
    Mechanism(
        "NAT before the vantages",
        "Hosts share an address (Richter and others, 'A multi-perspective analysis of carrier-grade NAT deployment', "
        "IMC 2016): blocking one blocks a monitor as well, with 1 in 50.",
        None,
        _honest(loss=0.02, shared_address=0.02),
    ),
    Mechanism(
        "server limits everyone",
        "A global limiter that drops, or kisses off, most of what it gets (measured on real daemons: tests/lab).",
        _absent(loss=0.02, rate_limit=0.6),
        _honest(loss=0.02, rate_limit=0.05),
    ),
    Mechanism(
        "leaky limiter for each source",
        "chrony's `ratelimit` answers a random quarter of what a limited source asks (measured: tests/lab). It limits "
        "half of all sources from 'ready' on, with 1 in 100.",
        _absent(loss=0.02, limited=0.005),
        _honest(loss=0.02, limited=0.005),
    ),
    Mechanism(
        "clock never set",
        "Many servers answer without a time to tell (Rytilahti and others, 'Masters of time: an overview of the NTP "
        "ecosystem', EuroS&P 2018). Unsynchronised answers are answers.",
        _absent(loss=0.02, dark=0.01, unsynchronised=1.0),
        _honest(loss=0.02, unsynchronised=1.0),
    ),
    Mechanism(
        "diurnal congestion",
        "Links between networks fill up every evening (Dhamdhere and others, 'Inferring persistent interdomain "
        "congestion', SIGCOMM 2018). The applicant asks at a quiet hour and says ready up to half a day later.",
        _absent(loss=0.01, diurnal=0.4, ready_s=(60, 43_200)),
        _honest(loss=0.01, diurnal=0.15, ready_s=(60, 43_200)),
    ),
    Mechanism("the best of 5,000 servers", "An applicant who looks for a server that passes by itself.", picked()),
    Mechanism(
        "a filter begins to reject",
        "A scrubbing service or a firewall refuses part of the Internet, with 1 in 10,000.",
        _absent(loss=0.02, cut=_event(1e-4, 0.5, refuses=True)),
        None,
    ),
    Mechanism(
        "an applicant who waits for an event",
        "Says ready only when part of the Internet has lost the target, and has 48 hours for it: eight times as long "
        "as the policy's 1 in 1000 is meant for.",
        _absent(loss=0.02, dark=0.01, cut=_event(0.008, 0.5)),
        None,
    ),
)

_STRONG: Mapping[str, Mapping[str, object]] = {
    "allow-only": {"variant": Variant.ALLOW_ONLY},
    "prefixes": {"variant": Variant.BLOCK, "ipv6_prefixes": True},
}


def _played(mechanism: Mechanism, world: World, shown: str, **how: object) -> Scenario:
    return Scenario(replace(world, name=f"{mechanism.name}; {shown}", **how))  # type: ignore[arg-type]


ABSENT: tuple[Scenario, ...] = tuple(
    _played(mechanism, mechanism.world, name, **how)
    for mechanism in MECHANISMS
    if mechanism.world is not None
    for name, how in _STRONG.items()
)
"""Every world in which nobody did anything, in the variants in which silence can be strong."""

HONEST: tuple[Scenario, ...] = tuple(
    scenario
    for mechanism in MECHANISMS
    if mechanism.honest is not None
    for scenario in (
        *(_played(mechanism, mechanism.honest, name, **how) for name, how in _STRONG.items()),
        _played(mechanism, mechanism.honest, "rejecting", owner=Owner.REJECTING),
        _played(mechanism, mechanism.honest, "block"),
    )
)
"""Every world in which the owner did what was asked, in all variants."""
