"""Settings, fleet file, policy file and draw key: what is taken, and what is refused in which words."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from coordinator.draw_key import FILE_NAME, DrawKeyError, draw_key
from coordinator.fleet import FleetError, load_fleet
from coordinator.policy_file import PolicyFileError, load_policy
from coordinator.settings import SettingsError, load
from poolproof.policy import POLICY_2026_11

AMS = '[[vantage]]\nid = "ams1"\nipv4 = "192.0.2.7"\nipv6_prefix = "2001:db8:7::/64"\nasn = 64500\nrir = "ripe"\n'
LHR = '[[vantage]]\nid = "lhr1"\nipv4 = "192.0.2.8"\nasn = 64501\nrir = "ripe"\n'


def test_settings_come_from_defaults_then_file_then_environment(tmp_path: Path) -> None:
    file = tmp_path / "coordinator.toml"
    file.write_text('fleet_file = "fleet.toml"\nlisten = "127.0.0.1:1"\nallow_networks = ["10.0.0.0/8"]\n')
    settings = load({"POOLPROOF_COORDINATOR_LISTEN": "[::1]:0", "OTEL_TRACES_EXPORTER": "none", "HOME": "/"}, file)
    assert settings.fleet_file == tmp_path / "fleet.toml", "relative to the file that names it"
    assert (str(settings.endpoint[0]), settings.endpoint[1]) == ("::1", 0)
    assert str(settings.allow_networks[0]) == "10.0.0.0/8"
    assert settings.otel == {"OTEL_TRACES_EXPORTER": "none"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LISTEN", "192.0.2.1:8443", "allow_plaintext"),
        ("LISTEN", "0.0.0.0:8443", "allow_plaintext"),
        ("LISTEN", "localhost:8443", "give an IPv4 or IPv6 address"),
        ("LISTEN", "127.0.0.1", "the port is missing"),
        ("LISTEN", "127.0.0.1:70000", "1 to 65535"),
        ("STORE", "etcd", "give sqlite or memory"),
        ("SEND_QUEUE", "0", "above zero"),
        ("HEARTBEAT_INTERVAL_NS", "5", "give 100000000"),
        ("ALLOW_PLAINTEXT", "yes", "give true or false"),
        ("ALLOW_NETWORKS", "10.0.0.1/8", "host bits set"),
        ("ALLOW_PORTS", "123,0", "above zero"),
        ("LISTENN", "x", "no such setting"),
        ("FLEET_FILE", "", "give text"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: str, words: str) -> None:
    variables = {"POOLPROOF_COORDINATOR_FLEET_FILE": "f", f"POOLPROOF_COORDINATOR_{name}": value}
    with pytest.raises(SettingsError, match=words) as error:
        load(variables)
    assert name.lower() in str(error.value)


def test_a_listener_for_everybody_takes_an_operators_word() -> None:
    variables = {"FLEET_FILE": "f", "LISTEN": "0.0.0.0:8443", "ALLOW_PLAINTEXT": "true"}
    assert load({f"POOLPROOF_COORDINATOR_{name}": value for name, value in variables.items()}).endpoint[1] == 8443
    with pytest.raises(SettingsError, match="fleet_file: missing"):
        load({})


def test_a_fleet_file_is_read_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(LHR + AMS)
    assert [vantage.id for vantage in load_fleet(file)] == ["lhr1", "ams1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it has no vantage"),
        ("[[vantages]]", "no such table"),
        ("x =", "Invalid value"),
        (AMS.replace("ams1", "AMS 1"), "id: 'AMS 1'"),
        (AMS.replace("ams1", "a/b"), "id: 'a/b'"),
        (AMS.replace('"ripe"', '"mars"'), "rir: 'mars': give one of afrinic"),
        (AMS.replace("asn = 64500", 'asn = "AS64500"'), "asn: 'AS64500': give int"),
        (AMS.replace("asn = 64500\n", ""), "asn: missing"),
        (AMS.replace("192.0.2.7", "192.0.2.07"), "ipv4"),
        (AMS + "asnn = 1", "asnn: no such field"),
        (AMS + f'operator = "{"x" * 257}"', "operator: 257 characters; give at most 256"),
        (AMS + "latitude = 91.0", "latitude: 91.0: give degrees"),
        (AMS + LHR.replace("lhr1", "ams1"), "vantage ams1: id: stands twice"),
        (AMS + LHR.replace("192.0.2.8", "192.0.2.7"), "lhr1: ipv4: 192.0.2.7 overlaps the ipv4 of ams1"),
        (AMS + LHR + 'ipv6 = "2001:db8:7::1"', "lhr1: ipv6: 2001:db8:7::1 overlaps the ipv6_prefix of ams1"),
    ],
)
def test_a_wrong_fleet_file_is_refused_by_entry_and_field(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(text)
    with pytest.raises(FleetError) as error:
        load_fleet(file)
    assert words in str(error.value)


def test_a_policy_file_changes_the_numbers_that_it_names_under_its_own_id(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('id = "lab"\nbased_on = "2026-11"\nsettle_ns = 7\ndark_path = 0.02\n')
    policy = load_policy(file)
    assert (policy.id, policy.settle_ns, policy.dark_path) == ("lab", 7, 0.02)
    assert policy.alpha_strong == POLICY_2026_11.alpha_strong


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('based_on = "2026-11"', "id: None"),
        ('id = "2026-11"\nbased_on = "2026-11"', "give a new id"),
        ('id = "x"\nbased_on = "1999"', "based_on: '1999': give one of 2026-11"),
        ('id = "x"\nbased_on = "2026-11"\nquorum = 0', "quorum: no such number"),
        ('id = "x"\nbased_on = "2026-11"\nalpha_strong = 0', "alpha_strong: 0: give a probability"),
        ('id = "x"\nbased_on = "2026-11"\nalpha_strong = 0.1', "the better assurance must have the smaller"),
        ('id = "x"\nbased_on = "2026-11"\nmonitors = 0', "monitors: 0: give a whole number from 1"),
        ('id = "x"\nbased_on = "2026-11"\ntimeout_ns = 1.5', "timeout_ns: 1.5: give whole nanoseconds"),
        ('id = "x"\nbased_on = "2026-11"\ntimeout_ns = 61_000_000_000', "give whole nanoseconds from 1 to 60000000000"),
        ('id = "x"\nbased_on = "2026-11"\nmin_rounds = 13', "give at most max_rounds, 12"),
        ('id = "x"\nbased_on = "2026-11"\nbaseline_min_answers = 9', "give at most baseline_exchanges, 8"),
        ('id = "x"\nbased_on = "2026-11"\nprefix_burst = 60', "a job has at most 64 steps"),
        ('id = "x"\nbased_on = "2026-11"\nbaseline_spacing_ns = 1_000_000_000_000', "a job lasts at most an hour"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(PolicyFileError) as error:
        load_policy(file)
    assert words in str(error.value)


def test_the_draw_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    key = draw_key(tmp_path)
    file = tmp_path / FILE_NAME
    assert draw_key(tmp_path) == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
    file.chmod(0o644)
    with pytest.raises(DrawKeyError, match="chmod 600"):
        draw_key(tmp_path)
    file.chmod(0o600)
    file.write_bytes(b"short")
    with pytest.raises(DrawKeyError, match="has 5 bytes"):
        draw_key(tmp_path)
    with pytest.raises(DrawKeyError, match="state_dir"):
        draw_key(tmp_path / "nowhere")
