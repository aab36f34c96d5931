"""Settings run by default, come from file and environment, and say what is wrong with them."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from poolproof.target import Target
from probe.settings import ProbeSettings, SettingsError, TripwireMode, load

LEAST = {"POOLPROOF_PROBE_VANTAGE": "ams1", "POOLPROOF_PROBE_IPV4": "192.0.2.7"}


def test_a_name_and_an_address_are_enough() -> None:
    tree = load(LEAST)
    assert (tree.vantage, tree.ipv4, tree.ipv6, tree.ipv6_prefix) == ("ams1", "192.0.2.7", None, None)
    assert tree.guard.allow_ports == {123}
    assert tree.guard.allow_networks == ()
    assert len(tree.control.servers) >= 2
    assert tree.version


def test_the_environment_wins_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "probe.toml"
    file.write_text(
        """
        vantage = "from-file"
        ipv6_prefix = "2001:db8:7::/64"
        [guard]
        allow_ports = [123, 11123]
        allow_networks = ["127.0.0.0/8", "::1/128"]
        max_jobs = 7
        [control]
        servers = ["127.0.0.9:11123", "[::1]:11124"]
        [journal]
        directory = "/var/lib/poolproof"
        [tripwire]
        enabled = "yes"
        """
    )
    environment = {**LEAST, "POOLPROOF_PROBE_FILE": str(file), "POOLPROOF_PROBE_GUARD_MAX_JOBS": "9"}
    tree = load(environment)
    assert tree.vantage == "ams1"
    assert tree.ipv6_prefix == ipaddress.IPv6Network("2001:db8:7::/64")
    assert tree.guard.allow_ports == {123, 11123}
    assert tree.guard.allow_networks == (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert tree.guard.max_jobs == 9
    assert tree.control.servers == (Target("127.0.0.9", 11123), Target("::1", 11124))
    assert tree.journal.directory == Path("/var/lib/poolproof")
    assert tree.tripwire.enabled is TripwireMode.YES


def test_lists_in_the_environment_are_separated_by_commas() -> None:
    tree = load(
        {
            **LEAST,
            "POOLPROOF_PROBE_GUARD_ALLOW_NETWORKS": "127.0.0.0/8, 10.0.0.0/8",
            "POOLPROOF_PROBE_CONTROL_SERVERS": "192.0.2.1,192.0.2.2:11123",
        }
    )
    assert tree.guard.allow_networks == (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8"))
    assert tree.control.servers == (Target("192.0.2.1"), Target("192.0.2.2", 11123))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"VANTAGE": ""}, "vantage: missing"),
        ({"IPV4": ""}, "give at least one address"),
        ({"IPV4": "2001:db8::1"}, "ipv4: '2001:db8::1' is not an IPV4 address"),
        ({"IPV6": "2001:DB8::1"}, "ipv6: '2001:DB8::1' is not an IPV6 address in canonical form"),
        ({"IPV6_PREFIX": "2001:db8::/120"}, "too long; give /112 or shorter"),
        ({"IPV6_PREFIX": "2001:db8::1/64"}, "ipv6_prefix: cannot read '2001:db8::1/64'"),
        ({"GUARD_MAX_JBS": "1"}, "guard.max_jbs: no such setting; there are control.lead_ns"),
        ({"GUARD_MAX_JOBS": "0"}, "guard.max_jobs: cannot read '0': give a whole number above zero"),
        ({"GUARD_MAX_JOBS": "many"}, "guard.max_jobs: cannot read 'many'"),
        ({"GUARD_ALLOW_PORTS": "123,65536"}, "guard.allow_ports: cannot read"),
        ({"GUARD_ALLOW_NETWORKS": "127.0.0.1/8"}, "guard.allow_networks: cannot read '127.0.0.1/8'"),
        ({"TRIPWIRE_ENABLED": "true"}, "tripwire.enabled: cannot read 'true': give auto, yes, no"),
        ({"TRIPWIRE_MAX_WATCHES": "0"}, "tripwire.max_watches: cannot read '0'"),
        ({"CONTROL_SERVERS": "time.example"}, "control.servers: cannot read 'time.example'"),
        ({"CONTROL_SERVERS": "2606:4700:f1::1"}, "none is IPV4, but this probe sends from 192.0.2.7"),
        ({"CONTROL_TRIES": "33"}, "33 tries of 4 servers are 132 exchanges"),
    ],
)
def test_what_is_wrong_is_named_with_its_value(changes: dict[str, str], words: str) -> None:
    environment = {**LEAST, **{f"POOLPROOF_PROBE_{name}": value for name, value in changes.items()}}
    with pytest.raises(SettingsError) as caught:
        load(environment)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vantage = 7", "vantage: cannot read 7: give text in quotes"),
        ("[guard]\nmax_jobs = true", "guard.max_jobs: cannot read True"),
        ("[guard]\nallow_ports = 123", "guard.allow_ports: cannot read 123: give a list"),
        ("[tripwire]\nenabled = false", "tripwire.enabled: cannot read False: give auto, yes, no"),
        ("[gaurd]\nmax_jobs = 1", "gaurd.max_jobs: no such setting"),
        ("vantage = ", "settings file"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_too(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "probe.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load({}, file)
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load(LEAST, tmp_path / "none.toml")


def test_the_rest_of_the_environment_is_nobodys_business() -> None:
    assert isinstance(load({**LEAST, "PATH": "/bin", "POOLPROOF_COORDINATOR_X": "1"}), ProbeSettings)
