"""From raw exchange to outcome: a ladder of questions, the ones that cannot be forged first.

An answer is looked for before anything else is believed or filtered out: whoever echoes 64 random bits has seen our
packet, whatever the probe's own health. Silence comes last, and only between two answers of the probe's control
servers.
"""

from __future__ import annotations

from poolproof.exchange import Exchange, IcmpError, Reply
from poolproof.job import Report
from poolproof.ntp import HEADER_BYTES
from poolproof.outcome import Outcome
from poolproof.target import Family, family_of

_ORIGIN = slice(24, 32)
_TRANSMIT = slice(40, 48)
_REFUSALS_V4 = frozenset({2, 3, 9, 10, 13})
"""Codes of ICMP type 3 that a host or a filter chooses to send: protocol and port unreachable, administratively
prohibited (RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1)."""
_REFUSALS_V6 = frozenset({1, 4, 5, 6})
"""Codes of ICMPv6 type 1: administratively prohibited, port unreachable, source policy, reject route (RFC 4443
§3.1)."""


def classify_report(report: Report) -> tuple[Outcome, ...]:
    """One outcome for each exchange of a report, in order."""
    bracketed = any(map(answered, report.control_before)) and any(map(answered, report.control_after))
    return tuple(classify(exchange, bracketed=bracketed) for exchange in report.exchanges)


def classify(exchange: Exchange, *, bracketed: bool) -> Outcome:
    """What one exchange amounts to.

    Args:
        exchange: the raw record.
        bracketed: the probe's own control servers answered before and after, from the same source address.
    """
    echoes = [reply for reply in exchange.replies if _echoes(reply, exchange)]
    in_time = [reply for reply in echoes if reply.received_at_ns - exchange.sent_at_ns <= exchange.timeout_ns]
    if in_time:
        return max((_answer(reply.payload) for reply in in_time), key=_ANSWER_ORDER.index)
    if echoes:
        return Outcome.LATE
    quoting = [error for error in exchange.icmp if _quotes(error, exchange)]
    if any(_is_refusal(error, exchange.destination) for error in quoting):
        return Outcome.REFUSED
    if exchange.fault is not None:
        return Outcome.PROBE_FAILED
    if exchange.replies:
        return Outcome.MALFORMED
    if quoting:
        # A router on the way said that it cannot get there: the path failed, nobody chose to be silent.
        return Outcome.PROBE_FAILED
    return Outcome.SILENT if bracketed else Outcome.PROBE_FAILED


def answered(exchange: Exchange) -> bool:
    """Whether an exchange was answered in time, of itself (used for control servers and for baselines)."""
    return classify(exchange, bracketed=False).shows_presence


def answering_reply(exchange: Exchange) -> Reply | None:
    """The first reply that echoes our origin, in time or late; the packet that a refutation names."""
    return next((reply for reply in exchange.replies if _echoes(reply, exchange)), None)


def _echoes(reply: Reply, exchange: Exchange) -> bool:
    """RFC 5905 §8: the origin timestamp of an answer is the transmit timestamp of its request. Ours is random."""
    return len(reply.payload) >= HEADER_BYTES and reply.payload[_ORIGIN] == exchange.request[_TRANSMIT]


_ANSWER_ORDER: tuple[Outcome, ...] = (
    Outcome.REFUSED,
    Outcome.RATE_LIMITED,
    Outcome.UNSYNCHRONISED,
    Outcome.REPLIED,
)
"""Of several answers to one packet the one that says most plainly 'I serve you' counts."""


def _answer(payload: bytes) -> Outcome:
    leap, stratum, refid = payload[0] >> 6, payload[1], payload[12:16]
    if stratum == 0:
        # RFC 5905 §7.4: kiss codes. INIT, STEP, XNON and 0.0.0.0 only say that the clock is not set.
        if refid == b"RATE":
            return Outcome.RATE_LIMITED
        return Outcome.REFUSED if refid in (b"DENY", b"RSTR") else Outcome.UNSYNCHRONISED
    return Outcome.UNSYNCHRONISED if leap == 3 or stratum >= 16 else Outcome.REPLIED


def _quotes(error: IcmpError, exchange: Exchange) -> bool:
    """The error quotes our random transmit timestamp: its sender saw the packet. RFC 792's 8 octets do not reach it."""
    return len(error.quoted) >= HEADER_BYTES and exchange.request.startswith(error.quoted[: len(exchange.request)])


def _is_refusal(error: IcmpError, destination: str) -> bool:
    if family_of(destination) is Family.IPV4:
        return error.type == 3 and (error.code in _REFUSALS_V4 or error.offender == destination)
    return error.type == 1 and (error.code in _REFUSALS_V6 or error.offender == destination)
