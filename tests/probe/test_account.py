"""What is asked and what is not, over packets as bytes; and that the account of a flood stays small."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.capture import MAX_UNASKED, MAX_UNASKED_BYTES, UnaskedKind
from poolproof.ntp import client_request
from poolproof.target import Target
from probe.account import ENOUGH_UNASKED, MAX_PER_MINUTE, Account
from probe.asked import PORT_NS, REMEMBERED
from tests.probe.udp_peers import answer_to
from tests.probe.virtual import EPOCH_NS, S
from tests.probe.wire_packets import icmp, udp

TARGET, OWN, ROUTER = "198.51.100.9", "192.0.2.7", "203.0.113.1"
TARGET_V6, OWN_V6 = "2001:db8:9::9", "2001:db8:7::7"
READSTAT = bytes.fromhex("1601 0007 0000 0000 0000 0000")


def account(*, since_ns: int = EPOCH_NS, source: str = OWN, target: str = TARGET) -> Account:
    return Account(Target(target), ipaddress.ip_network(source), since_ns)


class Wire:
    """Packets go by at an account, one microsecond apart."""

    def __init__(self, watching: Account | None = None, *, at_ns: int = EPOCH_NS) -> None:
        self.account = watching or account()
        self.now_ns = at_ns

    def ours(self, payload: bytes, port: int = 40_000, *, source: str = OWN, target: str = TARGET) -> None:
        self._see(udp(source, port, target, 123, payload), outgoing=True)

    def theirs(self, payload: bytes, port: int = 40_000, *, source: str = OWN, target: str = TARGET) -> None:
        self._see(udp(target, 123, source, port, payload), outgoing=False)

    def error(self, payload: bytes, port: int = 40_000, *, quoted_octets: int = 600, kind: int = 3) -> None:
        quoted = udp(OWN, port, TARGET, 123, payload)[:quoted_octets]
        self._see(icmp(ROUTER, OWN, kind, quoted), outgoing=False)

    @property
    def unasked(self) -> int:
        return self.account.capture(self.now_ns).unasked_total

    def _see(self, packet: bytes, *, outgoing: bool) -> None:
        self.now_ns += 1_000
        self.account.see(packet, self.now_ns, outgoing=outgoing)


def stamped(*, origin: int = 0, receive: int = 0, transmit: int = 0, first: int = 0x24) -> bytes:
    """An NTP packet with these timestamps."""
    return bytes((first,)) + bytes(23) + b"".join(each.to_bytes(8, "big") for each in (origin, receive, transmit))


def test_an_answer_its_duplicate_and_a_late_one_are_asked_for() -> None:
    wire = Wire()
    first, second = client_request(1), client_request(2)
    wire.ours(first, 40_000)
    wire.ours(second, 40_001)
    for _ in range(2):
        wire.theirs(answer_to(second), 40_001)
    wire.now_ns += 600 * S
    wire.theirs(answer_to(first), 40_000)
    assert wire.unasked == 0


def test_an_answer_in_interleaved_mode_echoes_our_receive_timestamp() -> None:
    wire = Wire()
    wire.ours(stamped(origin=5, receive=6, transmit=7, first=0x23))
    wire.theirs(stamped(origin=6))
    assert wire.unasked == 0
    wire.theirs(stamped(origin=5))
    assert wire.unasked == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x",
        bytes(47),
        bytes(48),
        stamped(origin=8),
        stamped(origin=0),
        answer_to(client_request(99)),
        bytes.fromhex("1681 0007 0000 0000 0000 0000"),
        bytes.fromhex("97 00 03 2a 00000000"),
        bytes(400),
    ],
    ids=["empty", "short", "47", "zeros", "origin", "no-origin", "other", "mode6", "mode7", "long"],
)
def test_whatever_else_the_target_sends_is_unasked(payload: bytes) -> None:
    wire = Wire()
    wire.ours(client_request(1))
    wire.theirs(payload)
    capture = wire.account.capture(wire.now_ns)
    (packet,) = capture.unasked
    assert packet.kind is UnaskedKind.UDP
    assert (packet.sender, packet.destination, packet.received_at_ns) == (TARGET, OWN, wire.now_ns)
    assert packet.payload == payload[:MAX_UNASKED_BYTES]


def test_an_echo_at_another_port_or_address_than_it_was_asked_from_is_unasked() -> None:
    wire = Wire(account(source="2001:db8:7::/64", target=TARGET_V6))
    request = client_request(1)
    wire.ours(request, source=OWN_V6, target=TARGET_V6)
    wire.theirs(answer_to(request), source=OWN_V6, target=TARGET_V6)
    assert wire.unasked == 0
    wire.theirs(answer_to(request), 40_001, source=OWN_V6, target=TARGET_V6)
    wire.theirs(answer_to(request), source="2001:db8:7::8", target=TARGET_V6)
    assert wire.unasked == 2


def test_an_answer_in_mode_6_is_asked_for_if_its_question_was() -> None:
    wire = Wire()
    answer = bytes((READSTAT[0], 0x80 | READSTAT[1])) + READSTAT[2:]
    wire.theirs(answer)
    assert wire.unasked == 1
    wire.ours(READSTAT)
    wire.theirs(answer)
    wire.error(READSTAT)
    assert wire.unasked == 1
    wire.theirs(answer[:3] + b"\x08" + answer[4:])
    assert wire.unasked == 2


def test_a_packet_of_ours_that_comes_by_a_second_time_on_the_loopback_is_no_matter() -> None:
    wire = Wire()
    wire._see(udp(OWN, 40_000, TARGET, 123, client_request(1)), outgoing=False)
    wire._see(udp(TARGET, 123, OWN, 40_000, b"strange"), outgoing=True)
    wire._see(icmp(ROUTER, OWN, 3, udp(OWN, 40_000, TARGET, 123, client_request(1))), outgoing=True)
    assert wire.unasked == 0


def test_only_what_leaves_this_host_makes_an_answer_asked_for() -> None:
    """Else an attacker could ask in our name and have us believe that it was us."""
    wire = Wire()
    request = client_request(1)
    wire._see(udp(OWN, 40_000, TARGET, 123, request), outgoing=False)
    wire.theirs(answer_to(request))
    assert wire.unasked == 1


def test_an_error_about_a_packet_that_we_sent_is_asked_for() -> None:
    wire = Wire()
    wire.ours(client_request(1))
    for kind in (3, 11):
        wire.error(client_request(1), kind=kind)
    assert wire.unasked == 0


def test_an_error_about_a_packet_that_we_did_not_send_is_unasked() -> None:
    wire = Wire()
    wire.ours(client_request(1))
    wire.error(client_request(2))
    wire.error(client_request(1), 40_001)
    wire.error(bytes(48), 123)
    capture = wire.account.capture(wire.now_ns)
    assert [packet.kind for packet in capture.unasked] == [UnaskedKind.ICMP] * 3
    assert {(packet.sender, packet.destination) for packet in capture.unasked} == {(ROUTER, OWN)}
    assert capture.unasked[0].payload[:2] == bytes((3, 3))
    assert all(len(packet.payload) <= MAX_UNASKED_BYTES for packet in capture.unasked)


def test_an_error_that_quotes_too_little_is_ours_if_the_port_was_ours_of_late() -> None:
    wire = Wire()
    wire.ours(client_request(1))
    for octets in (28, 29, 75):
        wire.error(client_request(1), quoted_octets=octets)
    assert wire.unasked == 0
    wire.error(client_request(1), 40_001, quoted_octets=28)
    assert wire.unasked == 1
    wire.now_ns += PORT_NS + S
    wire.error(client_request(1), quoted_octets=28)
    assert wire.unasked == 2


def test_what_comes_while_the_watch_learns_is_not_held_against_anybody() -> None:
    wire = Wire(account(since_ns=EPOCH_NS + S))
    wire.ours(client_request(2))
    wire.theirs(answer_to(client_request(1)))
    assert wire.unasked == 0
    early = wire.account.capture(wire.now_ns)
    assert early.since_ns == early.until_ns == EPOCH_NS + S
    wire.now_ns += S
    wire.theirs(answer_to(client_request(2)))
    assert wire.unasked == 0
    wire.theirs(answer_to(client_request(1)))
    assert wire.unasked == 1


def test_an_error_from_a_mapped_address_is_told_in_canonical_form() -> None:
    wire = Wire(account(source=OWN_V6, target=TARGET_V6))
    quoted = udp(OWN_V6, 1, TARGET_V6, 123, bytes(48))
    wire._see(icmp("::ffff:192.0.2.1", OWN_V6, 1, quoted), outgoing=False)
    (packet,) = wire.account.capture(wire.now_ns).unasked
    assert packet.sender == "192.0.2.1"


def test_of_a_flood_the_first_are_kept_and_the_rest_counted_until_it_is_enough() -> None:
    wire = Wire()
    packet = udp(TARGET, 123, OWN, 123, bytes(400))
    for number in range(ENOUGH_UNASKED):
        assert not wire.account.full
        wire.account.see(packet, EPOCH_NS + number, outgoing=False)
    assert wire.account.full
    capture = wire.account.capture(wire.now_ns)
    assert capture.unasked_total == ENOUGH_UNASKED
    assert len(capture.unasked) == MAX_UNASKED
    assert {len(each.payload) for each in capture.unasked} == {MAX_UNASKED_BYTES}


def test_more_than_so_many_packets_a_minute_are_a_flood_even_if_they_were_asked_for() -> None:
    wire = Wire()
    packet = udp(OWN, 123, TARGET, 123, client_request(1))
    for minute in range(3):
        for _ in range(MAX_PER_MINUTE):
            wire.account.see(packet, EPOCH_NS + minute * 60 * S, outgoing=True)
    assert not wire.account.full
    wire.account.see(packet, EPOCH_NS + 2 * 60 * S, outgoing=True)
    assert wire.account.full


def test_of_very_many_questions_the_latest_are_remembered() -> None:
    wire = Wire()
    requests = [client_request(number) for number in range(1, REMEMBERED + 2)]
    for request in requests:
        wire.ours(request)
    for request in requests[1:]:
        wire.theirs(answer_to(request))
    assert wire.unasked == 0
    wire.theirs(answer_to(requests[0]))
    assert wire.unasked == 1


@given(st.lists(st.tuples(st.sampled_from("oti"), st.integers(1, 4), st.integers(1, 3)), max_size=30))
def test_asked_is_what_was_sent_before_and_nothing_else(events: list[tuple[str, int, int]]) -> None:
    """Against a model: the set of what was sent."""
    wire = Wire()
    sent = set[tuple[int, int]]()
    expected = 0
    for kind, stamp, port in events:
        if kind == "o":
            wire.ours(client_request(stamp), port)
            sent.add((stamp, port))
        else:
            expected += (stamp, port) not in sent
            if kind == "t":
                wire.theirs(answer_to(client_request(stamp)), port)
            else:
                wire.error(client_request(stamp), port)
    assert wire.unasked == expected


@given(st.binary(max_size=120), st.booleans())
def test_no_bytes_break_an_account(octets: bytes, outgoing: bool) -> None:
    watching = account()
    watching.see(octets, EPOCH_NS, outgoing=outgoing)
    assert watching.capture(EPOCH_NS).unasked_total <= 1


def test_what_the_kernel_dropped_is_told() -> None:
    wire = Wire()
    wire.account.lose(2)
    wire.account.lose(3)
    assert wire.account.capture(wire.now_ns).lost == 5
