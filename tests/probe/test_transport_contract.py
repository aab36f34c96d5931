"""What every `Transport` promises: the fake of our tests and the real engine pass the same suite."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Protocol

import pytest

from poolproof.exchange import Exchange, ExchangeKind, LocalFault
from poolproof.ntp import client_request, decode
from poolproof.target import Target
from probe.clock import Clock, SystemClock
from probe.transport import Transport
from probe.udp import UdpEngine
from tests.probe.virtual import MS, FakeTransport, Host, S, VirtualClock, answer_to, run_virtual

REQUEST = client_request(0x1234_5678_9ABC_DEF0)
OWN = "127.0.0.1"


class Lab(Protocol):
    """A transport with a network that hosts can be put into."""

    @property
    def transport(self) -> Transport: ...

    @property
    def clock(self) -> Clock: ...

    def add(self, host: Host) -> Target: ...


class FakeLab:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._network = FakeTransport(self.clock, own=frozenset({OWN}))
        self.transport: Transport = self._network

    def add(self, host: Host) -> Target:
        address = f"127.1.0.{len(self._network.hosts) + 1}"
        self._network.hosts[address] = host
        return Target(address)


class LoopbackLab:
    """The real engine; hosts are sockets on the loopback."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.transport: Transport = UdpEngine()
        self._sockets: list[socket.socket] = []

    def add(self, host: Host) -> Target:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.setblocking(False)
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if host.refuses:
            server.close()
            return Target("127.0.0.1", port)
        self._sockets.append(server)
        loop = asyncio.get_running_loop()

        def send(request: bytes, peer: tuple[str, int]) -> None:
            for _ in range(host.copies):
                server.sendto(answer_to(request, self.clock.now_ns(), host.stratum), peer)

        def readable() -> None:
            request, peer = server.recvfrom(2048)
            if host.delay_ns is not None:
                loop.call_later(host.delay_ns / 1e9, send, request, peer)

        loop.add_reader(server, readable)
        return Target("127.0.0.1", port)

    def close(self) -> None:
        for each in self._sockets:
            asyncio.get_running_loop().remove_reader(each)
            each.close()


Scenario = Callable[[Lab], Coroutine[None, None, None]]


def on_fake(scenario: Scenario) -> None:
    run_virtual(scenario(FakeLab()))


def on_loopback(scenario: Scenario) -> None:
    async def play() -> None:
        lab = LoopbackLab()
        try:
            await scenario(lab)
        finally:
            lab.close()

    asyncio.run(play())


@pytest.fixture(params=[on_fake, on_loopback], ids=["fake", "udp"])
def play(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    chosen: Callable[[Scenario], None] = request.param
    return chosen


async def ask(
    lab: Lab,
    target: Target,
    *,
    source: str = OWN,
    send_at_ns: int | None = None,
    timeout_ns: int = 60 * MS,
    linger_ns: int = 20 * MS,
    until_first_reply: bool = False,
) -> Exchange:
    return await lab.transport.exchange(
        kind=ExchangeKind.CLIENT_V4,
        request=REQUEST,
        source=source,
        target=target,
        send_at_ns=send_at_ns,
        timeout_ns=timeout_ns,
        linger_ns=linger_ns,
        until_first_reply=until_first_reply,
    )


def test_an_answer_is_brought_back_with_all_that_was_asked(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        target = lab.add(Host(delay_ns=5 * MS))
        begun_ns = lab.clock.now_ns()
        seen = await ask(lab, target)
        assert (seen.kind, seen.request, seen.source) == (ExchangeKind.CLIENT_V4, REQUEST, OWN)
        assert (seen.destination, seen.port, seen.timeout_ns) == (target.address, target.port, 60 * MS)
        assert (seen.fault, seen.icmp) == (None, ())
        (reply,) = seen.replies
        assert decode(reply.payload).origin == decode(REQUEST).transmit
        assert begun_ns <= seen.sent_at_ns <= reply.received_at_ns <= lab.clock.now_ns()

    play(scenario)


def test_silence_is_nothing_at_all_and_takes_the_whole_window(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        seen = await ask(lab, lab.add(Host(delay_ns=None)))
        assert (seen.replies, seen.icmp, seen.fault) == ((), (), None)
        assert lab.clock.now_ns() - seen.sent_at_ns >= 79 * MS

    play(scenario)


def test_duplicates_are_kept(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        assert len((await ask(lab, lab.add(Host(delay_ns=MS, copies=3)))).replies) == 3

    play(scenario)


def test_late_answers_are_kept_while_lingering(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        seen = await ask(lab, lab.add(Host(delay_ns=60 * MS)), timeout_ns=20 * MS, linger_ns=S)
        assert len(seen.replies) == 1
        assert seen.replies[0].received_at_ns - seen.sent_at_ns > seen.timeout_ns

    play(scenario)


def test_the_first_reply_ends_it_if_that_is_all_that_is_wanted(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        seen = await ask(lab, lab.add(Host(delay_ns=MS, copies=2)), timeout_ns=60 * S, until_first_reply=True)
        assert len(seen.replies) == 1
        assert lab.clock.now_ns() - seen.sent_at_ns < 50 * S

    play(scenario)


def test_the_request_goes_out_at_its_time_and_not_before(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        at_ns = lab.clock.now_ns() + 40 * MS
        target = lab.add(Host(delay_ns=MS))
        assert (await ask(lab, target, send_at_ns=at_ns, until_first_reply=True)).sent_at_ns >= at_ns
        past = await ask(lab, target, send_at_ns=at_ns - S, until_first_reply=True)
        assert past.sent_at_ns >= at_ns
        assert past.fault is None

    play(scenario)


def test_a_refusal_by_icmp_is_kept_with_what_it_quotes(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        target = lab.add(Host(delay_ns=0, refuses=True))
        seen = await ask(lab, target)
        assert (seen.replies, seen.fault) == ((), None)
        (error,) = seen.icmp
        assert (error.type, error.code, error.offender) == (3, 3, target.address)
        assert error.quoted == REQUEST

    play(scenario)


def test_a_source_that_is_not_ours_is_a_fault_and_no_exception(play: Callable[[Scenario], None]) -> None:
    async def scenario(lab: Lab) -> None:
        seen = await ask(lab, lab.add(Host()), source="192.0.2.77")
        assert seen.fault is LocalFault.BIND_FAILED
        assert seen.fault_detail

    play(scenario)
