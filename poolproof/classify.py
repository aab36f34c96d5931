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
    reply = answering_reply(exchange)
    if reply is not None:
        return _outcome(reply, exchange)
    if refusing_error(exchange) is not None:
        return Outcome.REFUSED
    if exchange.fault is not None:
        return Outcome.PROBE_FAILED
    if exchange.replies:
        return Outcome.MALFORMED
    if any(_quotes(error, exchange) or not _is_refusal(error, exchange) for error in exchange.icmp):
        # A router on the way said that it cannot get there, or this host itself refused: the path failed, nobody chose
        # to be silent. A refusal that quotes too little to be believed counts as the silence that it leaves.
        return Outcome.PROBE_FAILED
    return Outcome.SILENT if bracketed else Outcome.PROBE_FAILED


def answered(exchange: Exchange) -> bool:
    """Whether an exchange was answered in time, of itself (used for control servers and for baselines)."""
    return classify(exchange, bracketed=False).shows_presence


def answering_reply(exchange: Exchange) -> Reply | None:
    """The reply that decides what the exchange amounts to, the packet that a refutation names; None if none answers.

    Of several the one that says most plainly "I serve you", and of equals the first: a refusal in time and a late
    answer together are an answer.
    """
    echoes = [reply for reply in exchange.replies if _echoes(reply, exchange)]
    return max(echoes, key=lambda reply: _ANSWER_ORDER.index(_outcome(reply, exchange)), default=None)


def refusing_error(exchange: Exchange) -> IcmpError | None:
    """The first ICMP error by which somebody who has seen our packet refuses it."""
    believed = (error for error in exchange.icmp if _quotes(error, exchange) and _is_refusal(error, exchange))
    return next(believed, None)


def _echoes(reply: Reply, exchange: Exchange) -> bool:
    """RFC 5905 §8: the origin timestamp of an answer is the transmit timestamp of its request. Ours is random.

    A zero origin answers nothing (RFC 5905 §8), whatever was asked.
    """
    origin = reply.payload[_ORIGIN]
    return len(reply.payload) >= HEADER_BYTES and any(origin) and origin == exchange.request[_TRANSMIT]


_ANSWER_ORDER: tuple[Outcome, ...] = (
    Outcome.REFUSED,
    Outcome.LATE,
    Outcome.RATE_LIMITED,
    Outcome.UNSYNCHRONISED,
    Outcome.REPLIED,
)
"""From "I do not serve you" to "I serve you"."""


def _outcome(reply: Reply, exchange: Exchange) -> Outcome:
    """What an echoing reply says. A refusal does so however late; an answer shows presence only in time."""
    outcome = _answer(reply.payload)
    late = reply.received_at_ns - exchange.sent_at_ns > exchange.timeout_ns
    return Outcome.LATE if late and outcome is not Outcome.REFUSED else outcome


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
    request = exchange.request
    quoted = error.quoted[: len(request)]
    return len(request) >= HEADER_BYTES and len(quoted) >= HEADER_BYTES and request.startswith(quoted)


def _is_refusal(error: IcmpError, exchange: Exchange) -> bool:
    """Somebody chose to refuse, and not this probe's own host (its firewall answers from the source address)."""
    if error.offender == exchange.source:
        return False
    if family_of(exchange.destination) is Family.IPV4:
        return error.type == 3 and (error.code in _REFUSALS_V4 or error.offender == exchange.destination)
    return error.type == 1 and (error.code in _REFUSALS_V6 or error.offender == exchange.destination)
