"""The tripwire against real daemons: it catches the backscatter of floods, and nothing that this host asked for."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest

from poolproof.capture import MAX_UNASKED, Capture, UnaskedKind
from poolproof.exchange import ExchangeKind
from poolproof.ids import VerificationId
from poolproof.ntp import client_request, decode
from poolproof.target import Target
from probe.account import ENOUGH_UNASKED
from probe.tripwire import PacketTripwire
from probe.udp import UdpEngine
from tests.lab import daemons, impair
from tests.lab.ask import ask
from tests.lab.hub import Fate, Hub
from tests.lab.net import Host, Network
from tests.lab.spoof import Flood, datagram

PREFIX = "2001:db8:7::/64"
IN_PREFIX = "2001:db8:7:0:1:2:3:4"
V = VerificationId("v1")
S = 1_000_000_000
PATIENCE_S = 30.0
SOURCES = ("198.18.2.1", "2001:db8:2::1", PREFIX)
FORGED = 0x0102_0304_0506_0708


@pytest.fixture
def hosts(net: Network) -> dict[str, Host]:
    made = {
        name: net.host(name, ipv4=f"198.18.{n}.1", ipv6=f"2001:db8:{n}::1")
        for n, name in enumerate(("target", "verifier", "attacker"), 1)
    }
    net.add_prefix(made["verifier"], PREFIX)
    return made


class Watching:
    """A verifier's tripwire, with one watch of each of its sources."""

    def __init__(self, hosts: dict[str, Host], sources: tuple[str, ...] = SOURCES) -> None:
        self.tripwire = PacketTripwire(8, learning_ns=0)
        self._targets = {source: Target(hosts["target"].addresses[":" in source]) for source in sources}
        with hosts["verifier"].entered():
            for source, target in self._targets.items():
                self.tripwire.arm(V, target, source, time.time_ns() + 600 * S)

    def __getitem__(self, source: str) -> Capture:
        capture = self.tripwire.harvest(V, self._targets[source], source)
        assert capture is not None
        return capture

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for something to be so."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, "it did not happen in time"

    def all_is_quiet(self) -> bool:
        return all(not (self[source].unasked_total or self[source].lost) for source in self._targets)


@pytest.fixture
async def watching(hosts: dict[str, Host]) -> AsyncIterator[Watching]:
    made = Watching(hosts)
    yield made
    made.tripwire.close()


def own_address(source: str) -> str:
    return IN_PREFIX if source == PREFIX else source


@contextmanager
def flooded(hosts: dict[str, Host], source: str, payload: bytes, packets: int) -> Iterator[None]:
    """So many packets to the target in the name of one of the verifier's addresses."""
    target = hosts["target"].addresses[":" in source]
    with Flood(hosts["attacker"], own_address(source), target, payload, per_second=200) as flood:
        flood.await_sent(packets)
        yield


@pytest.mark.parametrize("source", SOURCES, ids=["ipv4", "ipv6", "prefix"])
async def test_a_flood_in_our_name_shows_itself_by_what_the_server_answers(
    hosts: dict[str, Host], watching: Watching, source: str
) -> None:
    before_ns = time.time_ns()
    with daemons.ntpsec(hosts["target"]), flooded(hosts, source, client_request(FORGED), 40):
        watching.until(lambda: watching[source].unasked_total > 0)
        capture = watching[source]
    assert capture.lost == 0
    times = [packet.received_at_ns for packet in capture.unasked]
    assert before_ns <= times[0]
    assert times == sorted(times)
    assert times[-1] <= capture.until_ns
    for packet in capture.unasked:
        assert packet.kind is UnaskedKind.UDP
        assert packet.sender == hosts["target"].addresses[":" in source]
        assert packet.destination == own_address(source)
        assert decode(packet.payload).origin == FORGED
    others = [other for other in SOURCES if other != source]
    assert [watching[other].unasked_total for other in others] == [0, 0]


async def test_a_careful_attacker_leaves_no_trace_that_a_tripwire_could_see(
    hosts: dict[str, Host], watching: Watching
) -> None:
    """ntpsec counts a packet in mode 4 against its sender's rate and answers nothing: hence the cap on mere silence."""
    as_a_server = bytes((0x24,)) + bytes(47)
    with daemons.ntpsec(hosts["target"]), flooded(hosts, SOURCES[0], as_a_server, 100):
        heard = ask(hosts["verifier"], hosts["target"].ipv4)
        assert heard.silent
        assert watching.all_is_quiet()


async def test_what_this_host_asks_is_asked_for_however_late_and_often_its_answers_come(
    net: Network, hosts: dict[str, Host], watching: Watching
) -> None:
    path = Hub(net, Fate(delay_s=0.05, jitter_s=0.1, duplicate=1.0), seed=7, sources=[hosts["target"]])
    with daemons.chrony(hosts["target"]), path:
        for source in SOURCES:
            for _ in range(3):
                assert ask(
                    hosts["verifier"],
                    hosts["target"].addresses[":" in source],
                    source=own_address(source),
                    timeout_s=10,
                ).synchronised
    assert watching.all_is_quiet()


async def test_a_time_daemon_on_the_same_host_may_use_the_target_also_in_interleaved_mode(
    hosts: dict[str, Host], watching: Watching
) -> None:
    lines = [f"server {address} minpoll -4 maxpoll -4 xleave" for address in hosts["target"].addresses]
    with daemons.chrony(hosts["target"]), daemons.chrony(hosts["verifier"], lines, reference=False) as client:

        def measured() -> bool:
            told = [client.chronyc(f"ntpdata {address}") for address in hosts["target"].addresses]
            return all("Interleaved     : Yes" in each and _count(each, "Total RX") >= 20 for each in told)

        watching.until(measured)
    assert watching.all_is_quiet()


def _count(table: str, name: str) -> int:
    line = next(line for line in table.splitlines() if line.startswith(name))
    return int(line.partition(":")[2])


@pytest.mark.parametrize("source", SOURCES, ids=["ipv4", "ipv6", "prefix"])
async def test_a_firewalls_refusal_is_unasked_if_it_quotes_what_we_did_not_send(
    hosts: dict[str, Host], watching: Watching, source: str
) -> None:
    target = hosts["target"].addresses[":" in source]
    for key in ("net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"):
        hosts["target"].sysctl(key, 0)
    with impair.reject(hosts["target"], source, reason="icmpx type admin-prohibited"):
        heard = ask(hosts["verifier"], target, source=own_address(source), timeout_s=10)
        assert heard.icmp is not None
        assert watching.all_is_quiet()
        with flooded(hosts, source, client_request(FORGED), 20):
            watching.until(lambda: watching[source].unasked_total > MAX_UNASKED)
        capture = watching[source]
    assert len(capture.unasked) == MAX_UNASKED
    for packet in capture.unasked:
        assert packet.kind is UnaskedKind.ICMP
        assert (packet.sender, packet.destination) == (target, own_address(source))
        assert packet.payload[:2] == (bytes((1, 1)) if ":" in source else bytes((3, 13)))


_HAIL = """
import socket, sys
family, packet, to = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), (sys.argv[3], 0)
with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    print("hailing", flush=True)
    while True:
        raw.sendto(packet, to)
"""


@contextmanager
def hail(attacker: Host, packet: bytes, to: str) -> Iterator[None]:
    """One packet as fast as a process can send it: tens of thousands a second."""
    family = 10 if ":" in to else 2
    command = [sys.executable, "-c", _HAIL, str(family), packet.hex(), to]
    process = attacker.popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"hailing\n"
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def test_a_hail_of_forged_answers_ends_one_watch_and_disturbs_nothing_else(
    hosts: dict[str, Host], watching: Watching
) -> None:
    target, verifier = hosts["target"].ipv4, hosts["verifier"].ipv4
    forged = datagram(target, verifier, bytes(48), port=40_000)
    engine = UdpEngine()
    with daemons.chrony(hosts["target"]), hail(hosts["attacker"], forged, verifier):
        while watching[verifier].unasked_total < ENOUGH_UNASKED:
            with hosts["verifier"].entered():
                pending = engine.exchange(
                    kind=ExchangeKind.CLIENT_V4,
                    request=client_request(5),
                    source=verifier,
                    target=Target(target),
                    send_at_ns=None,
                    timeout_ns=10 * S,
                    linger_ns=0,
                    until_first_reply=True,
                )
                seen = await pending
            assert len(seen.replies) == 1
        first, second = watching[verifier], watching[verifier]
        assert ask(hosts["verifier"], hosts["target"].ipv6).synchronised
    assert first == second
    assert first.lost > 0
    assert len(first.unasked) == MAX_UNASKED
    assert first.unasked_total == ENOUGH_UNASKED
    assert {ipaddress.ip_address(packet.sender) for packet in first.unasked} == {ipaddress.ip_address(target)}
    assert watching[SOURCES[1]].unasked_total == 0
    assert watching[SOURCES[1]].lost == 0
