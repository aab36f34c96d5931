"""The user-space hub: delay, reordering, duplication and loss do what they say, the same for the same seed."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import suppress

import pytest

from tests.lab import daemons
from tests.lab.ask import ask
from tests.lab.hub import Fate, Hub
from tests.lab.net import Host, Network

A = {"ipv4": "198.18.1.1", "ipv6": "2001:db8:1::1"}
B = {"ipv4": "198.18.2.1", "ipv6": "2001:db8:2::1"}


def _received(sender: Host, receiver: Host, packets: int, *, expected: int, ipv6: bool = False) -> list[int]:
    """Numbers of the datagrams that arrive, in order of arrival.

    Waits (bounded) until as many came as are expected, and a moment for any too many.
    """
    source, destination = (sender.ipv6, receiver.ipv6) if ipv6 else (sender.ipv4, receiver.ipv4)
    arrived: list[int] = []
    with sender.udp(source) as sending, receiver.udp(destination) as receiving:
        sending.connect(receiving.getsockname()[:2])
        for number in range(packets):
            sending.send(number.to_bytes(2, "big"))
        with suppress(TimeoutError):
            while True:
                receiving.settimeout(5.0 if len(arrived) < expected else 0.1)
                arrived.append(int.from_bytes(receiving.recv(16), "big"))
    return arrived


@pytest.fixture
def pair(net: Network) -> tuple[Host, Host]:
    return net.host("a", **A), net.host("b", **B)


@pytest.mark.parametrize("ipv6", [False, True])
def test_packets_are_lost_by_the_seed_alone_and_one_way_only(net: Network, pair: tuple[Host, Host], ipv6: bool) -> None:
    a, b = pair
    fate = Fate(loss=0.3)
    entropy = random.Random(11)
    survivors = [number for number in range(100) if fate.delays(entropy)]
    assert 50 < len(survivors) < 90
    for _ in range(2):
        with Hub(net, fate, seed=11, sources=[a]) as hub:
            assert _received(a, b, 100, expected=len(survivors), ipv6=ipv6) == survivors
            assert _received(b, a, 100, expected=100, ipv6=ipv6) == list(range(100))
            assert hub.packets == 100
    assert _received(a, b, 100, expected=100, ipv6=ipv6) == list(range(100))


def test_jitter_changes_the_order_and_loses_nothing(net: Network, pair: tuple[Host, Host]) -> None:
    a, b = pair
    with Hub(net, Fate(delay_s=0.01, jitter_s=0.05), seed=3):
        arrived = _received(a, b, 100, expected=100)
    assert sorted(arrived) == list(range(100))
    assert arrived != list(range(100))


def test_a_packet_that_overtakes_comes_before_its_elders(net: Network, pair: tuple[Host, Host]) -> None:
    a, b = pair
    fate = Fate(delay_s=0.4, reorder=0.2)
    entropy = random.Random(5)
    hurried = [number for number in range(30) if fate.delays(entropy) == (0.0,)]
    assert hurried
    with Hub(net, fate, seed=5, sources=[a], destinations=[b]):
        arrived = _received(a, b, 30, expected=30)
    assert arrived == hurried + [number for number in range(30) if number not in hurried]


def test_every_packet_comes_twice_when_told_so(net: Network, pair: tuple[Host, Host]) -> None:
    a, b = pair
    with Hub(net, Fate(duplicate=1.0), seed=1):
        assert sorted(_received(a, b, 50, expected=100)) == sorted([*range(50), *range(50)])


def test_a_real_servers_answer_is_late_by_the_delay_of_its_path(net: Network, pair: tuple[Host, Host]) -> None:
    monitor, target = pair
    with daemons.chrony(target), Hub(net, Fate(delay_s=0.1), seed=1, sources=[target], destinations=[monitor]):
        for server in target.addresses:
            began = time.monotonic()
            assert ask(monitor, server, timeout_s=5).synchronised
            assert time.monotonic() - began >= 0.1
            assert ask(monitor, server, timeout_s=0.05).silent


def test_tcp_goes_through_a_bad_path_whole(net: Network, pair: tuple[Host, Host]) -> None:
    a, b = pair
    sent = random.Random(2).randbytes(200_000)
    with (
        Hub(net, Fate(delay_s=0.002, jitter_s=0.002, duplicate=0.05, loss=0.01), seed=2),
        b.socket(socket.AF_INET, socket.SOCK_STREAM) as listening,
        a.socket(socket.AF_INET, socket.SOCK_STREAM) as sending,
    ):
        listening.settimeout(20)
        sending.settimeout(20)
        listening.bind((b.ipv4, 0))
        listening.listen()
        sending.connect(listening.getsockname())
        receiving, _ = listening.accept()
        with receiving:
            receiving.settimeout(20)

            def send() -> None:
                sending.sendall(sent)
                sending.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            received = b""
            while chunk := receiving.recv(1 << 16):
                received += chunk
            sender.join()
    assert received == sent


@pytest.mark.parametrize("wrong", [{"loss": 1.1}, {"reorder": -0.1}, {"delay_s": -1}])
def test_a_fate_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give"):
        Fate(**wrong)
