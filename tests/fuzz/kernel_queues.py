"""What comes out of the probe's sockets: datagrams, control messages, the error queue; and what engines keep of it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from poolproof.exchange import ExchangeKind, LocalFault
from poolproof.ntp import HEADER_BYTES, client_request
from poolproof.target import Family, Target
from poolproof.wire import exchange_from_wire, exchange_to_wire
from probe.batches import SECRET_BYTES, Inbox, socket_names
from probe.errqueue import parse
from probe.listening import MAX_KEPT_ICMP, MAX_KEPT_REPLIES, MAX_KEPT_STRANGE, Listener, echoes
from probe.sockets import IP_RECVERR, IPV6_RECVERR, SO_TIMESTAMPNS, TIMESPEC, open_udp, receive
from probe.sweep import Swept, _Lane
from tests.fuzz.exchanges import NOW_NS, exchange, payload
from tests.fuzz.harness import Harness
from tests.fuzz.splitter import Splitter

_PEER, _STRANGER = ("192.0.2.7", 123), ("192.0.2.8", 123)
_KINDS = (
    (socket.SOL_SOCKET, SO_TIMESTAMPNS),
    (socket.IPPROTO_IP, IP_RECVERR),
    (socket.IPPROTO_IPV6, IPV6_RECVERR),
)
_Control = list[tuple[int, int, bytes]]
_LOOP = asyncio.new_event_loop()


def _control(split: Splitter) -> _Control:
    """Control messages as the kernel makes them, cut off, or of other kinds."""
    made: _Control = []
    for _ in range(split.below(4)):
        level, kind = split.pick(_KINDS) if split.below(8) != 7 else (split.number(1), split.number(1))
        if kind == SO_TIMESTAMPNS:
            content = TIMESPEC.pack(NOW_NS // 10**9, split.number(2))
        else:
            origin = split.pick((2, 3, 1, 0, 4))
            head = struct.pack("=IBBBBII", 111, origin, split.pick((3, 1, 11, 0)), split.number(1), 0, 0, 0)
            content = head + _sockaddr(split)
        made.append((level, kind, content[: split.below(40)] if split.below(8) == 7 else content))
    return made


def _sockaddr(split: Splitter) -> bytes:
    family = split.pick((socket.AF_INET, socket.AF_INET6, socket.AF_UNSPEC, 77))
    address = split.take(16)
    if split.below(4) == 3:
        address = bytes(10) + b"\xff\xff" + address[12:]
    if family == socket.AF_INET:
        return struct.pack("=HH4s8x", family, 0, address[:4])
    return struct.pack("=HHI16sI", family, 0, 0, address, split.below(3))


def _errors(data: bytes) -> str:
    """Any entry of the error queue is an ICMP error that our own contract takes, or none."""
    split = Splitter(data)
    seen = exchange(split)
    control, quoted = _control(split), split.octets(80)
    error = parse(quoted, control)
    if error is None:
        return "none"
    assert error.quoted == quoted
    assert any(entry[:2] in _KINDS[1:] for entry in control)
    sent = replace(seen, request=seen.request or b"\0", icmp=(error,), fault=None)
    assert exchange_from_wire(exchange_to_wire(sent)).icmp == (error,), "what we read we cannot report"
    return "icmp"


class _Scripted:
    """A socket whose datagrams and errors come from a list."""

    def __init__(
        self, datagrams: Sequence[tuple[bytes, _Control, tuple[str, int]] | OSError], errors: Sequence[Any]
    ) -> None:
        self.datagrams, self.errors, self.sent = list(datagrams), list(errors), list[bytes]()

    def recvmsg(self, size: int, _room: int, flags: int = 0) -> tuple[bytes, _Control, int, tuple[str, int]]:
        waiting = self.errors if flags & socket.MSG_ERRQUEUE else self.datagrams
        if not waiting:
            raise BlockingIOError
        first = waiting.pop(0)
        if isinstance(first, OSError):
            raise first
        return first[0][:size], first[1], 0, first[2]

    def send(self, request: bytes) -> None:
        self.sent.append(request)


def _datagram(split: Splitter, request: bytes) -> tuple[bytes, _Control, tuple[str, int]] | OSError:
    if split.below(16) == 15:
        return ConnectionRefusedError(111, "refused")
    return payload(split, request), _control(split), split.pick((_PEER, _PEER, _PEER, _STRANGER))


def _stamped(data: bytes) -> str:
    """One datagram: whole, from the peer or nothing, with a time that our own contract takes."""
    split = Splitter(data)
    request = client_request(1)
    scripted = _Scripted([_datagram(split, request)], ())
    content = scripted.datagrams[0]
    try:
        reply = receive(cast(Any, scripted), _PEER)
    except OSError as error:
        assert error is content
        return "error"
    assert not isinstance(content, OSError)
    assert (reply is not None) == (content[2] == _PEER)
    if reply is None:
        return "stranger"
    assert reply.payload == content[0]
    assert reply.received_at_ns > 0
    return "datagram"


def _listened(data: bytes) -> str:
    """Rubbish crowds out no answer, strangers are not heard, and what is kept is bounded, in the order of arrival."""
    split = Splitter(data)
    request, until_first = client_request(split.number(8) or 1), split.flag()
    few = [_datagram(split, request) for _ in range(split.below(12))]
    flood = [(b"\0" * 48, _Control(), _PEER)] * split.pick((0, 0, 0, 9, 30))
    script = [*flood, *few]
    errors = [(split.octets(60), _control(split), _PEER) for _ in range(split.below(4))]

    async def run() -> Listener:
        scripted = _Scripted(script, errors * split.pick((1, 1, 20)))
        listener = Listener(cast(Any, scripted), _PEER, ExchangeKind.CLIENT_V4, request, until_first)
        assert listener.ready()
        return listener

    listener = _LOOP.run_until_complete(run())
    heard = [each for each in script if not isinstance(each, OSError) and each[2] == _PEER]
    echoing = [each[0] for each in heard if len(each[0]) >= 48 and each[0][24:32] == request[40:48]]
    kept = [reply.payload for reply in listener.replies]
    assert len(kept) <= MAX_KEPT_REPLIES
    assert len(listener.icmp) <= MAX_KEPT_ICMP
    kept_echoes = [each for each in kept if echoes(ExchangeKind.CLIENT_V4, request, each)]
    assert len(kept) - len(kept_echoes) <= MAX_KEPT_STRANGE
    wanted = echoing[:1] if until_first else echoing[: MAX_KEPT_REPLIES - MAX_KEPT_STRANGE]
    assert kept_echoes[: len(wanted)] == wanted
    assert all(each in echoing for each in kept_echoes)
    left = iter([each[0] for each in heard])
    assert all(each in left for each in kept), "not in the order of arrival, or of a stranger"
    assert listener.done.done() == (until_first and bool(echoing))
    return "answered" if echoing else "rubbish" if kept else "nothing"


class _Batches:
    """Real sockets on loopback: a receiver with kernel timestamps, and two that send to it."""

    def __init__(self) -> None:
        self.receiver = open_udp("127.0.0.1", Family.IPV4)
        self.senders = [open_udp("127.0.0.1", Family.IPV4) for _ in range(2)]
        self.inbox = Inbox(Family.IPV4)
        targets = [Target(*sender.getsockname()) for sender in self.senders]
        self.names = socket_names(targets, Family.IPV4)


_batches: list[_Batches] = []


def _received(data: bytes) -> str:
    """A batch of datagrams of any length comes out as it was sent: names, lengths, bytes; none bleeds into another."""
    split = Splitter(data)
    if not _batches:
        _batches.append(_Batches())
    place = _batches[0]
    sent: list[tuple[bytes, bytes]] = []
    for _ in range(split.below(6)):
        who, content = split.below(2), split.octets(80) * split.pick((1, 1, 1, 30))
        place.senders[who].sendto(content, place.receiver.getsockname())
        sent.append((place.names[who], content[:2048]))
    try:
        received = list(place.inbox.receive(place.receiver.fileno()))
    except BlockingIOError:
        received = []
    assert len(received) == len(sent)
    for slot, (((name, seconds, _, head), (length,)), (who_sent, content)) in enumerate(
        zip(received, sent, strict=True)
    ):
        assert name == who_sent
        assert length == len(content)
        assert head[: min(length, HEADER_BYTES)] == content[:HEADER_BYTES]
        assert place.inbox.payload(slot, length) == content
        assert seconds > 1_000_000_000
    return "batch" if len(sent) > 1 else "few"


class _FakeInbox:
    def __init__(self, datagrams: Sequence[tuple[bytes, bytes]]) -> None:
        self._datagrams: Sequence[tuple[bytes, bytes]] = datagrams

    def receive(self, _: int) -> list[tuple[tuple[bytes, int, int, bytes], tuple[int]]]:
        return [((name, 1, 2, content[:48].ljust(48, b"\x77")), (len(content),)) for name, content in self._datagrams]

    def payload(self, slot: int, length: int) -> bytes:
        return self._datagrams[slot][1][:length]


class _FakeOutbox:
    def send(self, _: int, names: Sequence[bytes], _secrets: Sequence[bytes]) -> int:
        return len(names)


class _ErrorQueue(_Scripted):
    def fileno(self) -> int:
        return -1


def _swept(data: bytes) -> str:
    """Each target of a sweep is told of once; an answer counts if it comes from there and echoes that request."""
    split = Splitter(data)
    targets = [Target(f"192.0.2.{n}") for n in range(1, 2 + split.below(4))]
    names = socket_names(targets, Family.IPV4)
    secrets = [bytes((n + 1,)) * SECRET_BYTES for n in range(len(targets))]
    told: list[Swept] = []
    came: list[tuple[bytes, bytes]] = []
    for _ in range(split.below(8)):
        body = payload(split, bytes(40) + split.pick(secrets))
        came.append((split.pick([*names, b"\x02\0\0{\xc0\0\x02\xff"]), body))
    errors = []
    for _ in range(split.below(4)):
        quoted = (client_request(1)[:40] + split.pick([*secrets, bytes(8)]))[: split.pick((48, 48, 44))]
        errors.append((quoted, _control(split), (split.pick(targets).address, split.pick((123, 123, 124)))))

    async def run() -> None:
        lane = _Lane(
            cast(Any, _ErrorQueue((), errors)),
            Family.IPV4,
            targets,
            told.append,
            "192.0.2.100",
            1_000_000_000,
            64,
            lambda _: b"".join(secrets),
        )
        lane._outbox, lane._inbox = cast(Any, _FakeOutbox()), cast(Any, _FakeInbox(came))
        lane._refill()
        if split.flag():
            lane._drain()
        lane._ready()
        lane._drain()
        lane._expire(1 << 62)
        lane._refill()
        assert lane._done.done(), "the sweep never ends"

    _LOOP.run_until_complete(run())
    assert sorted(each.target for each in told) == sorted(targets)
    for each in told:
        index = targets.index(each.target)
        right = [
            body for name, body in came if name == names[index] and len(body) >= 48 and body[24:32] == secrets[index]
        ]
        assert each.payload is None or each.payload in right
        assert each.icmp is None or each.icmp.quoted[40:48] == secrets[index]
        assert each.fault is not LocalFault.SEND_FAILED
        if right and each.payload is None:
            assert each.icmp is not None, "an answer that came is lost"
    return "answer" if any(each.payload for each in told) else "icmp" if any(each.icmp for each in told) else "silence"


HARNESSES = (
    Harness("errqueue", "probe.errqueue: parse", _errors, frozenset({"none", "icmp"})),
    Harness("datagram", "probe.sockets: receive, stamp_of", _stamped, frozenset({"error", "stranger", "datagram"})),
    Harness("listening", "probe.listening: Listener, echoes", _listened, frozenset({"answered", "rubbish", "nothing"})),
    Harness("batches", "probe.batches: Inbox, on real sockets", _received, frozenset({"batch", "few"})),
    Harness("sweep", "probe.sweep: matching of answers and errors", _swept, frozenset({"answer", "icmp", "silence"})),
)
