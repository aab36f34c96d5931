"""An applicant who owns nothing: wants a proof for somebody's server, and floods it to make it look obedient.

The attacker sends with any source address, sees no answers, and knows all that applicants are told: monitors,
verifiers, prefixes. Some also know the whole fleet. The server's owner is absent: nothing that happens there is theirs.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum

from coordinator.cli.snapshot import Snapshot
from poolproof.fleet import Role
from poolproof.policy import SECOND_NS
from poolproof.variant import Variant
from poolproof.verification import State
from tests.lab.daemons import Chrony, Daemon
from tests.lab.floods import KINDS, Floods, Pulses, Rhythm, Stream, stream
from tests.lab.floods_servers import Server
from tests.lab.floods_wire import Backscatter, Unasked
from tests.lab.impair import Filter
from tests.lab.net import Host, Network
from tests.lab.product import PROBES, Product
from tests.lab.spoof import datagram

_FOLLOWING_S = 0.1
_LONGEST_S = 240.0
_PULSE_S = 0.22
LINK_PER_SECOND = 40
"""Datagrams a second that a narrow link carries."""


class Whom(Enum):
    """In whose name the flood goes out once the challenge is known."""

    VERIFIERS = "verifiers"
    """The disclosed must-be-blocked ones; of a prefix one address."""
    STRANGERS = "strangers"
    """Everybody of the fleet that the attacker knows but the disclosed monitors: witnesses are among them."""
    MONITORS = "monitors"
    """Those that are to be answered."""
    VERIFIERS_AND_MONITORS = "verifiers and monitors"
    """Both."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    Attributes:
        server: what runs at the target.
        kind: key of `KINDS`.
        rhythm: when; None: 20 packets just before each round, which the attacker knows.
        variant: what is requested.
        whom: in whose name.
        before: in the name of so many of the fleet's hosts the flood runs from before the request to the challenge.
        knows: so many of the fleet's hosts are known to the attacker.
        patience_s: how long the attacker waits after the challenge, so that limiters forget the baseline.
        owner: the server's owner is there after all, made the request, and enacts the challenge.
        rounds: it is over after so many rounds, because the verdict takes minutes or hours; 0: with the verdict.
        congests: the flood goes to the verifiers instead, whose links are narrow (`LINK_PER_SECOND`), and only while an
            answer could come; nothing at all is sent to the server.
    """

    server: Server
    kind: str
    rhythm: Rhythm | None
    variant: Variant = Variant.BLOCK
    whom: Whom = Whom.VERIFIERS
    before: int = 0
    knows: int = PROBES
    patience_s: float = 0.0
    owner: bool = False
    rounds: int = 0
    congests: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attack ended.

    Attributes:
        attack: which.
        closed: the verification at its end; its judgement is the verdict.
        unasked: packets of the target that reached must-be-silent perspectives unasked, by an independent capture.
        sent: packets of the flood.
        begun_ns: when its part after the challenge began, Unix ns.
    """

    attack: Attack
    closed: Snapshot
    unasked: tuple[Unasked, ...]
    sent: int
    begun_ns: int


@contextmanager
def playing(
    net: Network, product: Product, attacks: Mapping[str, Attack], first: int = 1
) -> Iterator[Mapping[str, Future[Ending]]]:
    """All attacks at once against one running product; each has a target of its own.

    Args:
        net: the product's network.
        product: a coordinator and its probes.
        attacks: by name.
        first: number of the first target, where several sets run in one network.
    """
    attacker = net.hosts.get("attacker") or net.host("attacker", ipv4="198.18.3.1", ipv6="2001:db8:4::1")
    hosts = {
        name: net.host(f"absent{number}", ipv4=f"198.18.4.{number}", ipv6=f"2001:db8:7::{number:x}")
        for number, name in enumerate(attacks, first)
    }
    with ThreadPoolExecutor(len(attacks)) as pool:
        yield {
            name: pool.submit(_play, _Scene(net, attack, product, attacker, hosts[name]))
            for name, attack in attacks.items()
        }


@dataclass(frozen=True, slots=True)
class _Scene:
    net: Network
    attack: Attack
    product: Product
    attacker: Host
    target: Host

    @property
    def address(self) -> str:
        return self.target.ipv6 if self.attack.server.ipv6 else self.target.ipv4

    def own(self, host: Host) -> str:
        """The address of a vantage that this target would know it by."""
        return host.ipv6 if self.attack.server.ipv6 else host.ipv4


def _play(scene: _Scene) -> Ending:
    attack, product = scene.attack, scene.product
    server = attack.server
    with server.daemon(scene.target, server.lines) as daemon, Floods(scene.attacker) as floods:
        if server.firewall is not None:
            server.firewall(scene.target)
        _flood(scene, floods, _own(scene, attack.before), attack.rhythm)
        verification = product.request(f"[{scene.address}]" if server.ipv6 else scene.address, attack.variant).id
        told = product.until(verification, lambda seen: seen.state not in (State.REQUESTED, State.BASELINE))
        floods.clear()
        begun_ns = time.time_ns()
        with _watching(product, told) as wires, ExitStack() as links:
            if told.state is State.CHALLENGED:
                if attack.owner:
                    _obey(product, daemon, verification)
                time.sleep(attack.patience_s)  # an attack takes its time: limiters forget
                names = tuple(_names(scene, told))
                if attack.congests:
                    links.enter_context(_narrow(scene, told))
                _flood(scene, floods, names, attack.rhythm)
                product.ready(verification)
                if attack.rhythm is None:
                    _follow(scene, floods, names, verification)
            closed = product.until(verification, _is_over(attack))
            floods.clear()
            seen = tuple(each for wire in wires for each in wire.all() if each.sender == scene.address)
    return Ending(attack, closed, seen, floods.sent, begun_ns)


def _is_over(attack: Attack) -> Callable[[Snapshot], bool]:
    """When the verdict is there, or enough rounds are over, because the next one has begun."""
    return lambda seen: not seen.state.is_open or 0 < attack.rounds < len(seen.rounds)


def _obey(product: Product, daemon: Daemon, verification: str) -> None:
    """What an honest owner of a chrony does: the shown commands, without the stronger alternative."""
    assert isinstance(daemon, Chrony)
    for step in product.instructions(verification, "chrony").steps:
        if not step.text.startswith("Stronger"):
            for command in step.commands:
                daemon.chronyc(*command.removeprefix("chronyc ").split())


def _own(scene: _Scene, number: int) -> list[str]:
    """Addresses of the first hosts of the fleet."""
    return [scene.own(host) for host in list(scene.product.probes.values())[:number]]


def _flood(scene: _Scene, floods: Floods, names: Iterable[str], rhythm: Rhythm | None) -> None:
    """Begin a flood in these names; one without a rhythm waits for rounds."""
    if rhythm is not None:
        kind = KINDS[scene.attack.kind]
        floods.add(*(stream(kind, name, scene.address, rhythm) for name in names))


def _names(scene: _Scene, told: Snapshot) -> Iterator[str]:
    whom = scene.attack.whom
    monitors = {line.view.source for line in told.lines if line.view.role is Role.ALLOWED_MONITOR}
    if whom is Whom.STRANGERS:
        yield from (own for own in _own(scene, scene.attack.knows) if own not in monitors)
        return
    if whom is not Whom.VERIFIERS:
        yield from sorted(monitors)
    if whom is not Whom.MONITORS:
        for line in told.lines:
            if line.view.role is Role.MUST_BE_BLOCKED:
                yield str(ipaddress.ip_network(line.view.source)[1 if "/" in line.view.source else 0])


def _follow(scene: _Scene, floods: Floods, names: tuple[str, ...], verification: str) -> None:
    """A burst before each round, as soon as it is known when that will be: one round's lead."""
    followed: set[int] = set()
    deadline = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline:
        seen = scene.product.until(
            verification, lambda now: any(line.number not in followed for line in now.rounds), every_s=_FOLLOWING_S
        )
        if not seen.state.is_open:
            return
        for line in seen.rounds:
            if line.number not in followed:
                followed.add(line.number)
                left_s = line.start_at_ns / SECOND_NS - time.time()
                if scene.attack.congests:
                    floods.add(*(_congestion(scene, name, left_s) for name in names))
                else:
                    _flood(scene, floods, names, Pulses(20, max(0.0, left_s - 0.45), 1.0, 0.4, times=1))


def _narrow(scene: _Scene, told: Snapshot) -> Filter:
    """The verifiers' links carry so many datagrams and no more, whatever they are about."""
    verifiers = [line.view.vantage for line in told.lines if line.view.role is Role.MUST_BE_BLOCKED]
    tokens = f"limit rate over {LINK_PER_SECOND}/second burst {LINK_PER_SECOND // 10} packets"
    rules = [f'oifname "{vantage}" meta l4proto udp {tokens} drop' for vantage in verifiers]
    return Filter(scene.net.router, "forward", rules)


def _congestion(scene: _Scene, verifier: str, left_s: float) -> Stream:
    """Sixty times what a link carries, while the answer would come, and none of a control server or another half."""
    packet = datagram(scene.own(scene.attacker), verifier, bytes(64), source_port=9, port=9)
    size = int(60 * LINK_PER_SECOND * _PULSE_S)
    return Stream((packet,), verifier, Pulses(size, max(0.0, left_s - 0.8 * _PULSE_S), 1.0, _PULSE_S, times=1))


@contextmanager
def _watching(product: Product, told: Snapshot) -> Iterator[list[Backscatter]]:
    """The wires of those that are not to be answered; witnesses are among those that are not named."""
    open_ = {line.view.vantage for line in told.lines if line.view.role is Role.ALLOWED_MONITOR}
    if told.variant is Variant.BLOCK:
        open_ = set(product.probes) - {
            line.view.vantage for line in told.lines if line.view.role is Role.MUST_BE_BLOCKED
        }
    with ExitStack() as watching:
        yield [watching.enter_context(Backscatter(host)) for name, host in product.probes.items() if name not in open_]
