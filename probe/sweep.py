"""Mass sweeps: one question to each of very many targets from one unconnected socket per family.

Theory of operation. Up to `in_flight` requests are under way; each answer makes room for another request. A reply
belongs to the request whose 64 random bits it carries as its origin, if it also comes from that request's address and
port; everything else is left aside. ICMP errors are matched by the request that they quote and its destination.
The first answer settles a target: for late and duplicate ones, and for a socket per exchange, there is `udp`.

The trap of a shared socket: an ICMP error about A makes the next send fail, to B, and B's request does not leave. A
failed send is therefore repeated once the error queue is drained; only a failure without a pending error is B's own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from typing import Final, NamedTuple

from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault, Reply
from poolproof.ntp import HEADER_BYTES, client_request
from poolproof.target import Family, Target
from probe.batches import CAPACITY, SECRET_BYTES, Inbox, Outbox, socket_names
from probe.errqueue import drain
from probe.sockets import open_udp, peer_name, words_of

_OPENING: Final = client_request(1)[:-SECRET_BYTES]
_BUFFER_BYTES: Final = 4 << 20
"""Asked for; the kernel gives what net.core.rmem_max allows. A full buffer looks like the targets' silence."""
_BYTES_EACH: Final = 2 * 768
"""What the kernel charges a socket's buffer for one small datagram, twice for safety."""
_MAX_SEND_TRIES: Final = 8
_EXPIRY_CHECKS: Final = 16
"""Times within a timeout that overdue requests are looked for."""


class Swept(NamedTuple):
    """What became of one target. A tuple and not a dataclass: it is made a hundred thousand times a second.

    Attributes:
        target: who was asked.
        source: own address.
        secret: transmit timestamp of the request.
        sent_at_ns: when its batch was handed to the kernel: at most some 0.5 ms before it left.
        timeout_ns: how long an answer was waited for.
        payload: the answer, or None.
        received_at_ns: kernel receive timestamp of the answer; 0 without one.
        icmp: the error that came instead.
        fault: why it could not be asked.
    """

    target: Target
    source: str
    secret: bytes
    sent_at_ns: int
    timeout_ns: int
    payload: bytes | None = None
    received_at_ns: int = 0
    icmp: IcmpError | None = None
    fault: LocalFault | None = None
    fault_detail: str = ""

    def exchange(self) -> Exchange:
        """The same as evidence, for `classify`."""
        return Exchange(
            kind=ExchangeKind.CLIENT_V4,
            request=_OPENING + self.secret,
            source=self.source,
            destination=self.target.address,
            port=self.target.port,
            sent_at_ns=self.sent_at_ns,
            timeout_ns=self.timeout_ns,
            replies=() if self.payload is None else (Reply(self.payload, self.received_at_ns),),
            icmp=() if self.icmp is None else (self.icmp,),
            fault=self.fault,
            fault_detail=self.fault_detail,
        )


_swept: Final = tuple.__new__
"""Makes a Swept of a tuple in a third of the time that `Swept()` takes."""


async def sweep(
    targets: Iterable[Target],
    tell: Callable[[Swept], None],
    *,
    sources: Mapping[Family, str],
    timeout_ns: int,
    in_flight: int = 256,
    entropy: Callable[[int], bytes] = os.urandom,
) -> None:
    """Ask each target once (NTPv4, mode 3); what fails locally is a fault, never an exception.

    Args:
        targets: addresses and ports; one that is given twice is asked twice.
        tell: gets what became of each, once, as it is known. Nothing is kept here: memory costs more than packets.
        sources: own address of each family that occurs.
        timeout_ns: how long each answer is waited for.
        in_flight: requests under way at once, per family.
        entropy: that many random bytes.

    Raises:
        ValueError: `in_flight` below one, or no source of a family that occurs.
        ExceptionGroup: whatever `tell` raised; the sweep ends with it.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight {in_flight}: give 1 or more")
    by_family: dict[Family, list[Target]] = {Family.IPV4: [], Family.IPV6: []}
    ipv4, ipv6 = by_family[Family.IPV4], by_family[Family.IPV6]
    for target in targets:
        (ipv6 if ":" in target.address else ipv4).append(target)  # `family` would take a tenth of the sweep
    for family, asked in by_family.items():
        if asked and family not in sources:
            raise ValueError(f"sources: no {family.name} address, but {asked[0]} is a target; give one")
    async with asyncio.TaskGroup() as group:
        for family, asked in by_family.items():
            if asked:
                group.create_task(_sweep_family(family, asked, tell, sources[family], timeout_ns, in_flight, entropy))


async def _sweep_family(
    family: Family,
    asked: Sequence[Target],
    tell: Callable[[Swept], None],
    source: str,
    timeout_ns: int,
    in_flight: int,
    entropy: Callable[[int], bytes],
) -> None:
    try:
        sock = open_udp(source, family)
    except OSError as error:
        now_ns, fault, detail = time.time_ns(), LocalFault.BIND_FAILED, f"source {source}: {words_of(error)}"
        for target in asked:
            unsent = bytes(SECRET_BYTES)
            tell(Swept(target, source, unsent, now_ns, timeout_ns, fault=fault, fault_detail=detail))
        return
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        room = max(1, sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // _BYTES_EACH)
        await _Lane(sock, family, asked, tell, source, timeout_ns, min(in_flight, room), entropy).run()


class _Lane:
    """One family's socket and the requests that are under way on it."""

    def __init__(
        self,
        sock: socket.socket,
        family: Family,
        asked: Sequence[Target],
        tell: Callable[[Swept], None],
        source: str,
        timeout_ns: int,
        in_flight: int,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._sock = sock
        self._family = family
        self._waiting: Iterator[Target] = iter(asked)
        self._left = len(asked)
        self._tell = tell
        self._source = source
        self._timeout_ns = timeout_ns
        self._in_flight = in_flight
        self._entropy = entropy
        self._pending: dict[bytes, tuple[Target, bytes, int]] = {}
        """By secret: who was asked, its socket name, when."""
        self._inbox = Inbox(family)
        self._outbox = Outbox(_OPENING, family)
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        """Until each target has a result."""
        self._loop.add_reader(self._sock.fileno(), self._readable)
        try:
            self._refill()
            while not self._done.done():
                await asyncio.wait((self._done,), timeout=self._timeout_ns / 1e9 / _EXPIRY_CHECKS)
                self._ready()
                self._expire(time.time_ns() - self._timeout_ns)
                self._refill()
        finally:
            self._loop.remove_reader(self._sock.fileno())
        self._done.result()

    def _readable(self) -> None:
        try:
            self._ready()
        except Exception as error:  # of `tell`: it ends the sweep, and must not be lost in the loop's log
            if not self._done.done():
                self._done.set_exception(error)

    def _ready(self) -> None:
        try:
            received = self._inbox.receive(self._sock.fileno())
        except BlockingIOError:
            return
        except OSError:
            self._drain()
            return
        pending, tell, source, timeout_ns = self._pending, self._tell, self._source, self._timeout_ns
        before = len(pending)
        slot = -1
        for (name, seconds, nanoseconds, payload), (length,) in received:
            slot += 1
            secret = payload[24:32]  # the origin (RFC 5905 §8)
            found = pending.get(secret)
            if found is None or found[1] != name or length < HEADER_BYTES:
                continue
            del pending[secret]
            if length > HEADER_BYTES:
                payload = self._inbox.payload(slot, length)
            at_ns = seconds * 1_000_000_000 + nanoseconds
            tell(_swept(Swept, (found[0], source, secret, found[2], timeout_ns, payload, at_ns, None, None, "")))
        self._left -= before - len(pending)
        self._refill()

    def _refill(self) -> None:
        """Send until `in_flight` requests are under way or no target is left."""
        while (room := min(self._in_flight - len(self._pending), CAPACITY)) > 0 and self._left > len(self._pending):
            batch = list(islice(self._waiting, room))
            if not batch or not self._send(batch):
                break
        if not self._left and not self._done.done():
            self._done.set_result(None)

    def _send(self, batch: Sequence[Target]) -> bool:
        """Send to each of a batch; False if the kernel has no room just now, then the rest waits."""
        names = socket_names(batch, self._family)
        drawn = self._entropy(len(batch) * SECRET_BYTES)
        secrets = [drawn[at : at + SECRET_BYTES] for at in range(0, len(drawn), SECRET_BYTES)]
        pending = self._pending
        first = tries = 0
        while first < len(batch):
            now_ns = time.time_ns()
            try:
                taken = self._outbox.send(self._sock.fileno(), names[first:], secrets[first:])
            except BlockingIOError:
                self._waiting = chain(batch[first:], self._waiting)
                return False
            except OSError as error:
                if (self._drain() or not tries) and tries < _MAX_SEND_TRIES:
                    tries += 1
                    continue
                self._settle(batch[first], secrets[first], now_ns, fault=words_of(error))
                taken = 1
            else:
                asked = slice(first, first + taken)
                pending.update(zip(secrets[asked], zip(batch[asked], names[asked], repeat(now_ns)), strict=False))
            first += taken
            tries = 0
        return True

    def _drain(self) -> bool:
        """Read the error queue and settle the targets that it speaks of; whether anything was in it."""
        errors = drain(self._sock)
        for error in errors:
            secret = error.icmp.quoted[HEADER_BYTES - SECRET_BYTES : HEADER_BYTES]
            found = self._pending.get(secret)
            if found is None or peer_name(found[0]) != error.destination:
                continue
            del self._pending[secret]
            self._settle(found[0], secret, found[2], icmp=error.icmp)
        return bool(errors)

    def _expire(self, sent_before_ns: int) -> None:
        """Settle as silent whatever was sent before a time."""
        overdue = [secret for secret, found in self._pending.items() if found[2] <= sent_before_ns]
        for secret in overdue:
            target, _, sent_at_ns = self._pending.pop(secret)
            self._settle(target, secret, sent_at_ns)

    def _settle(
        self, target: Target, secret: bytes, sent_at_ns: int, *, icmp: IcmpError | None = None, fault: str = ""
    ) -> None:
        self._left -= 1
        kind = LocalFault.SEND_FAILED if fault else None
        detail = fault and f"to {target} from {self._source}: {fault}"
        self._tell(
            Swept(
                target, self._source, secret, sent_at_ns, self._timeout_ns, icmp=icmp, fault=kind, fault_detail=detail
            )
        )
