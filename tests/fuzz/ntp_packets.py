"""NTP packets: the header's codec, the ladder that says what an exchange came to, the clock check, the responder."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import replace
from typing import Any, cast

from poolproof.classify import answering_reply, classify, refusing_error
from poolproof.exchange import Exchange
from poolproof.ntp import (
    HEADER_BYTES,
    Header,
    PacketTooShortError,
    client_request,
    decode,
    encode,
    from_ntp,
    to_ntp,
)
from poolproof.outcome import Outcome
from poolproof.serving import Behaviour, Refusal, reply_to
from poolproof.wire import clock_from_wire, clock_to_wire
from probe.clock import check_clock, judge_clock
from probe.responder import Responder
from tests.fuzz.exchanges import exchange
from tests.fuzz.harness import NOISE, Harness
from tests.fuzz.splitter import Splitter

_ERA_HALF_NS = (1 << 31) * 1_000_000_000


def _codec(data: bytes) -> str:
    """Every header that can be read is written back the same; every time is the one nearest to now."""
    split = Splitter(data)
    near, stamp = split.number(8) >> 1, split.number(8)
    found = from_ntp(stamp, near)
    assert abs(found - near) <= _ERA_HALF_NS
    assert (to_ntp(found) - stamp) & 0xFFFF_FFFF_FFFF_FFFF in (0, *range(0xFFFF_FFFF_FFFF_FFF0, 1 << 64))
    leap, version, mode, stratum, poll, precision = (split.pick((0, 1, 3, 7, 8, -1, split.number(1))) for _ in range(6))
    delay, dispersion, refid = split.number(4), split.number(4), split.octets(6)
    stamps = [split.number(9) for _ in range(4)]
    header = Header(leap, version, mode, stratum, poll, precision, delay, dispersion, refid, *stamps)
    try:
        whole = encode(header)
    except ValueError:
        whole = b""
    assert not whole or len(whole) == HEADER_BYTES
    rest = split.rest()
    try:
        seen = decode(rest)
    except PacketTooShortError:
        assert len(rest) < HEADER_BYTES
        return "short"
    assert encode(seen) == rest[:HEADER_BYTES]
    return "decoded"


def _secret(seen: Exchange) -> bytes:
    return seen.request[40:48] if len(seen.request) >= HEADER_BYTES else b""


def _classified(data: bytes) -> str:
    """Nothing without our origin answers, nothing without our packet refuses, and strangers change nothing."""
    split = Splitter(data)
    bracketed = split.flag()
    seen = exchange(split)
    outcome = classify(seen, bracketed=bracketed)
    secret = _secret(seen)
    echoes = tuple(
        reply
        for reply in seen.replies
        if len(reply.payload) >= HEADER_BYTES and reply.payload[24:32] == secret != bytes(8)
    )
    quotes = tuple(
        error
        for error in seen.icmp
        if secret
        and len(error.quoted) >= HEADER_BYTES
        and error.quoted[: len(seen.request)] == seen.request[: len(error.quoted)]
    )
    assert not outcome.is_answer or echoes, "an answer without our origin"
    assert outcome is not Outcome.REFUSED or echoes or quotes, "a refusal by somebody who has not seen our packet"
    if outcome is Outcome.REFUSED and not echoes:
        assert any(error.offender != seen.source for error in quotes), "our own host refuses itself"
    assert (answering_reply(seen) is not None) == bool(echoes)
    refusing = refusing_error(seen)
    assert refusing is None or refusing in quotes
    if outcome is Outcome.SILENT:
        assert bracketed
        assert seen.fault is None
        assert not seen.replies
        assert not quotes
    assert seen.fault is None or outcome is Outcome.PROBE_FAILED or echoes or quotes
    backwards = replace(seen, replies=seen.replies[::-1], icmp=seen.icmp[::-1])
    assert classify(backwards, bracketed=bracketed) is outcome, "the order of arrival decides"
    alone = classify(replace(seen, replies=echoes, icmp=quotes), bracketed=bracketed)
    assert alone.is_answer == outcome.is_answer
    assert (alone is Outcome.REFUSED) == (outcome is Outcome.REFUSED), "strangers make, or hide, a refusal"
    return str(outcome.value)


def _clock(data: bytes) -> str:
    """Whatever control servers say, there is a verdict on the clock, and it fits its message."""
    split = Splitter(data)
    seen = [exchange(split) for _ in range(split.below(4))]
    check = check_clock(seen)
    assert 0 <= check.samples <= len(seen)
    assert check.error_ns >= 0
    assert clock_from_wire(clock_to_wire(check)) == check
    return judge_clock(check, 100_000_000).value


def _behaviour(split: Splitter) -> Behaviour:
    network = ipaddress.ip_network("192.0.2.0/24")
    return Behaviour(
        deny=(network,) if split.flag() else (),
        refusal=split.pick(tuple(Refusal)),
        silent=split.below(8) == 1,
        rate_interval_ns=split.pick((0, 1_000_000_000)),
        stratum=1 + split.below(16),
        refid=split.take(4),
        offset_ns=split.number(8) - (1 << 63),
    )


class _Sock:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendmsg(self, parts: list[bytes], *_: object) -> None:
        self.sent += parts


def _responded(data: bytes) -> str:
    """An answer is never longer than the request, echoes it, and goes to clients alone: nobody can be reflected at."""
    split = Splitter(data)
    behaviour = _behaviour(split)
    blocked, hurried, received_ns = split.flag(), split.flag(), split.number(8)
    control = split.pick(
        (
            (socket.SOL_SOCKET, 35, split.take(16)),
            (socket.IPPROTO_IP, 8, split.take(12)),
            (socket.IPPROTO_IPV6, 50, split.take(20)),
            (split.number(1), split.number(1), split.octets(20)),
        )
    )
    request = bytes((split.number(1),)) + split.octets(80)
    if split.flag():
        request = request.ljust(HEADER_BYTES, b"\x2a")
    reply = reply_to(
        request, behaviour=behaviour, blocked=blocked, hurried=hurried, received_ns=received_ns, transmit_ns=received_ns
    )
    if reply is not None:
        assert len(reply) <= len(request)
        assert request[0] & 7 == 3
        assert 1 <= request[0] >> 3 & 7 <= 4
        assert reply[24:32] == request[40:48]
        assert reply[0] & 7 == 4
    responder, sock = Responder([], behaviour), _Sock()
    peer = (split.pick(("192.0.2.9", "198.51.100.9", "2001:db8::9", "fe80::9%lo")), split.pick((0, 123, 40_000)))
    for _ in range(2):
        responder._answer(cast(Any, sock), request, [control], peer)
    assert sum(map(len, sock.sent)) <= 2 * len(request)
    assert responder.answered + responder.ignored == 2
    assert not sock.sent or peer[1], "port 0 is nobody"
    return "nothing" if reply is None else "kiss" if reply[1] == 0 else "time"


HARNESSES = (
    Harness(
        "ntp",
        "poolproof.ntp: decode, encode, from_ntp, to_ntp",
        _codec,
        frozenset({"short", "decoded"}),
        (*NOISE, bytes(60) + client_request(7)),
    ),
    Harness(
        "classify", "poolproof.classify over whole exchanges", _classified, frozenset(each.value for each in Outcome)
    ),
    Harness("clock", "probe.clock over control servers' answers", _clock, frozenset({"right", "wrong", "unknown"})),
    Harness("responder", "probe.responder: reply_to, Responder", _responded, frozenset({"nothing", "kiss", "time"})),
)
