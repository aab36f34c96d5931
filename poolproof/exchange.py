"""What a probe saw, as it saw it: raw datagrams, timestamps and errors. No judgement lives here.

A probe reports `Exchange` values; `classify` turns each into an `Outcome`; `decide` weighs the outcomes. Because
the bytes are kept, old evidence can be judged again by newer rules.

All times are integers in nanoseconds since the Unix epoch. Addresses are text in canonical form
(`ipaddress`), IPv4 addresses never IPv6-mapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ExchangeKind(Enum):
    """What one request asks. A method's challenge says per kind whether an answer or silence is expected."""

    CLIENT_V4 = "client-v4"
    """NTPv4 mode 3, 48 bytes (RFC 5905 §7.3)."""


class LocalFault(Enum):
    """Why the probe itself could not make or finish an exchange: its own failure, never the target's silence."""

    GUARD_REFUSED = "guard-refused"
    """The probe's own guard forbids this target, port or rate."""
    CLOCK_WRONG = "clock-wrong"
    """The probe's clock is off by more than it may be. (Where nobody told the time, the control servers are missing as
    well, and silence counts for nothing without this fault.)"""
    MISSED_START = "missed-start"
    """The lease arrived, or was found again, after its start time."""
    INTERRUPTED = "interrupted"
    """The probe died or was stopped while the exchange was under way."""
    DRAINING = "draining"
    """The probe is shutting down and takes no new work."""
    BIND_FAILED = "bind-failed"
    """The source address could not be bound."""
    SEND_FAILED = "send-failed"
    """The kernel refused to send (no route, no buffer, filtered locally)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One datagram that came from the target's address and port to the exchange's socket.

    Attributes:
        payload: UDP payload, at most 2,048 bytes are kept.
        received_at_ns: kernel receive timestamp (SO_TIMESTAMPNS).
    """

    payload: bytes
    received_at_ns: int


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP or ICMPv6 error from the socket's error queue.

    Attributes:
        type: ICMP type (3: destination unreachable) or ICMPv6 type (1: destination unreachable).
        code: code within the type.
        offender: address of the node that sent the error.
        quoted: UDP payload that the error quotes; ours, if the sender really saw our packet.
        received_at_ns: when it was read from the error queue.
    """

    type: int
    code: int
    offender: str
    quoted: bytes
    received_at_ns: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and everything that came back for it, late and duplicate datagrams included.

    Attributes:
        kind: what was asked.
        request: UDP payload as sent; its transmit timestamp holds 64 random bits.
        source: address that the request was sent from.
        destination: address that it was sent to.
        port: UDP port that it was sent to.
        sent_at_ns: when the kernel took the request; the time of the fault if it was never sent.
        timeout_ns: an answer later than this after `sent_at_ns` is late.
        replies: datagrams in the order in which they arrived.
        icmp: errors in the order in which they were read.
        fault: set if the probe itself failed; then nothing here is evidence of the target's silence.
        fault_detail: the operating system's words, for people.
    """

    kind: ExchangeKind
    request: bytes
    source: str
    destination: str
    port: int
    sent_at_ns: int
    timeout_ns: int
    replies: tuple[Reply, ...] = ()
    icmp: tuple[IcmpError, ...] = ()
    fault: LocalFault | None = None
    fault_detail: str = ""
