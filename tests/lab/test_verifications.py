"""The whole product once more, with a fleet without IPv6 prefixes: what single addresses prove in both families.

`test_product.py` has the fleet with prefixes. Here what a verdict says of a packet is compared with the wire.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from coordinator.cli.snapshot import Snapshot
from poolproof.fleet import Role
from poolproof.ntp import HEADER_BYTES
from poolproof.outcome import Outcome
from poolproof.policy import Assurance
from poolproof.v1.verification_pb2 import InstructionStep
from poolproof.variant import Variant
from poolproof.verdict import Ceiling, Reason
from poolproof.verification import State
from tests.lab import impair
from tests.lab.daemons import Chrony, Daemon, Ntpsec, Openntpd
from tests.lab.net import Host, Network
from tests.lab.packages import program
from tests.lab.product import Product

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("product"), pytest.mark.timeout(300)]

BLOCK, ALLOW_ONLY = Variant.BLOCK, Variant.ALLOW_ONLY
_LOSS_PERCENT = 5
_ETHERNET_ALL = 0x0003
_TRANSMIT = slice(40, 48)
_ORIGIN = slice(24, 32)


class AddressesOnly(Product):
    """The same fleet; nobody has announced a prefix."""

    def _vantage(self, number: int) -> str:
        lines = super()._vantage(number).splitlines()
        return "\n".join(line for line in lines if not line.startswith("ipv6_prefix"))

    def _probe(self, name: str, host: Host) -> dict[str, str]:
        return {key: value for key, value in super()._probe(name, host).items() if key != "IPV6_PREFIX"}


@dataclass(frozen=True)
class Challenged:
    """An owner who has been told what to do."""

    product: Product
    daemon: Daemon
    told: Snapshot

    @property
    def verifiers(self) -> list[str]:
        return [line.view.source for line in self.told.lines if line.view.role is Role.MUST_BE_BLOCKED]

    def steps(self, software: str, stronger: bool) -> list[InstructionStep]:
        """What the service says; `stronger` takes that step too."""
        told = self.product.instructions(self.told.id, software).steps
        return [step for step in told if stronger or not step.text.startswith("Stronger")]


def nothing(owner: Challenged) -> None:
    """Nobody configured anything."""


def by_daemon(owner: Challenged) -> None:
    """The shown lines or commands of the daemon itself."""
    daemon = owner.daemon
    if isinstance(daemon, Chrony):
        for step in owner.steps("chrony", stronger=False):
            for command in step.commands:
                daemon.chronyc(*command.split()[1:])
    else:
        steps = owner.steps("ntpsec", stronger=False)
        daemon.restart([line for step in steps if step.file for line in step.lines])


def by_reject(owner: Challenged) -> None:
    """The shown table of nftables, and the step that rejects."""
    for step in owner.steps("nftables", stronger=True):
        for command in step.commands:
            owner.daemon.host.run(["sh", "-c", command])


def by_drop(owner: Challenged) -> None:
    """The same without that step."""
    for step in owner.steps("openntpd", stronger=False):
        for command in step.commands:
            owner.daemon.host.run(["sh", "-c", command])


def some(owner: Challenged) -> None:
    """Forgets two of the verifiers."""
    impair.drop(owner.daemon.host, *owner.verifiers[2:])


def other_family(owner: Challenged) -> None:
    """Blocks all probes, but by the family that is not under test."""
    impair.drop(owner.daemon.host, *(host.ipv4 for host in owner.product.probes.values()))


@dataclass(frozen=True)
class Case:
    """One target: what runs there, what is asked, and what its owner does."""

    daemon: type[Daemon]
    variant: Variant
    act: Callable[[Challenged], None]
    ipv6: bool = False
    loss: bool = False


CASES: dict[str, Case] = {
    "chrony-acl-6": Case(Chrony, BLOCK, by_daemon, ipv6=True),
    "chrony-acl-6-loss": Case(Chrony, BLOCK, by_daemon, ipv6=True, loss=True),
    "ntpsec-acl-4-loss": Case(Ntpsec, BLOCK, by_daemon, loss=True),
    "openntpd-drop-6": Case(Openntpd, BLOCK, by_drop, ipv6=True),
    "chrony-reject-6": Case(Chrony, BLOCK, by_reject, ipv6=True),
    "openntpd-reject-4-loss": Case(Openntpd, BLOCK, by_reject, loss=True),
    "ntpsec-allow-only-6": Case(Ntpsec, ALLOW_ONLY, by_daemon, ipv6=True),
    "ntpsec-allow-only-4-loss": Case(Ntpsec, ALLOW_ONLY, by_daemon, loss=True),
    "chrony-untouched-6": Case(Chrony, BLOCK, nothing, ipv6=True),
    "ntpsec-untouched-4-loss": Case(Ntpsec, BLOCK, nothing, loss=True),
    "ntpsec-some-6": Case(Ntpsec, BLOCK, some, ipv6=True),
    "chrony-other-family": Case(Chrony, BLOCK, other_family, ipv6=True),
    "ntpsec-untouched-allow-only": Case(Ntpsec, ALLOW_ONLY, nothing),
}


@dataclass(frozen=True)
class Ending:
    """A closed verification, what its owner had been told, and all that the target's wire carried in between."""

    told: Challenged
    closed: Snapshot
    packets: tuple[bytes, ...]


Endings = dict[str, "Future[Ending]"]


@pytest.fixture(scope="module")
def endings() -> Iterator[Endings]:
    """All cases at once; each test waits for those that it is about."""
    program("chrony", "chronyd")  # unpacked once, before all of them want it
    with Network() as net, AddressesOnly(net) as product, ThreadPoolExecutor(len(CASES)) as pool:
        hosts = {
            name: net.host(f"target{number}", ipv4=f"198.18.2.{number}", ipv6=f"2001:db8:3::{number:x}")
            for number, name in enumerate(CASES, 1)
        }
        for name, case in CASES.items():
            if case.loss:
                impair.loss(net, _LOSS_PERCENT, destination=hosts[name])
        yield {name: pool.submit(_verify, case, product, hosts[name]) for name, case in CASES.items()}


def _verify(case: Case, product: Product, host: Host) -> Ending:
    with case.daemon(host) as daemon, host.socket(socket.AF_PACKET) as wire:
        challenged = product.challenged(f"[{host.ipv6}]" if case.ipv6 else host.ipv4, case.variant)
        owner = Challenged(product, daemon, challenged)
        case.act(owner)
        wire.bind(("eth0", _ETHERNET_ALL))
        product.ready(challenged.id)
        return Ending(owner, product.concluded(challenged.id), _read_all(wire))


def _read_all(wire: socket.socket) -> tuple[bytes, ...]:
    """What a packet socket has queued: IP packets of the host, both ways."""
    wire.setblocking(False)
    packets = []
    while True:
        try:
            packets.append(wire.recv(2048))
        except BlockingIOError:
            return tuple(packets)


@pytest.mark.parametrize(
    ("name", "assurance", "ceiling"),
    [
        ("chrony-acl-6", Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
        ("chrony-acl-6-loss", Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
        ("ntpsec-acl-4-loss", Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
        ("openntpd-drop-6", Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
        ("chrony-reject-6", Assurance.STRONG, Ceiling.REFUSALS),
        ("openntpd-reject-4-loss", Assurance.STRONG, Ceiling.REFUSALS),
        ("ntpsec-allow-only-6", Assurance.STRONG, Ceiling.WITNESSES),
        ("ntpsec-allow-only-4-loss", Assurance.STRONG, Ceiling.WITNESSES),
    ],
)
def test_what_an_honest_owner_did_decides_what_the_proof_is_worth(
    endings: Endings, name: str, assurance: Assurance, ceiling: Ceiling
) -> None:
    ended = endings[name].result().closed
    proof = ended.judgement.proof
    assert proof is not None, ended.judgement
    assert ended.state is State.CONCLUDED
    assert (proof.assurance, proof.ceiling, proof.reason) == (assurance, ceiling, Reason.PATTERN_FOLLOWED)
    assert proof.tally.silent == proof.tally.must_be_silent >= 5
    assert proof.tally.monitors_answered >= 4
    assert proof.tally.rirs >= 2
    assert proof.tally.bound <= 1e-6


@pytest.mark.parametrize(
    "name", ["chrony-untouched-6", "ntpsec-untouched-4-loss", "ntpsec-some-6", "chrony-other-family"]
)
def test_a_refutation_shows_the_very_packet_that_was_on_the_wire(endings: Endings, name: str) -> None:
    ending = endings[name].result()
    judgement = ending.closed.judgement
    assert judgement.refuted_by is not None, judgement
    assert judgement.sighting is not None
    seen, by = judgement.sighting, judgement.refuted_by
    assert (judgement.reason, seen.round, len(ending.closed.rounds)) == (Reason.ANSWERED_WHERE_SILENCE_WAS_ASKED, 0, 1)
    assert (by.role, seen.outcome, len(seen.packet)) == (Role.MUST_BE_BLOCKED, Outcome.REPLIED, HEADER_BYTES)
    assert seen.source == by.source
    assert by.source in _open(ending, name)
    host = ending.told.product.probes[by.vantage]
    assert by.source in (host.ipv4, host.ipv6)
    asked = [packet[-HEADER_BYTES:] for packet in ending.packets if _goes(packet, by.source, ending.closed)]
    assert seen.packet[_ORIGIN] in [request[_TRANSMIT] for request in asked]
    answers = [packet for packet in ending.packets if packet.endswith(seen.packet)]
    assert [_goes(packet, ending.closed.target.address, by.source) for packet in answers] == [True]


def _open(ending: Ending, name: str) -> list[str]:
    return ending.told.verifiers[:2] if name == "ntpsec-some-6" else ending.told.verifiers


def _goes(packet: bytes, source: str, destination: Snapshot | str) -> bool:
    """Whether an IP packet goes from one address to another, or to the target of a verification."""
    to = destination if isinstance(destination, str) else destination.target.address
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    start = 8 if family == socket.AF_INET6 else 12
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, to)
    return packet[start : start + len(addresses)] == addresses


def test_a_witness_that_refutes_stays_unnamed(endings: Endings) -> None:
    ending = endings["ntpsec-untouched-allow-only"].result()
    judgement = ending.closed.judgement
    assert judgement.refuted_by is not None, judgement
    assert judgement.sighting is not None
    assert (judgement.refuted_by.role, judgement.sighting.round) == (Role.WITNESS, 0)
    assert judgement.refuted_by.vantage not in ending.told.product.probes
    assert (judgement.refuted_by.source, judgement.sighting.source) == ("", "")
