"""The whole product against real daemons: owners who do what they are told, and all the others.

One fleet of twelve probes serves all stories at once, because a story takes half a minute of spacing and no work. Each
has a server of its own, most of them one for IPv4 and IPv6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from coordinator.cli.snapshot import Snapshot
from poolproof.challenge import quorum
from poolproof.fleet import Role
from poolproof.outcome import Outcome
from poolproof.policy import Assurance
from poolproof.variant import Variant
from poolproof.verdict import Ceiling, Reason
from tests.lab import impair
from tests.lab.daemons import Chrony, Daemon, Ntpsec, Openntpd
from tests.lab.net import Host, Network
from tests.lab.packages import program
from tests.lab.product import Product

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("product"), pytest.mark.timeout(400)]

BLOCK, ALLOW_ONLY = Variant.BLOCK, Variant.ALLOW_ONLY
_LOSS_PERCENT = 5


@dataclass(frozen=True)
class Owner:
    """Somebody with a server of their own.

    Attributes:
        daemon: what they run.
        variant: what they request.
        act: what they do between the challenge and "ready".
        ipv6: by which family.
        loss: whether the paths to the server lose 5 % each way.
        during: what happens after "ready".
    """

    daemon: type[Daemon]
    variant: Variant
    act: Callable[[Story], None]
    ipv6: bool = False
    loss: bool = False
    during: Callable[[Story], None] | None = None


@dataclass
class Story:
    """An owner in the lab, with a challenge to enact."""

    owner: Owner
    product: Product
    host: Host
    daemon: Daemon
    told: Snapshot
    seen: list[Snapshot] = field(default_factory=list)

    def sources(self, role: Role = Role.MUST_BE_BLOCKED) -> list[str]:
        return [line.view.source for line in self.told.lines if line.view.role is role]

    def shell(self, command: str) -> None:
        """Run a command as the owner would; daemons' tools are those of the lab."""
        if command.startswith("chronyc "):
            assert isinstance(self.daemon, Chrony)
            self.daemon.chronyc(*command.split()[1:])
        elif command.startswith(("nft ", "ip ")):
            self.host.run(["sh", "-c", command])
        else:
            raise AssertionError(f"the lab does not know how an owner runs {command!r}")


def nothing(story: Story) -> None:
    """Nobody configured anything."""


def daemon_acl(story: Story) -> None:
    """The shown lines, in the daemon's own configuration; without the stronger alternative."""
    told = story.product.instructions(story.told.id, "chrony" if isinstance(story.daemon, Chrony) else "ntpsec")
    steps = [step for step in told.steps if not step.text.startswith("Stronger")]
    if isinstance(story.daemon, Chrony):
        for step in steps:
            for command in step.commands:
                story.shell(command)
    else:
        story.daemon.restart([line for step in steps if step.file for line in step.lines])


def firewall(stronger: bool) -> Callable[[Story], None]:
    """The shown nftables table; with the step that rejects, or without it."""

    def act(story: Story) -> None:
        for step in story.product.instructions(story.told.id, "nftables").steps:
            if step.text.startswith("Stronger") and not stronger:
                continue
            for command in step.commands:
                story.shell(command)

    return act


def rejecting(story: Story) -> None:
    """A firewall that rejects whole prefixes, for which the instructions ask no such thing: silence would be strong."""
    impair.reject(story.host, *story.sources())


def some_only(story: Story) -> None:
    """Blocks all verifiers but two."""
    impair.drop(story.host, *story.sources()[:-2])


def wrong_family(story: Story) -> None:
    """Blocks the probes' addresses of the other family: the family under test stays open."""
    impair.drop(story.host, *(host.ipv6 for host in story.product.probes.values()))


def outage(story: Story) -> None:
    """The server goes down after the first round that counts, and comes back when it has been noticed."""
    product, verification = story.product, story.told.id
    product.until(verification, lambda seen: any(line.reason is None for line in seen.rounds))
    story.daemon.stop()
    story.seen.append(product.until(verification, lambda seen: seen.judgement.reason is Reason.TARGET_DOWN))
    story.daemon.start()


OWNERS: dict[str, Owner] = {
    "ntpsec-acl": Owner(Ntpsec, BLOCK, daemon_acl),
    "chrony-acl": Owner(Chrony, BLOCK, daemon_acl),
    "openntpd-drop": Owner(Openntpd, BLOCK, firewall(stronger=False)),
    "chrony-drop-loss": Owner(Chrony, BLOCK, firewall(stronger=False), loss=True),
    "ntpsec-reject": Owner(Ntpsec, BLOCK, firewall(stronger=True)),
    "chrony-reject-6": Owner(Chrony, BLOCK, rejecting, ipv6=True),
    "chrony-prefix-6": Owner(Chrony, BLOCK, daemon_acl, ipv6=True),
    "ntpsec-prefix-6-loss": Owner(Ntpsec, BLOCK, daemon_acl, ipv6=True, loss=True),
    "chrony-allow-only": Owner(Chrony, ALLOW_ONLY, daemon_acl),
    "ntpsec-allow-only": Owner(Ntpsec, ALLOW_ONLY, daemon_acl),
    "chrony-allow-only-6-loss": Owner(Chrony, ALLOW_ONLY, daemon_acl, ipv6=True, loss=True),
    "ntpsec-untouched": Owner(Ntpsec, BLOCK, nothing),
    "chrony-untouched-6-loss": Owner(Chrony, BLOCK, nothing, ipv6=True, loss=True),
    "openntpd-untouched-allow-only": Owner(Openntpd, ALLOW_ONLY, nothing),
    "chrony-some-only": Owner(Chrony, BLOCK, some_only),
    "chrony-wrong-family": Owner(Chrony, BLOCK, wrong_family),
    "ntpsec-outage": Owner(Ntpsec, BLOCK, daemon_acl, during=outage),
}


@pytest.fixture(scope="module")
def stories() -> Iterator[dict[str, Future[tuple[Story, Snapshot]]]]:
    """All owners at once; each test asks for the end of one story."""
    program("chrony", "chronyd")
    with Network() as net, Product(net) as product, ThreadPoolExecutor(len(OWNERS)) as pool:
        hosts = {
            name: net.host(f"owner{number}", ipv4=f"198.18.2.{number}", ipv6=f"2001:db8:3::{number:x}")
            for number, name in enumerate(OWNERS, 1)
        }
        for name, owner in OWNERS.items():
            if owner.loss:
                impair.loss(net, _LOSS_PERCENT, destination=hosts[name])
                impair.loss(net, _LOSS_PERCENT, source=hosts[name])
        yield {name: pool.submit(_live, owner, product, hosts[name]) for name, owner in OWNERS.items()}


def _live(owner: Owner, product: Product, host: Host) -> tuple[Story, Snapshot]:
    with owner.daemon(host) as daemon:
        target = f"[{host.ipv6}]" if owner.ipv6 else host.ipv4
        story = Story(owner, product, host, daemon, product.challenged(target, owner.variant))
        owner.act(story)
        product.ready(story.told.id)
        if owner.during is not None:
            owner.during(story)
        return story, product.concluded(story.told.id)


Stories = dict[str, "Future[tuple[Story, Snapshot]]"]


@pytest.mark.parametrize(
    ("name", "assurance", "ceiling"),
    [
        ("ntpsec-acl", Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
        ("chrony-acl", Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
        ("openntpd-drop", Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
        ("chrony-drop-loss", Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
        ("ntpsec-reject", Assurance.STRONG, Ceiling.REFUSALS),
        ("chrony-allow-only", Assurance.STRONG, Ceiling.WITNESSES),
        ("ntpsec-allow-only", Assurance.STRONG, Ceiling.WITNESSES),
        ("chrony-allow-only-6-loss", Assurance.STRONG, Ceiling.WITNESSES),
        ("chrony-prefix-6", Assurance.STRONG, Ceiling.PREFIX),
        ("ntpsec-prefix-6-loss", Assurance.STRONG, Ceiling.PREFIX),
        ("ntpsec-outage", Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
    ],
)
def test_an_owner_who_does_what_is_asked_is_proven(
    stories: Stories, name: str, assurance: Assurance, ceiling: Ceiling
) -> None:
    _, ended = stories[name].result()
    assert ended.judgement.proof is not None, ended.judgement
    assert (ended.judgement.proof.assurance, ended.judgement.proof.ceiling) == (assurance, ceiling)
    tally = ended.judgement.tally
    assert tally.silent == tally.must_be_silent >= 5
    assert tally.bound <= 1e-6
    assert tally.monitors_answered >= quorum(tally.monitors)


def test_refusals_over_ipv6_are_strong(stories: Stories) -> None:
    """The verifiers are prefixes, so that silence beside the refusals cannot be forged either."""
    _, ended = stories["chrony-reject-6"].result()
    assert ended.judgement.proof is not None, ended.judgement
    assert ended.judgement.proof.assurance is Assurance.STRONG
    assert ended.judgement.proof.ceiling in (Ceiling.REFUSALS, Ceiling.MIXED)
    seen = {outcome for line in ended.lines for outcome in line.outcomes}
    assert Outcome.REFUSED in seen


@pytest.mark.parametrize(
    "name",
    [
        "ntpsec-untouched",
        "chrony-untouched-6-loss",
        "openntpd-untouched-allow-only",
        "chrony-some-only",
        "chrony-wrong-family",
    ],
)
def test_everybody_else_is_refuted_in_the_first_round(stories: Stories, name: str) -> None:
    story, ended = stories[name].result()
    judgement = ended.judgement
    assert judgement.refuted_by is not None, judgement
    assert judgement.sighting is not None
    assert judgement.sighting.round == 0
    assert len(ended.rounds) == 1
    assert judgement.sighting.outcome in (Outcome.REPLIED, Outcome.UNSYNCHRONISED)
    assert len(judgement.sighting.packet) == 48
    if story.owner.variant is BLOCK:
        assert judgement.refuted_by.source in story.sources()
        assert judgement.sighting.sent_at_ns <= judgement.sighting.received_at_ns


def test_an_owner_who_forgets_two_is_refuted_by_one_of_the_two(stories: Stories) -> None:
    story, ended = stories["chrony-some-only"].result()
    assert ended.judgement.refuted_by is not None
    assert ended.judgement.refuted_by.source in story.sources()[-2:]


def test_an_outage_is_called_one_and_measuring_goes_on(stories: Stories) -> None:
    story, ended = stories["ntpsec-outage"].result()
    assert [seen.judgement.reason for seen in story.seen] == [Reason.TARGET_DOWN]
    assert story.seen[0].state.is_open
    assert any(line.reason is Reason.TARGET_DOWN for line in ended.rounds)


def test_a_verifier_whose_process_is_stopped_proves_nothing_by_its_silence(stories: Stories) -> None:
    """Last of all, because it takes a probe from everybody: its owner leaves open the very verifier that is dead."""
    story = next(iter(stories.values())).result()[0]
    for other in stories.values():
        other.result()
    product, host = story.product, story.host
    with Ntpsec(host) as daemon:
        told = product.challenged(host.ipv6, BLOCK)
        verifiers = [line.view for line in told.lines if line.view.role is Role.MUST_BE_BLOCKED]
        impair.drop(host, *(view.source for view in verifiers[1:]))
        product.freeze(verifiers[0].vantage)
        try:
            product.ready(told.id)
            ended = product.concluded(told.id)
        finally:
            product.thaw(verifiers[0].vantage)
        assert daemon.pid
    assert ended.judgement.proof is None
    assert ended.judgement.reason is Reason.REPORT_MISSING
    assert [view.vantage for view in ended.judgement.about] == [verifiers[0].vantage]
