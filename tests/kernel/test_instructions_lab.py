"""The instructions, pasted into a shell of a real host: who is silenced, who is answered, and that undo undoes.

Everything is run as an owner would, but for two things: the daemon's files lie elsewhere, and there is no systemd.
"""

from __future__ import annotations

import itertools
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from poolproof.instructions import Instructions, Request, Software, Step, render, write
from poolproof.ntp import client_request
from poolproof.refusal import RefusalKind
from poolproof.target import Family, Target, within
from poolproof.variant import Variant
from tests.kernel.instruction_cases import monitors, verifiers, ways
from tests.lab import daemons
from tests.lab.ask import Heard, ask, ask_all
from tests.lab.net import Host, Network
from tests.lab.packages import program, tool

pytestmark = pytest.mark.lab

FAMILIES = pytest.mark.parametrize("family", Family)
FIREWALLS = pytest.mark.parametrize("software", [Software.NFTABLES, Software.IPTABLES, Software.OPENNTPD])
OWNERS_FIREWALL = """
table inet owner {
  chain input {
    type filter hook input priority filter; policy accept;
    ct state established,related accept
    udp dport 123 accept
  }
}
"""
OWNERS_IPTABLES = (
    "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "-A INPUT -p udp --dport 123 -j ACCEPT",
)
"""What an owner may have: rules that accept NTP, and would before any rule that is appended to the same chain."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Addresses of one family.

    Attributes:
        target: the server.
        upstream: its time source.
        monitors: must be answered.
        verifiers: as the owner is told them.
        blocked_from: where verifiers ask from.
        stranger: neither; a witness or an ordinary client.
    """

    target: str
    upstream: str
    monitors: tuple[str, ...]
    verifiers: tuple[str, ...]
    blocked_from: tuple[str, ...]
    stranger: str


COHORTS = {
    Family.IPV4: Cohort(
        "198.18.0.1",
        "198.18.9.1",
        ("203.0.113.1", "203.0.113.2"),
        ("203.0.113.9", "203.0.113.10"),
        ("203.0.113.9", "203.0.113.10"),
        "203.0.113.77",
    ),
    Family.IPV6: Cohort(
        "2001:db8::1",
        "2001:db8:9::1",
        ("2001:db8:1::1", "2001:db8:1::2"),
        ("2001:db8:1::9", "2001:db8:7::/64"),
        ("2001:db8:1::9", "2001:db8:7::1", "2001:db8:7:0:8000::42"),
        "2001:db8:1::77",
    ),
}
OTHER = {Family.IPV4: Family.IPV6, Family.IPV6: Family.IPV4}


class World:
    """A target on both families, its time source, and one host that has the addresses of everybody else."""

    def __init__(self, net: Network) -> None:
        four, six = COHORTS[Family.IPV4], COHORTS[Family.IPV6]
        self.target = net.host("target", ipv4=four.target, ipv6=six.target)
        self.upstream = net.host("upstream", ipv4=four.upstream, ipv6=six.upstream)
        self.others = net.host(
            "others",
            ipv4=[*four.monitors, *four.blocked_from, four.stranger],
            ipv6=[*six.monitors, "2001:db8:1::9", six.stranger],
            prefix="2001:db8:7::/64",
        )
        self.target.sysctl("net.ipv4.icmp_ratelimit", 0)
        self.target.sysctl("net.ipv6.icmp.ratelimit", 0)

    def hear(self, family: Family, sources: Sequence[str]) -> tuple[Heard, ...]:
        """What each of the sources hears, asked at the same time."""
        return ask_all([(self.others, source) for source in sources], COHORTS[family].target)

    def answered(self, family: Family) -> set[str]:
        """Who of a family gets an answer."""
        cohort = COHORTS[family]
        sources = (*cohort.monitors, *cohort.blocked_from, cohort.stranger)
        heard = self.hear(family, sources)
        return {source for source, each in zip(sources, heard, strict=True) if each.answer is not None}


def everybody(family: Family) -> set[str]:
    cohort = COHORTS[family]
    return {*cohort.monitors, *cohort.blocked_from, cohort.stranger}


_CODES = {
    Family.IPV4: {RefusalKind.ADMIN_PROHIBITED: (3, 13), RefusalKind.PORT_UNREACHABLE: (3, 3)},
    Family.IPV6: {RefusalKind.ADMIN_PROHIBITED: (1, 1), RefusalKind.PORT_UNREACHABLE: (1, 4)},
}


def way_of(source: str, family: Family) -> RefusalKind:
    """In which way an address shall be refused."""
    told = COHORTS[family].verifiers
    return next(way for verifier, way in zip(told, ways(*told), strict=True) if within(source, verifier))


@pytest.fixture
def world(net: Network) -> Iterator[World]:
    yield World(net)


def instructions(software: Software, variant: Variant, family: Family) -> Instructions:
    cohort = COHORTS[family]
    return write(
        Request(
            software,
            variant,
            Target(cohort.target),
            monitors(*cohort.monitors),
            verifiers(*cohort.verifiers),
            ways(*cohort.verifiers),
        )
    )


class Owner:
    """Somebody at the target's root shell."""

    def __init__(self, host: Host, daemon: daemons.Daemon | None = None, file: str = "") -> None:
        self._host = host
        self._daemon = daemon
        self._file = file

    def does(self, steps: Sequence[Step]) -> None:
        """Pastes what the steps say, and looks at what they say to check."""
        for step in steps:
            if step.file is not None:
                self.runs("\n".join((f"cat >> {step.file} <<'END'", *step.lines, "END")))
            for command in step.commands:
                if command.startswith("systemctl restart "):
                    assert self._daemon is not None
                    self._daemon.restart()
                else:
                    self.runs(command)

    def sees(self, step: Step) -> str:
        """What the step's checks print."""
        return "".join(self.runs(command, check=False) for command in step.check)

    def runs(self, command: str, *, check: bool = True) -> str:
        script = ["PATH=$PATH:/usr/sbin:/sbin"]
        if isinstance(self._daemon, daemons.Chrony):
            socket = shlex.quote(str(self._daemon.folder / "socket"))
            script.append(f'chronyc() {{ {program("chrony", "chronyc")} -h {socket} "$@"; }}')
        if self._daemon is not None and self._file:
            command = command.replace(self._file, str(self._daemon.configuration))
        return self._host.run([tool("sh"), "-c", "\n".join((*script, command))], check=check).stdout


def expected(variant: Variant, family: Family) -> set[str]:
    cohort = COHORTS[family]
    if variant is Variant.ALLOW_ONLY:
        return set(cohort.monitors)
    return {*cohort.monitors, cohort.stranger}


def parts(written: Instructions) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps without the stronger one and the last resorts, and the stronger one."""
    plain = tuple(step for step in written.steps if not step.text.startswith(("Stronger", "Only if", "Or, ")))
    return plain, tuple(step for step in written.steps if step.text.startswith("Stronger"))


@FAMILIES
@pytest.mark.parametrize("variant", Variant)
@FIREWALLS
def test_firewall_silences_whom_it_should_and_undo_leaves_nothing(
    world: World, software: Software, variant: Variant, family: Family
) -> None:
    written = instructions(software, variant, family)
    plain, stronger = parts(written)
    world.target.nft(OWNERS_FIREWALL)
    for program_name, rule in itertools.product(("iptables", "ip6tables"), OWNERS_IPTABLES):
        world.target.run([tool(program_name), *rule.split()])
    owner = Owner(world.target)
    rules = rules_of(world.target)
    with daemons.chrony(world.target):
        assert world.answered(family) == everybody(family)
        for _ in range(2):  # pasted twice: as once
            owner.does(plain)
            assert world.answered(family) == expected(variant, family)
        assert world.answered(OTHER[family]) == everybody(OTHER[family])
        assert "drop" in owner.sees(plain[-1]).lower()
        assert ask(world.target, COHORTS[family].target).answer is not None  # over loopback
        silent = world.hear(family, COHORTS[family].blocked_from)
        assert all(heard.silent for heard in silent)
        if variant is Variant.BLOCK:
            owner.does(stronger)
            refused = world.hear(family, COHORTS[family].blocked_from)
            assert {(heard.icmp.type, heard.icmp.code) for heard in refused if heard.icmp} == set(
                _CODES[family].values()
            )
            for heard, source in zip(refused, COHORTS[family].blocked_from, strict=True):
                assert heard.icmp is not None
                assert (heard.icmp.type, heard.icmp.code) == _CODES[family][way_of(source, family)]
            assert all(heard.icmp and heard.icmp.quoted == heard.request for heard in refused)
            assert world.answered(family) == expected(variant, family)
        owner.does(written.undo)
        assert world.answered(family) == everybody(family)
    assert rules_of(world.target) == rules


def rules_of(host: Host) -> str:
    """All rules but the base chains that iptables makes on first use and leaves empty."""
    ruleset = host.run([tool("nft"), "list", "ruleset"]).stdout
    kept = [table for table in ruleset.split("\n}\n") if "table ip filter" not in table and "ip6 filter" not in table]
    iptables = "".join(host.run([tool(name), "-S"]).stdout for name in ("iptables", "ip6tables"))
    return "\n}\n".join(kept) + iptables


@FAMILIES
@pytest.mark.parametrize("software", [Software.NFTABLES, Software.IPTABLES])
def test_allow_only_firewall_lets_answers_of_time_sources_through_to_port_123(
    world: World, software: Software, family: Family
) -> None:
    cohort = COHORTS[family]
    owner = Owner(world.target)
    with daemons.chrony(world.upstream), world.target.udp(cohort.target, 123) as asking:
        owner.does(parts(instructions(software, Variant.ALLOW_ONLY, family))[0])
        asking.settimeout(2.0)
        asking.sendto(client_request(0x0123456789ABCDEF, 4), (cohort.upstream, 123))
        answer, _ = asking.recvfrom(2048)
    assert answer[24:32] == bytes.fromhex("0123456789ABCDEF")


@FAMILIES
def test_iptables_without_u32_tells_answers_by_connection_tracking(world: World, family: Family) -> None:
    written = instructions(Software.IPTABLES, Variant.ALLOW_ONLY, family)
    with_u32, tracked = written.steps
    no_u32 = Step("", commands=tuple(command for command in with_u32.commands if "u32" not in command))
    owner = Owner(world.target)
    with daemons.chrony(world.target):
        owner.does((no_u32, tracked))
        assert world.answered(family) == expected(Variant.ALLOW_ONLY, family)
        owner.does(written.undo)
        assert world.answered(family) == everybody(family)


@FAMILIES
@pytest.mark.parametrize("variant", Variant)
def test_chrony_does_it_without_a_restart(world: World, variant: Variant, family: Family) -> None:
    written = instructions(Software.CHRONY, variant, family)
    plain, stronger = parts(written)
    with daemons.chrony(world.target) as daemon:
        owner, pid = Owner(world.target, daemon), daemon.pid
        owner.does(plain)
        assert world.answered(family) == expected(variant, family)
        assert world.answered(OTHER[family]) == everybody(OTHER[family])
        cohort = COHORTS[family]
        denied, allowed = (len(cohort.verifiers), 0) if variant is Variant.BLOCK else (1, len(cohort.monitors))
        seen = owner.sees(plain[-1])
        assert (seen.count("209 Access denied"), seen.count("208 Access allowed")) == (denied, allowed)
        owner.does(stronger)
        if stronger:
            assert all(heard.icmp is not None for heard in world.hear(family, cohort.blocked_from))
            assert world.answered(family) == expected(variant, family)
        owner.does(written.undo if stronger else written.undo[:1])
        assert world.answered(family) == everybody(family)
        assert daemon.pid == pid


@FAMILIES
@pytest.mark.parametrize("variant", Variant)
def test_ntpsec_obeys_the_lines_and_forgets_them(world: World, variant: Variant, family: Family) -> None:
    written = instructions(Software.NTPSEC, variant, family)
    plain, stronger = parts(written)
    with daemons.ntpsec(world.target) as daemon:
        before = daemon.configuration.read_text()
        daemon.configuration.write_text(before.removesuffix("\n"))  # as some editors leave it
        owner = Owner(world.target, daemon, "/etc/ntpsec/ntp.conf")
        for _ in range(2):
            owner.does(plain)
            assert world.answered(family) == expected(variant, family)
        assert world.answered(OTHER[family]) == everybody(OTHER[family])
        lines = next(step.lines for step in plain if step.lines)
        assert owner.sees(plain[1]).splitlines() == list(lines)
        assert "syntax error" not in daemon.log
        owner.does(stronger)
        if stronger:
            assert all(heard.icmp is not None for heard in world.hear(family, COHORTS[family].blocked_from))
        owner.does(written.undo)
        assert world.answered(family) == everybody(family)
        assert daemon.configuration.read_text() == before


@FAMILIES
def test_ntpsec_that_answers_monitors_only_still_gets_its_own_time(world: World, family: Family) -> None:
    written = instructions(Software.NTPSEC, Variant.ALLOW_ONLY, family)
    cohort = COHORTS[family]
    own = ("tos minclock 1 minsane 1", f"server {cohort.upstream} iburst minpoll 3 maxpoll 3")
    with (
        daemons.chrony(world.upstream),
        daemons.Ntpsec(world.target, own, reference=False) as daemon,
    ):
        Owner(world.target, daemon, "/etc/ntpsec/ntp.conf").does(written.steps)
        deadline = time.monotonic() + 40
        while not (heard := ask(world.others, cohort.target, source=cohort.monitors[0])).synchronised:
            assert time.monotonic() < deadline, f"still not synchronised: {heard}\n{daemon.log}"
            time.sleep(0.05)  # paces the questions; the loop ends by the answer or the deadline
        assert ask(world.others, cohort.target, source=cohort.stranger).silent


@FAMILIES
def test_black_hole_routes_silence_the_verifiers_alone(world: World, family: Family) -> None:
    written = instructions(Software.GENERIC, Variant.BLOCK, family)
    owner = Owner(world.target)
    with daemons.chrony(world.target):
        owner.does([step for step in written.steps if step.text.startswith("Or, ")])
        assert world.answered(family) == expected(Variant.BLOCK, family)
        owner.does(written.undo)
        assert world.answered(family) == everybody(family)


def test_both_families_can_be_verified_at_the_same_time(world: World) -> None:
    """The steps for one target leave those for the other of the same host in force, and so does undoing them."""
    with daemons.chrony(world.target):
        owner = Owner(world.target)
        by_family = {family: instructions(Software.NFTABLES, Variant.BLOCK, family) for family in Family}
        for written in by_family.values():
            owner.does(written.steps)
        assert all(world.answered(family) == expected(Variant.BLOCK, family) for family in Family)
        owner.does(by_family[Family.IPV4].undo)
        assert world.answered(Family.IPV4) == everybody(Family.IPV4)
        assert world.answered(Family.IPV6) == expected(Variant.BLOCK, Family.IPV6)


@FAMILIES
def test_a_table_loads_from_the_rendered_text(world: World, family: Family) -> None:
    text = render(instructions(Software.NFTABLES, Variant.ALLOW_ONLY, family))
    begin = text.index("nft -f - <<'END'")
    with daemons.chrony(world.target):
        Owner(world.target).runs(text[begin : text.index("\nEND\n", begin) + 5])
        assert world.answered(family) == expected(Variant.ALLOW_ONLY, family)
