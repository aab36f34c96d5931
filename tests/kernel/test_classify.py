"""The ladder from raw exchange to outcome: what can be forged never speaks before what cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.classify import answering_reply, classify, classify_report, refusing_error
from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault, Reply
from poolproof.ids import JobId, VantageId
from poolproof.job import ClockCheck, Report
from poolproof.ntp import client_request
from poolproof.outcome import Outcome
from poolproof.plan import observation
from tests.kernel.situations import challenge

SENT_NS, TIMEOUT_NS, RTT_NS = 1_794_000_000_000_000_000, 1_500_000_000, 30_000_000
REQUEST = client_request(0x0123456789ABCDEF)
TARGET, SOURCE, ROUTER = "203.0.113.7", "192.0.2.1", "198.51.100.1"
TARGET6, SOURCE6 = "2001:db8:53::7", "2001:db8:1::1"


def exchange(
    *replies: Reply, icmp: tuple[IcmpError, ...] = (), fault: LocalFault | None = None, six: bool = False
) -> Exchange:
    source, target = (SOURCE6, TARGET6) if six else (SOURCE, TARGET)
    kind = ExchangeKind.CLIENT_V4
    return Exchange(kind, REQUEST, source, target, 123, SENT_NS, TIMEOUT_NS, tuple(replies), icmp, fault)


def reply(
    *, leap: int = 0, stratum: int = 2, refid: bytes = b"GPS\0", origin: bytes = REQUEST[40:48], after_ns: int = RTT_NS
) -> Reply:
    payload = bytes((leap << 6 | 4 << 3 | 4, stratum)) + bytes(10) + refid + bytes(8) + origin + bytes(16)
    return Reply(payload, SENT_NS + after_ns)


def icmp(kind: int, code: int, offender: str = ROUTER, quoted: bytes = REQUEST) -> IcmpError:
    return IcmpError(kind, code, offender, quoted, SENT_NS + RTT_NS)


FORGED = b"\x01" * 8


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (reply(), Outcome.REPLIED),
        (reply(stratum=15), Outcome.REPLIED),
        (reply(leap=3), Outcome.UNSYNCHRONISED),
        (reply(stratum=16), Outcome.UNSYNCHRONISED),
        (reply(stratum=255), Outcome.UNSYNCHRONISED),
        (reply(stratum=0, refid=b"INIT"), Outcome.UNSYNCHRONISED),
        (reply(stratum=0, refid=b"STEP"), Outcome.UNSYNCHRONISED),
        (reply(stratum=0, refid=b"XNON"), Outcome.UNSYNCHRONISED),
        (reply(stratum=0, refid=bytes(4)), Outcome.UNSYNCHRONISED),
        (reply(stratum=0, refid=b"RATE"), Outcome.RATE_LIMITED),
        (reply(stratum=0, refid=b"DENY"), Outcome.REFUSED),
        (reply(stratum=0, refid=b"RSTR"), Outcome.REFUSED),
        (reply(stratum=1, refid=b"DENY"), Outcome.REPLIED),
        (reply(after_ns=TIMEOUT_NS), Outcome.REPLIED),
        (reply(after_ns=TIMEOUT_NS + 1), Outcome.LATE),
        (reply(stratum=0, refid=b"RATE", after_ns=TIMEOUT_NS + 1), Outcome.LATE),
        (reply(stratum=0, refid=b"DENY", after_ns=TIMEOUT_NS + 1), Outcome.REFUSED),
        (reply(after_ns=-5), Outcome.REPLIED),
        (Reply(reply().payload + bytes(20), SENT_NS), Outcome.REPLIED),
        (reply(origin=FORGED), Outcome.MALFORMED),
        (reply(origin=bytes(8)), Outcome.MALFORMED),
        (reply(stratum=0, refid=b"DENY", origin=FORGED), Outcome.MALFORMED),
        (reply(stratum=0, refid=b"RATE", origin=FORGED), Outcome.MALFORMED),
        (Reply(reply().payload[:47], SENT_NS), Outcome.MALFORMED),
        (Reply(b"", SENT_NS), Outcome.MALFORMED),
        (Reply(REQUEST, SENT_NS + RTT_NS), Outcome.MALFORMED),
    ],
)
@pytest.mark.parametrize("bracketed", [True, False])
def test_one_datagram(given: Reply, outcome: Outcome, bracketed: bool) -> None:
    assert classify(exchange(given), bracketed=bracketed) is outcome


@pytest.mark.parametrize(
    ("replies", "outcome"),
    [
        ((reply(), reply()), Outcome.REPLIED),
        ((reply(stratum=0, refid=b"RATE"), reply()), Outcome.REPLIED),
        ((reply(stratum=0, refid=b"DENY"), reply(stratum=16)), Outcome.UNSYNCHRONISED),
        ((reply(origin=FORGED), reply()), Outcome.REPLIED),
        ((reply(origin=FORGED), reply(after_ns=TIMEOUT_NS + 1)), Outcome.LATE),
        ((reply(stratum=0, refid=b"DENY"), reply(after_ns=TIMEOUT_NS + 1)), Outcome.LATE),
        ((reply(), reply(after_ns=TIMEOUT_NS + 1)), Outcome.REPLIED),
    ],
    ids=["twice", "rate, then served", "deny and answer", "forged first", "forged, then late", "deny, late", "again"],
)
def test_of_several_datagrams_the_one_that_says_plainest_that_it_serves(
    replies: tuple[Reply, ...], outcome: Outcome
) -> None:
    for given_order in (replies, replies[::-1]):
        seen = exchange(*given_order)
        assert classify(seen, bracketed=False) is outcome
        decisive = answering_reply(seen)
        assert decisive is not None
        assert classify(exchange(decisive), bracketed=False) is outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (icmp(3, 3), Outcome.REFUSED),
        (icmp(3, 2), Outcome.REFUSED),
        (icmp(3, 9), Outcome.REFUSED),
        (icmp(3, 10), Outcome.REFUSED),
        (icmp(3, 13), Outcome.REFUSED),
        (icmp(3, 3, quoted=REQUEST + b"padding"), Outcome.REFUSED),
        (icmp(3, 0), Outcome.PROBE_FAILED),
        (icmp(3, 1), Outcome.PROBE_FAILED),
        (icmp(3, 1, TARGET), Outcome.REFUSED),
        (icmp(3, 0, quoted=b""), Outcome.PROBE_FAILED),
        (icmp(11, 0), Outcome.PROBE_FAILED),
        (icmp(11, 0, TARGET), Outcome.PROBE_FAILED),
        (icmp(3, 3, SOURCE), Outcome.PROBE_FAILED),
        (icmp(3, 3, quoted=REQUEST[:8]), Outcome.SILENT),
        (icmp(3, 3, quoted=b""), Outcome.SILENT),
        (icmp(3, 3, quoted=REQUEST[:47]), Outcome.SILENT),
        (icmp(3, 3, quoted=client_request(1)), Outcome.SILENT),
    ],
    ids=lambda value: f"{value.type}/{value.code} {len(value.quoted)}" if isinstance(value, IcmpError) else None,
)
def test_one_icmp_error(error: IcmpError, outcome: Outcome) -> None:
    """A forged refusal leaves a silence what it is; a path that reports its own failure is nobody's choice."""
    assert classify(exchange(icmp=(error,)), bracketed=True) is outcome
    if outcome is Outcome.SILENT:
        assert classify(exchange(icmp=(error,)), bracketed=False) is Outcome.PROBE_FAILED


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (icmp(1, 1, ROUTER6 := "2001:db8:2::1"), Outcome.REFUSED),
        (icmp(1, 4, TARGET6), Outcome.REFUSED),
        (icmp(1, 5, ROUTER6), Outcome.REFUSED),
        (icmp(1, 6, ROUTER6), Outcome.REFUSED),
        (icmp(1, 3, ROUTER6), Outcome.PROBE_FAILED),
        (icmp(1, 3, TARGET6), Outcome.REFUSED),
        (icmp(1, 0, ROUTER6), Outcome.PROBE_FAILED),
        (icmp(3, 3, TARGET6), Outcome.PROBE_FAILED),
        (icmp(1, 4, SOURCE6), Outcome.PROBE_FAILED),
    ],
    ids=lambda value: f"{value.type}/{value.code} {value.offender}" if isinstance(value, IcmpError) else None,
)
def test_one_icmpv6_error(error: IcmpError, outcome: Outcome) -> None:
    """The numbers mean other things than those of IPv4: type 3 is a time that was exceeded."""
    assert classify(exchange(icmp=(error,), six=True), bracketed=True) is outcome


@pytest.mark.parametrize("fault", LocalFault)
def test_an_answer_counts_whatever_the_probes_own_health(fault: LocalFault) -> None:
    assert classify(exchange(reply(), fault=fault), bracketed=False) is Outcome.REPLIED
    assert classify(exchange(icmp=(icmp(3, 3),), fault=fault), bracketed=False) is Outcome.REFUSED
    for nothing in (exchange(fault=fault), exchange(reply(origin=FORGED), fault=fault)):
        assert classify(nothing, bracketed=True) is Outcome.PROBE_FAILED


def test_an_answer_beside_a_refusal_is_an_answer() -> None:
    assert classify(exchange(reply(), icmp=(icmp(3, 3),)), bracketed=True) is Outcome.REPLIED


def _report(before: tuple[Exchange, ...], after: tuple[Exchange, ...]) -> Report:
    return Report(JobId("v/1/0/a"), VantageId("a"), (exchange(),), before, after, ClockCheck(0, 0, 0))


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ((exchange(reply()),), (exchange(reply()),), Outcome.SILENT),
        ((exchange(), exchange(reply())), (exchange(reply()), exchange()), Outcome.SILENT),
        ((), (exchange(reply()),), Outcome.PROBE_FAILED),
        ((exchange(reply()),), (), Outcome.PROBE_FAILED),
        ((exchange(),), (exchange(reply()),), Outcome.PROBE_FAILED),
        ((exchange(reply()),), (exchange(reply(origin=FORGED)),), Outcome.PROBE_FAILED),
        ((exchange(reply()),), (exchange(reply(after_ns=TIMEOUT_NS + 1)),), Outcome.PROBE_FAILED),
        ((exchange(reply()),), (exchange(icmp=(icmp(3, 3),)),), Outcome.PROBE_FAILED),
    ],
)
def test_silence_is_silence_only_between_two_answers_of_control_servers(
    before: tuple[Exchange, ...], after: tuple[Exchange, ...], outcome: Outcome
) -> None:
    assert classify_report(_report(before, after)) == (outcome,)


ROW = challenge().rows[0]


def test_what_is_recorded_is_the_packet_that_decided() -> None:
    """Not the first that came: that may be a forged one."""
    refused = exchange(icmp=(icmp(3, 3, quoted=client_request(7)), icmp(3, 13, quoted=REQUEST + bytes(900))))
    assert refusing_error(refused) == refused.icmp[1]
    seen = observation(replace(_report((), ()), exchanges=(refused,)), 0, ROW, 0, bytes(32))
    assert (seen.outcome, seen.packet) == (Outcome.REFUSED, REQUEST)
    served = exchange(reply(stratum=0, refid=b"DENY"), reply())
    seen = observation(replace(_report((), ()), exchanges=(served,)), 0, ROW, 0, bytes(32))
    assert (seen.outcome, seen.packet) == (Outcome.REPLIED, served.replies[1].payload)


_faults = st.none() | st.sampled_from(LocalFault)
_moments = st.integers(SENT_NS - 10**10, SENT_NS + 10**10)


@st.composite
def _near_misses(draw: st.DrawFn) -> bytes:
    """Bytes that look like an answer or a quotation of another packet of ours."""
    near = draw(st.sampled_from([reply(origin=FORGED).payload, REQUEST, client_request(1), reply().payload]))
    return near[: draw(st.integers(0, 48))] + draw(st.binary(max_size=60))


_anything = st.binary(max_size=120) | _near_misses()
_offenders = st.sampled_from([TARGET, ROUTER, SOURCE])


@given(
    st.lists(st.builds(Reply, _anything, _moments), max_size=4),
    st.lists(
        st.builds(IcmpError, st.integers(0, 255), st.integers(0, 255), _offenders, _anything, _moments), max_size=4
    ),
    _faults,
    st.booleans(),
    st.integers(1, (1 << 64) - 1) | st.just(0),
    st.integers(0, 48),
)
def test_no_bytes_without_our_random_bits_are_an_answer_or_a_refusal(
    replies: list[Reply],
    errors: list[IcmpError],
    fault: LocalFault | None,
    bracketed: bool,
    secret: int,
    length: int,
) -> None:
    """Whatever comes, and whatever little of the request a broken probe kept; and nothing raises."""
    request = (REQUEST[:40] + secret.to_bytes(8, "big"))[:length]
    seen = replace(exchange(*replies, icmp=tuple(errors), fault=fault), request=request)
    outcome = classify(seen, bracketed=bracketed)
    bits = request[40:48]
    known = len(bits) == 8 and any(bits in sent for sent in [r.payload for r in replies] + [e.quoted for e in errors])
    if not known:
        assert outcome in (Outcome.SILENT, Outcome.MALFORMED, Outcome.PROBE_FAILED)
    if outcome is Outcome.SILENT:
        assert bracketed
        assert fault is None
        assert not replies
