"""Forged packets arrive as forged, and do to a real server what design says they do."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from poolproof.ntp import client_request
from tests.lab import daemons
from tests.lab.ask import ask_all
from tests.lab.net import Host, Network
from tests.lab.spoof import Flood


@pytest.fixture
def hosts(net: Network) -> dict[str, Host]:
    names = ("target", "monitor", "verifier", "attacker")
    return {name: net.host(name, ipv4=f"198.18.{n}.1", ipv6=f"2001:db8:{n}::1") for n, name in enumerate(names, 1)}


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_a_forged_datagram_arrives_whole_in_the_name_of_another(hosts: dict[str, Host], family: int) -> None:
    claimed, target = hosts["verifier"].addresses[family], hosts["target"].addresses[family]
    with hosts["target"].udp(target, 123) as listening:
        listening.settimeout(10)
        with Flood(hosts["attacker"], claimed, target, b"odd", per_second=100) as flood:
            payload, sender = listening.recvfrom(64)
            flood.await_sent(2)
    assert payload == b"odd"
    assert sender[:2] == (claimed, 123)


def test_a_flood_in_a_verifiers_name_silences_it_at_debians_ntpsec_and_nobody_else(hosts: dict[str, Host]) -> None:
    """Design 2a: the owner blocked nobody, and it looks as if."""
    target, verifier = hosts["target"].addresses, hosts["verifier"].addresses
    askers: list[tuple[Host, str | None]] = [(hosts["monitor"], None), (hosts["verifier"], None)]
    with daemons.ntpsec(hosts["target"]), ExitStack() as floods:
        started = [
            floods.enter_context(
                Flood(hosts["attacker"], verifier[family], target[family], client_request(7), per_second=100)
            )
            for family in (0, 1)
        ]
        for flood in started:
            flood.await_sent(100)
        for server in target:
            monitor_heard, verifier_heard = ask_all(askers, server)
            assert monitor_heard.synchronised
            assert verifier_heard.silent
