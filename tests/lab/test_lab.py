"""The lab itself: that its daemons answer, that its blocks block, and that it leaves nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab import daemons, impair
from tests.lab.ask import Heard, ask, ask_all
from tests.lab.namespaces import LabError
from tests.lab.net import Host, Network

TARGET_V4, TARGET_V6 = "198.18.0.1", "2001:db8::1"
SERVERS = (TARGET_V4, TARGET_V6)
MONITOR = {TARGET_V4: "198.18.1.1", TARGET_V6: "2001:db8:1::1"}
VERIFIER = {TARGET_V4: "198.18.2.1", TARGET_V6: "2001:db8:2::1"}
PREFIX = "2001:db8:7::/64"
INSIDE = ("2001:db8:7::1", "2001:db8:7:0:1234:5678:9abc:def0", "2001:db8:7::ffff:ffff:ffff:ffff")
CAP_SYS_TIME = 25
HERE = Path("/proc/thread-self/ns/net")
EVERY_DAEMON = pytest.mark.parametrize("kind", [daemons.Ntpsec, daemons.Chrony, daemons.Openntpd])


class World:
    """A target, an allowed monitor and a verifier, each on both families."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.target = net.host("target", ipv4=TARGET_V4, ipv6=TARGET_V6)
        self.monitor = net.host("monitor", ipv4=MONITOR[TARGET_V4], ipv6=MONITOR[TARGET_V6])
        self.verifier = net.host("verifier", ipv4=VERIFIER[TARGET_V4], ipv6=VERIFIER[TARGET_V6], prefix=PREFIX)

    def both(self, server: str) -> tuple[Heard, Heard]:
        """What the monitor and the verifier hear, asked at the same time."""
        monitor, verifier = ask_all([(self.monitor, None), (self.verifier, None)], server)
        return monitor, verifier


@pytest.fixture
def world(net: Network) -> World:
    return World(net)


@EVERY_DAEMON
def test_a_daemon_answers_on_both_families_without_power_over_the_clock(
    world: World, kind: type[daemons.Daemon]
) -> None:
    with kind(world.target) as daemon:
        for server in SERVERS:
            heard = ask(world.monitor, server, timeout_s=5)
            assert heard.answer is not None, daemon.log
            assert heard.answer.mode == 4
            assert heard.synchronised is kind.can_synchronise
        assert len(world.target.processes()) >= 1
        for pid in world.target.processes():
            status = Path(f"/proc/{pid}/status").read_text()
            bounding, effective = (
                int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("CapEff", "CapBnd"))
            )
            assert not (bounding | effective) >> CAP_SYS_TIME & 1
            assert Path(f"/proc/{pid}/exe").resolve().name in ("ntpd", "chronyd")


@pytest.mark.parametrize("word", ["ignore", "noserve"])
def test_an_ntpsec_restrict_line_silences_one_address_and_no_other(world: World, word: str) -> None:
    with daemons.ntpsec(world.target, [f"restrict {VERIFIER[server]} {word}" for server in SERVERS]):
        for server in SERVERS:
            monitor, verifier = world.both(server)
            assert monitor.answer is not None
            assert verifier.silent


def test_ntpsec_answers_again_after_a_restart_without_the_line(world: World) -> None:
    with daemons.ntpsec(world.target, [f"restrict {VERIFIER[TARGET_V4]} ignore"]) as daemon:
        assert world.both(TARGET_V4)[1].silent
        daemon.restart([])
        assert world.both(TARGET_V4)[1].synchronised


def test_allow_only_in_ntpsec_leaves_the_monitor_alone_answered(world: World) -> None:
    with daemons.ntpsec(world.target, ["restrict default ignore", *(f"restrict {MONITOR[each]}" for each in SERVERS)]):
        for server in SERVERS:
            monitor, verifier = world.both(server)
            assert monitor.answer is not None
            assert verifier.silent


def test_a_chrony_deny_silences_one_address_until_it_is_allowed_again(world: World) -> None:
    with daemons.chrony(world.target) as daemon:
        for server in SERVERS:
            daemon.chronyc(f"deny {VERIFIER[server]}")
            monitor, verifier = world.both(server)
            assert monitor.answer is not None
            assert verifier.silent
            daemon.chronyc(f"allow {VERIFIER[server]}")
            assert ask(world.verifier, server, timeout_s=5).answer is not None


def test_allow_only_in_chrony_leaves_the_monitor_alone_answered(world: World) -> None:
    with daemons.chrony(world.target, ["deny all", *(f"allow {MONITOR[each]}" for each in SERVERS)]):
        for server in SERVERS:
            monitor, verifier = world.both(server)
            assert monitor.answer is not None
            assert verifier.silent


def test_chronyc_says_what_it_did_not_like(world: World) -> None:
    with daemons.chrony(world.target) as daemon, pytest.raises(LabError, match="deny"):
        daemon.chronyc("deny nonsense/99")


@EVERY_DAEMON
def test_a_firewall_that_drops_is_silence_and_one_that_is_gone_is_not(world: World, kind: type[daemons.Daemon]) -> None:
    with kind(world.target, reference=False):
        for server in SERVERS:
            with impair.drop(world.target, VERIFIER[server]) as firewall:
                monitor, verifier = world.both(server)
                assert monitor.answer is not None
                assert verifier.silent
                assert firewall.packets() == 1
        world.target.ip("route add blackhole 198.18.2.1\n")
        assert world.both(TARGET_V4)[1].silent


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("", {TARGET_V4: (3, 3), TARGET_V6: (1, 4)}),
        ("icmpx type admin-prohibited", {TARGET_V4: (3, 13), TARGET_V6: (1, 1)}),
    ],
)
def test_a_firewall_that_rejects_sends_icmp_that_quotes_the_packet(
    world: World, reason: str, expected: dict[str, tuple[int, int]]
) -> None:
    with daemons.chrony(world.target):
        for server in SERVERS:
            with impair.reject(world.target, VERIFIER[server], reason=reason):
                monitor, verifier = world.both(server)
            assert monitor.answer is not None
            assert verifier.icmp is not None
            assert (verifier.icmp.type, verifier.icmp.code) == expected[server]
            assert verifier.icmp.offender == server
            assert verifier.icmp.quoted == verifier.request


def test_refusals_are_as_many_as_the_packets_once_the_kernels_limit_is_lifted(world: World) -> None:
    world.target.sysctl("net.ipv4.icmp_ratelimit", 0)
    world.target.sysctl("net.ipv6.icmp.ratelimit", 0)
    for server in SERVERS:
        refused = [ask(world.verifier, server, timeout_s=5).icmp is not None for _ in range(20)]
        assert all(refused)


def test_a_stopped_daemon_refuses_and_a_started_one_answers(world: World) -> None:
    with daemons.chrony(world.target) as daemon:
        daemon.stop()
        refused = ask(world.monitor, TARGET_V4, timeout_s=5)
        assert refused.icmp is not None
        assert (refused.icmp.type, refused.icmp.code) == (3, 3)
        daemon.start()
        assert ask(world.monitor, TARGET_V4, timeout_s=5).synchronised


def test_a_prefix_block_silences_every_address_of_the_prefix(world: World) -> None:
    askers: list[tuple[Host, str | None]] = [(world.verifier, address) for address in INSIDE]
    askers += [(world.verifier, VERIFIER[TARGET_V6]), (world.monitor, None)]
    with daemons.chrony(world.target) as daemon:
        assert all(heard.answer is not None for heard in ask_all(askers, TARGET_V6, timeout_s=5))
        for block, undo in ((f"deny {PREFIX}", f"allow {PREFIX}"), ("", "")):
            if block:
                daemon.chronyc(block)
            else:
                impair.drop(world.target, PREFIX)
            *inside, outside, monitor = ask_all(askers, TARGET_V6)
            assert all(heard.silent for heard in inside)
            assert outside.answer is not None
            assert monitor.answer is not None
            if undo:
                daemon.chronyc(undo)
                assert ask(world.verifier, TARGET_V6, source=INSIDE[0], timeout_s=5).answer is not None


def _arrived(sender: Host, receiver: Host, packets: int, lost: Callable[[], int] = lambda: 0) -> int:
    """How many of so many datagrams arrive. Waits (bounded) for all but the lost, and a moment for any too many."""
    with sender.udp() as sending, receiver.udp() as receiving:
        receiving.settimeout(0)
        arrived = 0
        for _ in range(packets):
            sending.sendto(b"x", receiving.getsockname())
            with suppress(BlockingIOError):
                receiving.recv(16)
                arrived += 1
        with suppress(TimeoutError):
            while True:
                receiving.settimeout(5.0 if arrived < packets - lost() else 0.05)
                receiving.recv(16)
                arrived += 1
        return arrived


def test_random_loss_takes_about_the_share_that_was_asked_for_one_way_only(world: World) -> None:
    packets = 4000
    with impair.loss(world.net, 5, source=world.monitor, destination=world.target) as lossy:
        lost = packets - _arrived(world.monitor, world.target, packets, lossy.packets)
        # 200 expected, standard deviation 13.8: eight of them either way is once in 10^14 runs.
        assert 90 <= lost <= 310
        assert lossy.packets() == lost
        assert _arrived(world.target, world.monitor, 200) == 200
        assert _arrived(world.verifier, world.target, 200) == 200
    assert _arrived(world.monitor, world.target, 200) == 200


def test_a_burst_is_the_same_in_every_run_and_full_loss_is_a_dark_path(world: World) -> None:
    with impair.burst(world.net, 3, of=10, destination=world.target) as lossy:
        assert _arrived(world.monitor, world.target, 100, lossy.packets) == 70
    with impair.loss(world.net, 100, source=world.monitor) as lossy:
        assert _arrived(world.monitor, world.target, 20, lossy.packets) == 0


def test_a_daemon_with_a_wrong_line_fails_with_its_own_words(world: World) -> None:
    with pytest.raises(LabError, match="frobnicate"), daemons.chrony(world.target, ["frobnicate yes"]):
        pass
    assert world.target.processes() == ()


def test_a_big_network_comes_up_reachable_everywhere(net: Network) -> None:
    hosts = [net.host(f"h{n}", ipv4=f"198.18.{n}.1", ipv6=f"2001:db8:{n}::1") for n in range(1, 15)]
    heard = ask_all([(host, None) for host in hosts[1:]], hosts[0].ipv6, timeout_s=5)
    # Nothing listens there: each refusal crossed two links and the router, both ways.
    assert [each.icmp.offender if each.icmp else None for each in heard] == [hosts[0].ipv6] * 13


def test_code_that_opens_its_own_sockets_runs_inside_a_host_and_the_thread_comes_back(net: Network) -> None:
    host = net.host("h", ipv4="198.18.1.1")
    home = HERE.readlink()
    with pytest.raises(ZeroDivisionError), host.entered():
        inside = HERE.readlink()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
            bound.bind((host.ipv4, 0))
        _ = 1 // 0
    assert HERE.readlink() == home != inside
    assert host.call(lambda: HERE.readlink()) == inside
    with pytest.raises(ZeroDivisionError):
        host.call(lambda: 1 // 0)


def test_a_program_that_fails_in_a_host_is_an_error_with_its_words(net: Network) -> None:
    host = net.host("h")
    with pytest.raises(LabError, match="syntax error"):
        host.nft("tabel inet x\n")
    assert host.run(["sh", "-c", "exit 3"], check=False).returncode == 3
    with pytest.raises(ValueError, match="host name 'H!'"):
        net.host("H!")


def _namespaces() -> set[str]:
    folder = Path("/run/netns")
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_namespaces_and_processes_are_gone_even_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), Network() as net:
        host = net.host("target", ipv4=TARGET_V4)
        # A child that its parent does not wait for and that ignores SIGTERM, in a session of its own.
        stubborn = host.popen(["sh", "-c", "trap '' TERM; setsid sleep 1000 & sleep 1000"])
        mine = {namespace for namespace in _namespaces() if namespace.startswith(f"poolproof-{os.getpid()}.")}
        assert {host.namespace, net.router.namespace} <= mine
        _ = 1 // 0
    assert stubborn.returncode is not None
    assert host.namespace not in _namespaces()
    assert net.router.namespace not in _namespaces()


@pytest.fixture
def orphan() -> tuple[str, int, Path]:
    """A namespace, a daemon in it and the daemon's folder, left behind by a process that was killed."""
    script = (
        "from tests.lab.net import Network\nfrom tests.lab.daemons import chrony\nimport os, signal\n"
        "host = Network().__enter__().host('left')\n"
        "daemon = chrony(host).__enter__()\n"
        "print(host.namespace, daemon.pid, daemon.folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    namespace, pid, folder = done.stdout.split()
    return namespace, int(pid), Path(folder)


def test_what_a_dead_process_left_is_deleted_by_the_next_network(orphan: tuple[str, int, Path]) -> None:
    namespace, pid, folder = orphan
    with Network() as net:
        assert namespace not in _namespaces()
        assert not folder.exists()
        assert net.router.namespace in _namespaces()
    # Its parent is dead, so whoever inherited it may not have reaped it yet.
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"
