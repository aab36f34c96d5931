"""A world for the probe's parts: virtual time, a network from a table, counted entropy."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, TypeVarTuple, Unpack

from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault, Reply
from poolproof.ntp import Header, decode, encode, to_ntp
from poolproof.target import Target

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")
EPOCH_NS = 1_795_000_000_000_000_000
MS = 1_000_000
S = 1_000_000_000


class DeadlockError(RuntimeError):
    """Everybody waits, and nothing will ever happen."""


class _VirtualSelector(selectors.DefaultSelector):
    """Nothing ever becomes readable but by `call_soon_threadsafe`; waiting moves the time on instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise DeadlockError("no task can go on and no timer is set")
        if not ready and timeout is not None:
            self.loop.elapsed_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only by waiting; work for threads is done in line."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        selector = _VirtualSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.elapsed_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], R], *args: *Ts
    ) -> asyncio.Future[R]:
        done: asyncio.Future[R] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a virtual loop; time starts at EPOCH_NS."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class VirtualClock:
    """The probe's clock on a virtual loop, right or off by some ns.

    Attributes:
        off_ns: how far ahead of the truth it is.
        suspended_ns: how long the machine was suspended: the loop's own clock stood still, and this one is right.
    """

    def __init__(self, off_ns: int = 0) -> None:
        self.off_ns = off_ns
        self.suspended_ns = 0

    def now_ns(self) -> int:
        return EPOCH_NS + round(asyncio.get_running_loop().time() * 1e9) + self.suspended_ns + self.off_ns

    async def sleep_until(self, at_ns: int) -> None:
        # Looks again every second, as the real one does, so that a clock that is set or suspended is noticed.
        while (left_ns := at_ns - self.now_ns()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left_ns / 1e9, 1.0))


@dataclass(frozen=True, slots=True)
class Host:
    """How one address on the fake network answers.

    Attributes:
        delay_ns: from sending to the first answer; None: silent.
        copies: how many times the answer arrives.
        stratum: of the answer.
        refuses: answers by ICMP port unreachable instead.
    """

    delay_ns: int | None = 10 * MS
    copies: int = 1
    stratum: int = 2
    refuses: bool = False


@dataclass(slots=True)
class FakeTransport:
    """A network by table. Passes the contract of `test_transport_contract`.

    Attributes:
        clock: stamps what is sent and received.
        hosts: by address; who is not there is silent.
        own: addresses that can be bound; None: any.
        sent: exchanges begun, in order of sending: (time, source, destination).
        true_ns: the time that hosts tell.
    """

    clock: VirtualClock
    hosts: dict[str, Host] = field(default_factory=dict)
    own: frozenset[str] | None = None
    sent: list[tuple[int, str, str]] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    on_send: Callable[[str], None] = lambda _destination: None

    async def exchange(
        self,
        *,
        kind: ExchangeKind,
        request: bytes,
        source: str,
        target: Target,
        send_at_ns: int | None,
        timeout_ns: int,
        linger_ns: int,
        until_first_reply: bool = False,
    ) -> Exchange:
        blank = Exchange(kind, request, source, target.address, target.port, self.clock.now_ns(), timeout_ns)
        if self.own is not None and source not in self.own:
            return replace(blank, fault=LocalFault.BIND_FAILED, fault_detail="cannot assign requested address")
        if send_at_ns is not None:
            await self.clock.sleep_until(send_at_ns)
        sent_at_ns = self.clock.now_ns()
        self.on_send(target.address)
        self.sent.append((sent_at_ns, source, target.address))
        self.requests.append(request)
        host = self.hosts.get(target.address, Host(delay_ns=None))
        exchange = replace(blank, sent_at_ns=sent_at_ns)
        end_ns = sent_at_ns + timeout_ns + linger_ns
        if host.refuses:
            error = IcmpError(3 if ":" not in source else 1, 3 if ":" not in source else 4, target.address, request, 0)
            await self.clock.sleep_until(sent_at_ns + (host.delay_ns or 0))
            exchange = replace(exchange, icmp=(replace(error, received_at_ns=self.clock.now_ns()),))
        elif host.delay_ns is not None and host.delay_ns <= timeout_ns + linger_ns:
            await self.clock.sleep_until(sent_at_ns + host.delay_ns)
            received_at_ns = sent_at_ns + host.delay_ns
            true_ns = received_at_ns - self.clock.off_ns - host.delay_ns // 2
            reply = Reply(answer_to(request, true_ns, host.stratum), received_at_ns)
            exchange = replace(exchange, replies=(reply,) * (1 if until_first_reply else host.copies))
            if until_first_reply:
                return exchange
        await self.clock.sleep_until(end_ns)
        return exchange


def answer_to(request: bytes, true_ns: int, stratum: int = 2) -> bytes:
    """A server's answer that carries a time."""
    now = to_ntp(true_ns)
    origin = decode(request).transmit
    return encode(Header(0, 4, 4, stratum, 0, -20, 0, 0, b"TEST", now, origin, now, now))


def seeded(seed: int) -> Callable[[int], int]:
    """Entropy that repeats."""
    return random.Random(seed).getrandbits


def by_destination(sent: Sequence[tuple[int, str, str]], address: str) -> list[tuple[int, str]]:
    """When and from where something was sent to an address."""
    return [(at_ns, source) for at_ns, source, destination in sent if destination == address]
