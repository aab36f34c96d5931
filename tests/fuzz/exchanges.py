"""Exchanges from bytes: requests, answers that nearly echo, errors that nearly quote, faults."""

from __future__ import annotations

from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault, Reply
from poolproof.ntp import HEADER_BYTES, client_request
from tests.fuzz.splitter import Splitter

NOW_NS = 1_794_000_000_000_000_000
_KISSES = (b"RATE", b"DENY", b"RSTR", b"INIT", b"\0\0\0\0", b"GPS\0")
_FAULTS = (None, None, None, *LocalFault)


def exchange(split: Splitter) -> Exchange:
    """Any exchange that a probe could report, honest or not."""
    target, own, other = split.pick(
        (("192.0.2.7", "198.51.100.1", "203.0.113.9"), ("2001:db8::7", "2001:db8::1", "::"))
    )
    request = _request(split)
    return Exchange(
        split.pick(tuple(ExchangeKind)),
        request,
        own,
        target,
        123,
        NOW_NS,
        1 + split.number(4),
        replies=tuple(_reply(split, request) for _ in range(split.below(4))),
        icmp=tuple(_error(split, request, (target, own, other)) for _ in range(split.below(4))),
        fault=split.pick(_FAULTS),
    )


def _request(split: Splitter) -> bytes:
    match split.below(8):
        case 0:
            return split.octets(64)
        case 1:
            return client_request(1)[:40] + bytes(8)
        case 2:
            return client_request(split.number(8) or 1)[: split.below(HEADER_BYTES)]
        case 3:
            return client_request(split.number(8) or 1) + split.octets(24)
        case _:
            return client_request(split.number(8) or 1)


def payload(split: Splitter, request: bytes) -> bytes:
    """What may come back for a request: an echo, nearly one, our own bytes, anything."""
    secret = request[40:48].ljust(8, b"\0")
    match split.below(8):
        case 0:
            return split.octets(80)
        case 1:
            return request
        case 2:
            at = split.below(8)
            secret = secret[:at] + bytes((secret[at] ^ (split.number(1) or 1),)) + secret[at + 1 :]
        case 3:
            secret = bytes(8)
    head = bytes((split.number(1), split.pick((0, 1, 2, 15, 16, 255)))) + bytes(10) + split.pick(_KISSES)
    whole = head + bytes(8) + secret + split.take(16)
    return whole[: split.below(HEADER_BYTES)] if split.below(8) == 0 else whole + split.octets(24)


def _reply(split: Splitter, request: bytes) -> Reply:
    late_by_ns = split.pick((0, 1, 20_000_000, 1 << 33, -5))
    return Reply(payload(split, request), NOW_NS + late_by_ns)


def _error(split: Splitter, request: bytes, addresses: tuple[str, str, str]) -> IcmpError:
    match split.below(6):
        case 0:
            quoted = split.octets(64)
        case 1:
            quoted = request[: split.below(64)]
        case 2:
            at = split.below(len(request) or 1)
            quoted = request[:at] + bytes((split.number(1),)) + request[at + 1 :]
        case 3:
            quoted = request + split.octets(16)
        case _:
            quoted = request
    kind, code = split.pick(((3, 3), (3, 13), (3, 1), (11, 0), (1, 4), (1, 1), (1, 0), (3, 0)))
    if split.below(4) == 0:
        kind, code = split.number(1), split.number(1)
    return IcmpError(kind, code, split.pick(addresses), quoted, NOW_NS + 1)
