"""Instructions for owners: golden texts, and what must hold for any cohort.

After a change that is meant, write the golden texts anew and read the difference:
`python -m tests.kernel.test_instructions`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import json
import re
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.fleet import Perspective, Role
from poolproof.instructions import Instructions, InvalidRequestError, Request, Software, Step, render, write
from poolproof.instructions.model import Network
from poolproof.target import Family, Target
from poolproof.variant import Variant
from tests.kernel.instruction_cases import (
    MONITORS,
    TARGETS,
    VERIFIERS,
    monitors,
    perspectives,
    request,
    verifiers,
    ways,
)

GOLDEN = Path(__file__).parent / "golden" / "instructions"
CASES = tuple(itertools.product(Software, Variant, Family))
CONSTANTS = {
    *("127.0.0.1", "127.0.0.0/8", "0.0.0.0/0", "::/0", "::1", "::1/128"),  # loopback, and everybody
    *("2000::/3", "fc00::/7", "fe80::/10", "::ffff:0:0/96"),  # ntpd-rs: everybody of one family
}
ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]*:[0-9a-f:]*:[0-9a-f.:]*)(?:/\d+)?(?![\w:])")


def golden(software: Software, variant: Variant, family: Family) -> Path:
    return GOLDEN / f"{software.value}-{variant.value}-ipv{family.value}.txt"


def pasted(instructions: Instructions, *, undo: bool = True) -> str:
    """All that an owner puts into a file or a shell, and tables."""
    steps = (*instructions.steps, *instructions.undo) if undo else instructions.steps
    return "\n".join(line for step in steps for line in (*step.lines, *step.commands, *step.check))


def networks_in(text: str) -> set[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """All addresses and prefixes in a text but those that every text may have; masks and mapped forms undone."""
    text = re.sub(r"::ffff:(\d+\.\d+\.\d+\.\d+)/128", r"\1", text)
    text = re.sub(
        r"([0-9a-f:]+) mask ([0-9a-f:]+)",
        lambda found: f"{found[1]}/{bin(int(ipaddress.IPv6Address(found[2]))).count('1')}",
        text,
    )
    return {ipaddress.ip_network(found) for found in ADDRESS.findall(text) if found not in CONSTANTS}


@pytest.mark.parametrize(("software", "variant", "family"), CASES)
def test_text_is_the_golden_one(software: Software, variant: Variant, family: Family) -> None:
    text = render(write(request(software, variant, family)))
    assert text == golden(software, variant, family).read_text()


def test_no_golden_text_is_left_over() -> None:
    assert set(GOLDEN.iterdir()) == {golden(*case) for case in CASES}


def hosts(family: Family) -> st.SearchStrategy[str]:
    if family is Family.IPV4:
        return st.integers(0xC6120001, 0xC613FFFE).map(lambda number: str(ipaddress.IPv4Address(number)))
    return st.integers(0x2001_0DB8 << 96, (0x2001_0DB8 << 96) + (1 << 95) - 1).map(
        lambda number: str(ipaddress.IPv6Address(number))
    )


def prefixes() -> st.SearchStrategy[str]:
    half = (0x2001_0DB8 << 96) + (1 << 95)
    return st.builds(
        lambda number, length: str(ipaddress.ip_network((half + number, length), strict=False)),
        st.integers(0, (1 << 95) - 1),
        st.integers(48, 112),
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    family = draw(st.sampled_from(Family))
    sources = draw(st.lists(hosts(family), min_size=4, max_size=12, unique=True))
    cut = draw(st.integers(1, len(sources) - 2))
    blocked = sources[cut + 1 :]
    if family is Family.IPV6:
        blocked += draw(st.lists(prefixes(), max_size=3, unique=True))
    return Request(
        draw(st.sampled_from(Software)),
        draw(st.sampled_from(Variant)),
        Target(sources[0], draw(st.sampled_from((123, 1123, 65535)))),
        monitors(*sources[1 : cut + 1]),
        verifiers(*blocked),
        ways(*blocked),
    )


@given(requests())
def test_every_assigned_address_is_there_and_no_other(asked: Request) -> None:
    told = asked.verifier_networks if asked.variant is Variant.BLOCK else asked.monitor_networks
    written = write(asked)
    target = {ipaddress.ip_network(asked.target.address)}
    steps = "\n".join(line for step in written.steps for line in (*step.lines, *step.commands))
    assert networks_in(steps) - target == set(told)
    checked = networks_in("\n".join(line for step in written.steps for line in step.check))
    everyone = {*asked.monitor_networks, *told}
    assert all(any(one.subnet_of(whole) for whole in told) for one in checked)  # type: ignore[arg-type]
    assert networks_in(pasted(written)) - target - checked <= everyone
    assert all(network.version == asked.family.value for network in networks_in(pasted(written)))


@given(requests())
def test_undo_takes_away_whatever_the_steps_add(asked: Request) -> None:
    written = write(asked)
    done = "\n".join(line for step in written.steps for line in (*step.lines, *step.commands))
    undone = "\n".join(command for step in written.undo for command in step.commands)
    for table in set(re.findall(r"(?:^|; )(table ip6? poolproof) \{", done, re.MULTILINE)):
        assert f"nft delete {table}" in undone
    for program in set(re.findall(r"^(ip6?tables) -N POOLPROOF", done, re.MULTILINE)):
        for command in ("-D INPUT -j POOLPROOF", "-F POOLPROOF", "-X POOLPROOF"):
            assert f"{program} {command}" in undone
    for mark in set(re.findall(r"(# poolproof-ipv[46])$", done, re.MULTILINE)):
        assert f"/{mark}$/d" in undone
    for denied in re.findall(r"^chronyc deny (.+)$", done, re.MULTILINE):
        assert f"chronyc allow {denied}" in undone
    for route in re.findall(r"^(ip(?: -6)? route) replace (blackhole .+)$", done, re.MULTILINE):
        assert f"{route[0]} del {route[1]}" in undone
    if "systemctl restart" in done:
        assert "systemctl restart" in undone
    changes = any(step.commands or step.file for step in written.steps)
    assert bool(undone) == changes


@given(requests())
def test_every_command_is_a_line_that_a_shell_can_read(asked: Request) -> None:
    commands = "\n".join(
        command for step in (*write(asked).steps, *write(asked).undo) for command in (*step.commands, *step.check)
    )
    assert commands.isascii()
    checked = subprocess.run(["sh", "-n"], input=commands, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@given(requests())
def test_rendered_text_has_every_line_by_itself_and_survives_json(asked: Request) -> None:
    written = write(asked)
    lines = render(written).splitlines()
    for step in (*written.steps, *written.undo):
        for block in (*step.lines, *step.commands, *step.check):
            assert all(line in lines for line in block.splitlines())
    assert json.loads(json.dumps(dataclasses.asdict(written)))["title"] == written.title


@pytest.mark.parametrize("software", [Software.NFTABLES, Software.IPTABLES, Software.OPENNTPD, Software.GENERIC])
@pytest.mark.parametrize("variant", Variant)
def test_firewall_rules_are_for_the_targets_port(software: Software, variant: Variant) -> None:
    text = pasted(write(request(software, variant, Family.IPV4, port=1123)))
    assert "1123" in text
    assert not re.search(r"(?<!\d)123(?!\d)", text)


NTPD_RS = """\
[[source]]
mode = "pool"
address = "ntpd-rs.pool.ntp.org"
count = 4

#[[server]]
#listen = "192.0.2.1:123"

[[server]]
listen = "[::]:123"

  [[server]]
  listen = "127.0.0.1:11123"
"""


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("variant", Variant)
def test_ntpd_rs_gets_its_line_in_each_server_and_loses_it(tmp_path: Path, variant: Variant, family: Family) -> None:
    written = write(request(Software.NTPD_RS, variant, family))
    file = tmp_path / "ntp.toml"
    file.write_text(NTPD_RS)

    def does(steps: Sequence[Step]) -> None:
        for command in (command for step in steps for command in step.commands):
            here = command.replace("/etc/ntpd-rs/ntp.toml", str(file)).partition(" && systemctl")[0]
            if not here.startswith("systemctl"):
                subprocess.run(["sh", "-c", here], check=True)

    for _ in range(2):
        does([step for step in written.steps if not step.text.startswith("Stronger")])
        servers = tomllib.loads(file.read_text())["server"]
        lists = [server["denylist" if variant is Variant.BLOCK else "allowlist"] for server in servers]
        assert [each["action"] for each in lists] == ["ignore", "ignore"]
    # A socket on [::] sees IPv4 clients as ::ffff:a.b.c.d, and ntpd-rs does not unwrap those.
    listed = [ipaddress.ip_network(each) for each in lists[0]["filter"]]
    named, others = (VERIFIERS, MONITORS) if variant is Variant.BLOCK else (MONITORS, VERIFIERS)
    assert all(seen(source, listed) == {True} for source in named[family])
    assert all(seen(source, listed) == {False} for source in others[family])
    other_family = MONITORS[Family.IPV6 if family is Family.IPV4 else Family.IPV4]
    assert all(seen(source, listed) == {variant is Variant.ALLOW_ONLY} for source in other_family)
    does([step for step in written.steps if step.text.startswith("Stronger")])
    action = "deny" if variant is Variant.BLOCK else "ignore"
    assert re.findall(r'action = "(\w+)"', file.read_text()) == [action, action]
    does(written.undo)
    assert file.read_text() == NTPD_RS


def seen(source: str, listed: Sequence[Network]) -> set[bool]:
    """Whether a filter matches a source, in each form in which a socket may show it."""
    network = ipaddress.ip_network(source)
    forms = [network.network_address]
    if network.version == 4:
        forms.append(ipaddress.IPv6Address(f"::ffff:{source}"))
    return {any(form in each for each in listed) for form in forms}


@pytest.mark.parametrize("software", Software)
def test_allow_only_names_no_verifier_and_is_strong(software: Software) -> None:
    for family in Family:
        written = write(request(software, Variant.ALLOW_ONLY, family))
        text = render(written)
        assert not any(source in text for source in VERIFIERS[family])
        assert all(source in text for source in MONITORS[family])
        assert "strong" in written.assurance_note
        assert "medium" not in text


@pytest.mark.parametrize("software", Software)
def test_block_offers_a_stronger_way_unless_prefixes_are_strong_already(software: Software) -> None:
    addresses = write(request(software, Variant.BLOCK, Family.IPV4))
    assert sum(step.text.startswith("Stronger") for step in addresses.steps) == 1
    assert "medium" in addresses.assurance_note
    prefix = write(
        Request(
            software,
            Variant.BLOCK,
            Target(TARGETS[Family.IPV6]),
            monitors("2001:db8:1::1"),
            verifiers("2001:db8:7::/64", "2001:db8:8::/56"),
            ways("2001:db8:7::/64", "2001:db8:8::/56"),
        )
    )
    assert not any(step.text.startswith("Stronger") for step in prefix.steps)
    assert prefix.assurance_note.startswith("A proof is strong")


V4, V6 = TARGETS[Family.IPV4], TARGETS[Family.IPV6]


@pytest.mark.parametrize(
    ("variant", "target", "allowed", "blocked", "says"),
    [
        (Variant.BLOCK, V4, (), verifiers("203.0.113.9"), "monitors: give at least one"),
        (Variant.BLOCK, V4, monitors("203.0.113.1"), (), "verifiers: the variant block needs at least one"),
        (
            Variant.BLOCK,
            V4,
            monitors("203.0.113.1"),
            perspectives(Role.WITNESS, ["203.0.113.9"]),
            "verifiers: vantage-0 has the role witness; give must-be-blocked only",
        ),
        (
            Variant.ALLOW_ONLY,
            V4,
            perspectives(Role.WITNESS, ["203.0.113.1"]),
            (),
            "monitors: vantage-0 has the role witness; give allowed-monitor only",
        ),
        (Variant.BLOCK, V4, monitors("2001:db8::1"), verifiers("203.0.113.9"), "cannot reach 198.18.0.1; give an IPv4"),
        (Variant.BLOCK, V6, monitors("2001:db8::1"), verifiers("203.0.113.9"), "give an IPv6 source"),
        (
            Variant.BLOCK,
            V4,
            monitors("203.0.113.1"),
            verifiers("203.0.113.9; reboot"),
            "verifiers: vantage-0 has the source '203.0.113.9; reboot'",
        ),
        (Variant.BLOCK, V6, monitors("2001:DB8::1"), verifiers("2001:db8::9"), "its canonical form is 2001:db8::1"),
        (Variant.BLOCK, V6, monitors("2001:db8::1"), verifiers("2001:db8:7::1/64"), "has host bits set"),
        (
            Variant.BLOCK,
            V6,
            monitors("2001:db8:7::1"),
            verifiers("2001:db8:7::/64"),
            "monitors: 2001:db8:7::1 overlaps the verifier 2001:db8:7::/64",
        ),
    ],
)
def test_requests_that_nobody_could_follow_are_refused(
    variant: Variant,
    target: str,
    allowed: tuple[Perspective, ...],
    blocked: tuple[Perspective, ...],
    says: str,
) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(says)):
        Request(Software.CHRONY, variant, Target(target), allowed, blocked, ways(*(each.source for each in blocked)))


def test_each_verifier_has_its_way_to_be_refused() -> None:
    with pytest.raises(InvalidRequestError, match="ways: 0 for 1 verifiers; give one for each"):
        Request(Software.CHRONY, Variant.BLOCK, Target(V4), monitors("203.0.113.1"), verifiers("203.0.113.9"))


@pytest.mark.parametrize("software", [each for each in Software if each is not Software.NTPD_RS])
@pytest.mark.parametrize("family", Family)
def test_the_stronger_step_refuses_in_two_ways(software: Software, family: Family) -> None:
    asked = request(software, Variant.BLOCK, family)
    (stronger,) = [step for step in write(asked).steps if step.text.startswith("Stronger")]
    told = " ".join((stronger.text, *stronger.commands))
    for word in ("prohibited", "unreachable") if software is Software.GENERIC else ("prohibited", "port-unreachable"):
        assert word in told
    assert all(source in told for source in VERIFIERS[family])


if __name__ == "__main__":
    for each in CASES:
        golden(*each).write_text(render(write(request(*each))))
