"""Packets that a tripwire captures: anything may come, and it decides what nobody here asked for."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from poolproof.capture import MAX_UNASKED, MAX_UNASKED_BYTES, UnaskedKind
from poolproof.target import Target
from poolproof.wire.capture import capture_from_wire, capture_to_wire
from probe.account import Account
from probe.packets import Datagram, IcmpAbout, read_packet
from tests.fuzz.exchanges import NOW_NS
from tests.fuzz.harness import NOISE, Harness
from tests.fuzz.splitter import Splitter

_PORT = 123


class _Side(NamedTuple):
    target: str
    own: str
    network: str
    other: str


_SIDES = (
    _Side("198.51.100.9", "192.0.2.7", "192.0.2.7/32", "203.0.113.1"),
    _Side("2001:db8:9::9", "2001:db8:7::7", "2001:db8:7::/64", "::ffff:192.0.2.1"),
)


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _ip(source: bytes, destination: bytes, protocol: int, content: bytes, split: Splitter) -> bytes:
    """An IP packet; now and then with a field that lies, an extension header, or cut off."""
    odd = split.below(16)
    length = split.number(2) if odd == 15 else len(content)
    if len(source) == 4:
        fragment = split.number(2) if odd == 14 else 0
        first = bytes((split.number(1) if odd == 13 else 0x45, 0)) + (length + 20 & 0xFFFF).to_bytes(2, "big")
        packet = (
            first + bytes(2) + fragment.to_bytes(2, "big") + bytes((64, protocol)) + bytes(2) + source + destination
        )
    else:
        kinds = [split.pick((0, 43, 44, 60)) for _ in range(split.below(10))] if odd == 14 else []
        chain = [*kinds, protocol]
        extensions = b"".join(bytes((chain[n + 1], split.below(3))) + split.take(6) for n in range(len(kinds)))
        head = bytes((0x60, 0, 0, 0)) + (length & 0xFFFF).to_bytes(2, "big") + bytes((chain[0], 64))
        packet = head + source + destination + extensions
    whole = packet + content
    return whole[: split.below(len(whole) + 1)] if odd == 12 else whole


def _udp(source_port: int, port: int, payload: bytes, split: Splitter) -> bytes:
    length = split.number(2) if split.below(16) == 15 else 8 + len(payload)
    return source_port.to_bytes(2, "big") + port.to_bytes(2, "big") + length.to_bytes(2, "big") + bytes(2) + payload


def _payload(split: Splitter, stamps: tuple[bytes, ...]) -> bytes:
    stamp = [split.pick(stamps) for _ in range(3)]
    match split.below(8):
        case 7:
            return split.octets(64)
        case 6:
            return bytes((0x16, split.below(4), 0, split.below(3))) + split.octets(12)
        case _:
            return (
                bytes((split.pick((0x24, 0x23, 0x1C)),)) + bytes(23) + stamp[0] + stamp[1] + stamp[2] + split.octets(8)
            )


def _read(data: bytes) -> str:
    """Any packet is a datagram, an error that quotes one, or nothing; what is read of it stands in it."""
    split = Splitter(data)
    side = split.pick(_SIDES)
    source, own, kind = _packed(side.target), _packed(side.own), 0
    datagram = _udp(_PORT, split.number(2), split.octets(60), split)
    match split.below(4):
        case 0:
            packet = split.rest()
        case 1:
            kind = split.pick((3, 11, 1, 5, 8, 128, split.number(1)))
            quoted = _ip(own, source, 17 if split.below(8) != 7 else split.number(1), datagram, split)
            protocol = 1 if len(own) == 4 else 58
            packet = _ip(source, own, protocol, bytes((kind, 3)) + bytes(6) + quoted, split)
        case _:
            packet = _ip(source, own, 17 if split.below(8) != 7 else split.number(1), datagram, split)
    seen = read_packet(packet)
    if seen is None:
        return "no error" if kind in (8, 128) else "nothing"
    assert len(seen.source) == len(seen.destination)
    assert len(seen.source) == (4 if packet[0] >> 4 == 4 else 16)
    assert seen.source + seen.destination in packet
    inner = seen.quoted if isinstance(seen, IcmpAbout) else seen
    assert inner.payload in packet
    assert inner.source_port.to_bytes(2, "big") + inner.port.to_bytes(2, "big") in packet
    if isinstance(seen, Datagram):
        return "datagram"
    assert seen.message in packet
    # RFC 792 and RFC 4443 §2.1: what quotes a packet, and what is no error.
    assert seen.message[0] in (3, 4, 5, 11, 12) if len(seen.source) == 4 else seen.message[0] < 128
    assert len(inner.source) == len(seen.source), "an error of one family about the other"
    return "error"


def _watched(data: bytes) -> str:
    """What echoes or quotes something sent is not held against anybody; all else from the target is, and is counted."""
    split = Splitter(data)
    side = split.pick(_SIDES)
    target, own, other = (_packed(address) for address in (side.target, side.own, side.other))
    since_ns = NOW_NS - 1_000
    account = Account(Target(side.target), ipaddress.ip_network(side.network), since_ns)
    stamps = (bytes(range(1, 9)), bytes(range(2, 10)), bytes(8), split.take(8))
    sent: list[Datagram] = []
    surely, before = 0, 0
    for number in range(1 + split.below(8)):
        at_ns, outgoing, port = NOW_NS + number, split.flag(), split.pick((40_000, 40_001, 123))
        datagram = _udp(*((port, _PORT) if outgoing else (_PORT, port)), _payload(split, stamps), split)
        packet = _ip(*((own, target) if outgoing else (target, own)), 17, datagram, split)
        if not outgoing and split.below(4) == 3:
            quoted = _ip(own, target, 17, _udp(port, _PORT, _payload(split, stamps), split), split)
            kind = split.pick((3, 1, 11))
            sender, message = split.pick((target, other[-len(own) :])), bytes((kind, 3)) + bytes(6) + quoted
            packet = _ip(sender, own, 1 if len(own) == 4 else 58, message, split)
        account.see(packet, at_ns, outgoing=outgoing)
        seen, total = read_packet(packet), account.capture(at_ns).unasked_total
        assert total - before in (0, 1)
        if isinstance(seen, Datagram) and outgoing:
            sent.append(seen)
        if outgoing or seen is None:
            assert total == before, "our own packet, or none, is held against somebody"
        elif isinstance(seen, Datagram) and (seen.source, seen.source_port, seen.destination) == (target, _PORT, own):
            if not any(_may_answer(asked, seen) for asked in sent):
                surely += 1
                assert total == before + 1, "a packet that answers nothing is not counted"
            elif any(_echoes(asked, seen) for asked in sent):
                assert total == before, "an answer is held against the target"
        before = total
    capture = account.capture(NOW_NS + 100)
    assert capture_from_wire(capture_to_wire(capture)) == capture
    assert surely <= capture.unasked_total
    assert len(capture.unasked) == min(capture.unasked_total, MAX_UNASKED)
    assert all(len(each.payload) <= MAX_UNASKED_BYTES for each in capture.unasked)
    kinds = {each.kind for each in capture.unasked}
    return "error" if UnaskedKind.ICMP in kinds else "unasked" if kinds else "asked" if sent else "quiet"


def _may_answer(asked: Datagram, seen: Datagram) -> bool:
    """Whether a datagram could be taken for an answer to another: it came to the port, and repeats some of it."""
    control = len(seen.payload) >= 4 and seen.payload[0] & 7 == 6
    repeats = control or _echoes(asked, seen) or seen.payload[24:32] in asked.payload
    return asked.source_port == seen.port and repeats


def _echoes(asked: Datagram, seen: Datagram) -> bool:
    """Plainly an answer in client and server mode (RFC 5905 §8)."""
    return (
        asked.source_port == seen.port
        and min(len(asked.payload), len(seen.payload)) >= 48
        and asked.payload[0] & 7 != 6
        and seen.payload[0] & 7 != 6
        and asked.payload[40:48] == seen.payload[24:32] != bytes(8)
    )


HARNESSES = (
    Harness("packet", "probe.packets: read_packet", _read, frozenset({"nothing", "datagram", "error", "no error"})),
    Harness(
        "tripwire",
        "probe.account, asked: what nobody asked for",
        _watched,
        frozenset({"error", "unasked", "asked", "quiet"}),
        (bytes(1), *NOISE),
    ),
)
