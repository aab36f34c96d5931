"""What every `Tripwire` promises: the fake of our tests and the real one pass the same suite."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Protocol

import pytest

from poolproof.capture import MAX_UNASKED, Capture
from poolproof.ids import VerificationId
from poolproof.ntp import client_request
from poolproof.target import Target
from probe.clock import Clock, SystemClock
from probe.tripwire import PacketTripwire, Tripwire
from tests.probe.fake_tripwire import FakeTripwire, unasked
from tests.probe.udp_peers import answer_to
from tests.probe.virtual import MS, S, VirtualClock, run_virtual

OWN = "127.0.0.1"
FIRST, SECOND = VerificationId("first"), VerificationId("second")
MOST = 3


class Lab(Protocol):
    """A tripwire, a target, and a way to be sent something."""

    @property
    def tripwire(self) -> Tripwire: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def target(self) -> Target: ...

    def ask(self) -> None:
        """An exchange with the target: a question, its answer, and the answer once more."""
        ...

    def unasked(self, payload: bytes) -> None:
        """The target sends something by itself."""
        ...


class FakeLab:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._fake = FakeTripwire(self.clock, max_watches=MOST)
        self.tripwire: Tripwire = self._fake
        self.target = Target("127.0.0.2")

    def ask(self) -> None:
        pass

    def unasked(self, payload: bytes) -> None:
        self._fake.receive(self.target, unasked(OWN, self.clock.now_ns(), payload))


class LoopbackLab:
    """The real tripwire; target and source are sockets on the loopback."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.tripwire: Tripwire = PacketTripwire(MOST, learning_ns=0)
        self._server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server.bind(("127.0.0.1", 0))
        self._own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._own.bind((OWN, 0))
        for each in (self._server, self._own):
            each.settimeout(10)
        self.target = Target("127.0.0.1", self._server.getsockname()[1])

    def ask(self) -> None:
        self._own.sendto(client_request(77), self._server.getsockname())
        request, peer = self._server.recvfrom(2_048)
        for _ in range(2):
            self._server.sendto(answer_to(request), peer)
            self._own.recv(2_048)

    def unasked(self, payload: bytes) -> None:
        self._server.sendto(payload, self._own.getsockname())
        self._own.recv(2_048)  # what has come to a socket has passed the tripwire

    def close(self) -> None:
        self.tripwire.close()
        self._server.close()
        self._own.close()


Scenario = Callable[[Lab], Coroutine[None, None, None]]


def on_fake(scenario: Scenario) -> None:
    run_virtual(scenario(FakeLab()))


def on_packets(scenario: Scenario) -> None:
    async def play() -> None:
        lab = LoopbackLab()
        try:
            await scenario(lab)
        finally:
            lab.close()

    asyncio.run(play())


@pytest.fixture(params=[on_fake, pytest.param(on_packets, marks=pytest.mark.lab)], ids=["fake", "packets"])
def play(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    chosen: Callable[[Scenario], None] = request.param
    return chosen


def arm(lab: Lab, verification: VerificationId = FIRST, *, for_ns: int = 3600 * S) -> None:
    lab.tripwire.arm(verification, lab.target, OWN, lab.clock.now_ns() + for_ns)


def harvest(lab: Lab, verification: VerificationId = FIRST) -> Capture | None:
    return lab.tripwire.harvest(verification, lab.target, OWN)


def caught(lab: Lab, verification: VerificationId = FIRST) -> Capture:
    capture = harvest(lab, verification)
    assert capture is not None
    return capture


def test_who_is_not_watched_has_no_account(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        assert lab.tripwire.can_watch
        assert harvest(lab) is None
        arm(lab)
        assert harvest(lab, SECOND) is None

    play(scenario)


def test_an_account_of_nothing_says_from_when_to_when(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        before_ns = lab.clock.now_ns()
        arm(lab)
        armed_ns = lab.clock.now_ns()
        capture = caught(lab)
        assert before_ns <= capture.since_ns <= armed_ns <= capture.until_ns <= lab.clock.now_ns()
        assert (capture.unasked, capture.unasked_total, capture.lost) == ((), 0, 0)

    play(scenario)


def test_what_this_host_asks_is_no_matter_and_answers_may_come_twice(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        arm(lab)
        lab.ask()
        assert caught(lab).unasked_total == 0

    play(scenario)


def test_what_nobody_asked_for_is_told_again_and_again(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        arm(lab)
        before_ns = lab.clock.now_ns()
        lab.unasked(b"one")
        assert [packet.payload for packet in caught(lab).unasked] == [b"one"]
        lab.ask()
        lab.unasked(b"two")
        capture = caught(lab)
        assert [packet.payload for packet in capture.unasked] == [b"one", b"two"]
        assert capture.unasked_total == 2
        assert {packet.destination for packet in capture.unasked} == {OWN}
        assert before_ns <= capture.unasked[0].received_at_ns <= capture.unasked[1].received_at_ns <= capture.until_ns

    play(scenario)


def test_only_the_first_are_kept_and_all_are_counted(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        arm(lab)
        for number in range(MAX_UNASKED + 5):
            lab.unasked(b"%d" % number)
        capture = caught(lab)
        assert [packet.payload for packet in capture.unasked] == [b"%d" % number for number in range(MAX_UNASKED)]
        assert capture.unasked_total == MAX_UNASKED + 5

    play(scenario)


def test_each_verification_has_an_account_of_its_own(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        arm(lab)
        lab.unasked(b"early")
        arm(lab, SECOND)
        lab.unasked(b"late")
        assert [packet.payload for packet in caught(lab).unasked] == [b"early", b"late"]
        assert [packet.payload for packet in caught(lab, SECOND).unasked] == [b"late"]

    play(scenario)


def test_arming_again_only_sets_the_end(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        arm(lab, for_ns=60 * S)
        lab.unasked(b"one")
        first = caught(lab)
        arm(lab, for_ns=40 * MS)
        second = caught(lab)
        assert (second.since_ns, second.unasked) == (first.since_ns, first.unasked)
        await lab.clock.sleep_until(lab.clock.now_ns() + 50 * MS)
        assert harvest(lab) is None

    play(scenario)


def test_after_its_end_a_watch_can_begin_anew(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        arm(lab, for_ns=10 * MS)
        lab.unasked(b"one")
        first = caught(lab)
        await lab.clock.sleep_until(lab.clock.now_ns() + 20 * MS)
        arm(lab)
        second = caught(lab)
        assert second.since_ns > first.until_ns
        assert second.unasked_total == 0

    play(scenario)


def test_no_more_watches_than_there_may_be(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        names = [VerificationId(str(number)) for number in range(MOST + 1)]
        for name in names:
            arm(lab, name, for_ns=3600 * S if name != names[0] else 30 * MS)
        assert [harvest(lab, name) is None for name in names] == [False] * MOST + [True]
        await lab.clock.sleep_until(lab.clock.now_ns() + 40 * MS)
        arm(lab, names[-1])
        assert [harvest(lab, name) is None for name in names] == [True] + [False] * MOST

    play(scenario)


def test_closing_ends_all(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        arm(lab)
        lab.tripwire.close()
        assert harvest(lab) is None

    play(scenario)
