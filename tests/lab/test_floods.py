"""The most telling cells of docs/silence.md, measured again, and the instruments that measure them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from poolproof.ntp import client_request
from tests.lab.ask import ask
from tests.lab.daemons import Chrony
from tests.lab.floods import KINDS, Floods, Paced, Pulses, Rhythm, Steady, stream
from tests.lab.floods_wire import Backscatter
from tests.lab.net import Host, Network
from tests.lab.silence import Cell, Plan, measure, telling

_SILENT_WITHOUT_A_TRACE = (
    Plan("ntpsec", "short-47", "50/s"),
    Plan("ntpsec", "mac-20", "50/s"),
    Plan("ntpsec-6", "short-47", "50/s"),
    Plan("ntpsec-no-kod", "mac-20", "50/s"),
    Plan("chrony-lan", "redirect", "50/s"),
    Plan("nft-drop", "checksum", "50/s"),
    Plan("nft-64-drop", "short-47", "50/s"),
)
_LOUD = (Plan("ntpsec", "mode3-v4", "50/s"), Plan("ntpsec-no-kod", "mode3-v4", "50/s"))
_UNLIMITED = tuple(
    Plan(server, kind, "50/s") for server in ("chrony", "openntpd") for kind in ("mode3-v4", "short-47", "mac-20")
)
_REJECTING = (Plan("nft-reject", "checksum", "50/s"), Plan("hashlimit-reject", "checksum", "50/s"))


@pytest.fixture(scope="module")
def cells() -> Iterator[dict[Plan, Cell]]:
    """Measured once, side by side: one question, three seconds after the floods began."""
    yield {Plan(cell.server, cell.kind, cell.rhythm): cell for cell in measure(telling(), questions=1)}


def test_the_most_telling_cells_are_as_the_page_says(cells: dict[Plan, Cell]) -> None:
    assert {plan: cells[plan].monitor for plan in cells} == dict.fromkeys(cells, 1)
    assert {plan: (cells[plan].answered, cells[plan].backscatter) for plan in _SILENT_WITHOUT_A_TRACE} == dict.fromkeys(
        _SILENT_WITHOUT_A_TRACE, (0, 0)
    )
    assert {plan: cells[plan].answered for plan in _LOUD} == dict.fromkeys(_LOUD, 0)
    assert all(cells[plan].udp_at_once > 0 for plan in _LOUD)
    assert {plan: cells[plan].answered for plan in _UNLIMITED} == dict.fromkeys(_UNLIMITED, 1)


def test_a_limiter_that_rejects_is_made_to_refuse_without_a_trace(cells: dict[Plan, Cell]) -> None:
    """Linux counts a packet whose UDP checksum is wrong, and sends no ICMP error for it."""
    for plan in _REJECTING:
        assert (cells[plan].refused, cells[plan].answered, cells[plan].backscatter) == (1, 0, 0)


@pytest.mark.parametrize(
    ("rhythm", "expected"),
    [
        (Steady(4), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (Pulses(size=2, first_s=1.0, every_s=8.0, within_s=0.5), [1.0, 1.25, 9.0, 9.25, 17.0]),
        (Paced(burst=3, per_second=0.5), [0.0, 0.0, 0.0, 2.0, 4.0]),
    ],
)
def test_rhythms(rhythm: Rhythm, expected: list[float]) -> None:
    assert list(itertools.islice(rhythm.offsets(), 5)) == expected


def test_pulses_end_where_a_number_is_given() -> None:
    assert list(Pulses(size=2, first_s=0.0, every_s=1.0, within_s=1.0, times=1).offsets()) == [0.0, 0.5]


@pytest.fixture
def hosts(net: Network) -> dict[str, Host]:
    names = ("target", "victim", "attacker")
    return {name: net.host(name, ipv4=f"198.18.{n}.1", ipv6=f"2001:db8:{n}::1") for n, name in enumerate(names, 1)}


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_backscatter_is_what_nobody_asked_for(hosts: dict[str, Host], family: int) -> None:
    """Of a daemon that answers everything: all answers to the flood, and none to the victim's own question."""
    server, victim = hosts["target"].addresses[family], hosts["victim"].addresses[family]
    flood = stream(KINDS["mode3-v4"], victim, server, Pulses(size=5, first_s=0.0, every_s=1.0, within_s=0.1, times=1))
    with Chrony(hosts["target"]), Backscatter(hosts["victim"]) as wire, Floods(hosts["attacker"], [flood]) as floods:
        floods.await_sent(flood, 5)
        assert ask(hosts["victim"], server, timeout_s=5).answer is not None
    assert set(wire.seen()) == {victim}
    assert [(each.sender, each.icmp) for each in wire.all()] == [(server, False)] * 5


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_an_icmp_error_is_backscatter_if_the_packet_that_it_quotes_is_not_ours(
    hosts: dict[str, Host], family: int
) -> None:
    """Nothing listens at the target: it refuses the flood's packet, and the victim's own."""
    server, victim = hosts["target"].addresses[family], hosts["victim"].addresses[family]
    flood = stream(KINDS["short-47"], victim, server, Pulses(size=1, first_s=0.0, every_s=1.0, within_s=0.1, times=1))
    with Backscatter(hosts["victim"]) as wire, Floods(hosts["attacker"], [flood]) as floods:
        floods.await_sent(flood, 1)
        assert ask(hosts["victim"], server, timeout_s=5).icmp is not None
    assert [(each.sender, each.icmp) for each in wire.all()] == [(server, True)]
    assert client_request(0x5EED_5EED_5EED_5EED)[:47] in wire.all()[0].packet
