"""Every attack on the running product that was thought of: `python -m tests.lab.attacks`.

None may end in a strong proof, except those that docs/silence.md lists under "What is left": they are played to show
that the page is right about them. Exit code 1 if the page is wrong either way, or if an honest owner was not proven.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import click

from poolproof.policy import Assurance
from poolproof.variant import Variant
from tests.lab.attack import Attack, Ending, Whom, playing
from tests.lab.floods import Paced, Pulses, Rhythm, Steady
from tests.lab.floods_servers import BURST, PER_MINUTE, SERVERS, TIGHT
from tests.lab.net import Network
from tests.lab.product import PROBES, Product

_AT_ONCE = 16
_LOW, _HIGH, _HIGHEST = Steady(5), Steady(50), Steady(200)
_PULSED = Pulses(size=20, first_s=0.0, every_s=2.0, within_s=0.4)
_RHYTHMS: Final[Mapping[str, Rhythm | None]] = MappingProxyType(
    {"low": _LOW, "high": _HIGH, "pulsed": _PULSED, "following": None}
)
_EXACT = Paced(BURST, PER_MINUTE / 60 * 0.997)
_UFW_BURST = Pulses(size=5, first_s=0.0, every_s=1.0, within_s=0.1, times=1)


@dataclass(frozen=True, slots=True)
class Story:
    """An attack, and what the page says of it.

    Attributes:
        attack: the attack.
        left: number of the item of "What is left" that it shows; 0: it must not end in a strong proof.
    """

    attack: Attack
    left: int = 0


def _on(server: str, kind: str, rhythm: Rhythm | None) -> Attack:
    return Attack(SERVERS[server], kind, rhythm)


def stories() -> dict[str, Story]:
    """All of them, by name."""
    found: dict[str, Story] = {}
    for kind, (word, rhythm) in itertools.product(("mode3-v4", "short-47"), _RHYTHMS.items()):
        found[f"ntpsec {kind} {word}"] = Story(_on("ntpsec", kind, rhythm))
    for kind in ("mode3-v3", "mode4", "mac-20", "mac-24", "crypto-nak", "extension", "long-1400", "port-0"):
        found[f"ntpsec {kind}"] = Story(_on("ntpsec", kind, _HIGH))
    for kind in ("mode3-v4", "mode1", "mac-20", "crypto-nak", "port-0"):
        found[f"chrony-limit {kind}"] = Story(_on("chrony-limit", kind, _HIGH))
    for kind in ("mode3-v4", "mode4"):
        found[f"ntpsec-no-kod {kind}"] = Story(_on("ntpsec-no-kod", kind, _HIGH))
    found["redirect"] = Story(_on("chrony-lan", "redirect", Steady(1)))
    silent = _on("ntpsec", "short-47", _HIGH)
    for number in (PROBES // 2, PROBES):
        found[f"before, {number} of the fleet"] = Story(replace(silent, before=number))
        found[f"before, {number}, loud"] = Story(replace(silent, kind="mode3-v4", before=number))
    for whom in (Whom.MONITORS, Whom.VERIFIERS_AND_MONITORS):
        found[whom.value] = Story(replace(silent, whom=whom, rounds=2))
    for server, kind in itertools.product(("ntpsec-6", "chrony-limit-6"), ("mode3-v4", "mac-20")):
        found[f"prefix, {server} {kind}"] = Story(_on(server, kind, _HIGH))
    found["prefix, tight limiter"] = Story(Attack(TIGHT["64"], "short-47", _HIGH))
    found["prefix, lax limiter"] = Story(replace(_on("nft-64-drop", "short-47", _HIGH), rounds=4))
    told = replace(silent, variant=Variant.ALLOW_ONLY, whom=Whom.STRANGERS)
    found["allow-only, four known"] = Story(replace(told, knows=4))
    found["allow-only, four known, flooded before"] = Story(replace(told, knows=4, before=4))
    found["allow-only, fleet known"] = Story(told, left=1)
    found["allow-only, fleet known, loud"] = Story(replace(told, kind="mode3-v4"))
    found["allow-only, fleet known, IPv6"] = Story(replace(told, server=SERVERS["ntpsec-6"]))
    found["allow-only, redirects"] = Story(
        replace(told, server=SERVERS["chrony-lan"], kind="redirect", rhythm=Steady(1)), left=1
    )
    for server in ("nft-reject", "hashlimit-reject"):
        found[f"{server}, loud"] = Story(_on(server, "mode3-v4", _HIGH))
        found[f"{server}, 47 bytes"] = Story(_on(server, "short-47", _HIGH))
        found[f"{server}, wrong checksum"] = Story(_on(server, "checksum", _HIGH))
        found[f"{server}, exact"] = Story(_on(server, "short-47", _EXACT))
    found["ufw, exact"] = Story(replace(_on("ufw-limit", "short-47", _UFW_BURST), patience_s=31.0))
    found["tight rejecting limiter"] = Story(Attack(TIGHT["reject"], "checksum", _HIGH))
    found["drop limiter, wrong checksum"] = Story(_on("nft-drop", "checksum", _HIGHEST))
    answering = Attack(replace(SERVERS["chrony"], ipv6=True), "short-47", None, congests=True)
    found["congestion, IPv6 prefixes"] = Story(answering)
    honest = Attack(SERVERS["chrony"], "short-47", _HIGH, owner=True)
    found["honest, flooded"] = Story(honest)
    found["honest, allow-only, flooded"] = Story(replace(honest, variant=Variant.ALLOW_ONLY, whom=Whom.STRANGERS))
    found["honest, loud flood"] = Story(replace(honest, kind="mode3-v4"))
    return found


def wrong(story: Story, ended: Ending) -> str:
    """What contradicts the page, or nothing."""
    proof = ended.closed.judgement.proof
    if story.attack.owner:
        return "" if proof is not None else "an honest owner was not proven"
    strong = proof is not None and proof.assurance is Assurance.STRONG
    if strong and not story.left:
        return "a strong proof for an absent owner"
    return f"no strong proof: item {story.left} of what is left is answered" if story.left and not strong else ""


def said(ended: Ending) -> str:
    """One line of how an attack ended."""
    judgement = ended.closed.judgement
    proof = judgement.proof
    worth = f"{proof.assurance.name.lower()}, {proof.ceiling.value}" if proof is not None else judgement.reason.value
    return (
        f"{judgement.word} ({worth}), {len(ended.closed.rounds)} rounds, {judgement.tally.evidence:.1f} nats, "
        f"{ended.sent} sent, {len(ended.unasked)} unasked"
    )


def _batches(chosen: Sequence[tuple[str, Story]]) -> Iterator[tuple[int, dict[str, Story]]]:
    """Number of the first and what is played side by side; congested links are nobody else's."""
    shared = [(name, story) for name, story in chosen if not story.attack.congests]
    for first in range(0, len(shared), _AT_ONCE):
        yield first + 1, dict(shared[first : first + _AT_ONCE])
    alone = [(name, story) for name, story in chosen if story.attack.congests]
    for number, (name, story) in enumerate(alone, len(shared) + 1):
        yield number, {name: story}


@click.command(help=__doc__)
@click.option("--only", default="", help="only those whose name has this in it")
def main(only: str) -> None:
    """Play them, some at a time."""
    begun = time.monotonic()
    faults = 0
    chosen = [(name, story) for name, story in stories().items() if only in name]
    with Network() as net, Product(net) as product:
        for first, batch in _batches(chosen):
            attacks = {name: story.attack for name, story in batch.items()}
            with playing(net, product, attacks, first=first) as endings:
                for name, story in batch.items():
                    ended = endings[name].result()
                    fault = wrong(story, ended)
                    faults += bool(fault)
                    note = f"  [left: {story.left}]" if story.left else ""
                    click.echo(f"{name:34} {said(ended)}{note}{'  WRONG: ' + fault if fault else ''}")
    click.echo(f"{len(chosen)} attacks in {time.monotonic() - begun:.0f} s, {faults} not as docs/silence.md says")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
