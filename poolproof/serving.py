"""How an NTP server answers: pure, for whoever serves (the responder of a demo, the coordinator's calibration targets).

Only client requests (mode 3) of versions 1 to 4 are answered, and never with more bytes than were asked with.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum

from poolproof.ntp import Header, PacketTooShortError, decode, encode, to_ntp
from poolproof.special_purpose import Network

_CLIENT = 3
_SERVER = 4
_VERSIONS = range(1, 5)


class Refusal(Enum):
    """What a blocked source gets."""

    SILENCE = "silence"
    DENY = "deny"
    """Kiss code DENY (RFC 5905 §7.4)."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the responder treats whom.

    Attributes:
        deny: networks that are blocked.
        allow_only: if not empty, everybody else is blocked.
        refusal: what a blocked source gets.
        silent: answer nobody at all.
        rate_interval_ns: a source that asks again sooner gets the kiss code RATE; 0: no limit.
        stratum: 1..15, or 16 for an unsynchronised server.
        refid: four octets: at stratum 1 the kind of clock, above it the upstream's IPv4 address.
        offset_ns: added to the time that is told, to play a server that is wrong, or a probe whose clock is.
        precision: of its clock, log2 s.
        root_delay, root_dispersion: to the primary source, NTP short format (2^-16 s).
        reference_age_ns: how long ago its clock was set last.
    """

    deny: tuple[Network, ...] = ()
    allow_only: tuple[Network, ...] = ()
    refusal: Refusal = Refusal.SILENCE
    silent: bool = False
    rate_interval_ns: int = 0
    stratum: int = 1
    refid: bytes = b"LOCL"
    offset_ns: int = 0
    precision: int = -20
    root_delay: int = 0
    root_dispersion: int = 66
    reference_age_ns: int = 1_000_000_000

    def blocks(self, source: str) -> bool:
        """Whether a source address is blocked."""
        address = ipaddress.ip_address(source)
        if self.allow_only and not any(address in network for network in self.allow_only):
            return True
        return any(address in network for network in self.deny)


def reply_to(
    request: bytes,
    *,
    behaviour: Behaviour,
    blocked: bool,
    hurried: bool,
    received_ns: int,
    transmit_ns: int,
    noise: int = 0,
) -> bytes | None:
    """The answer to one datagram, never longer than it; None for none.

    Args:
        request: the datagram.
        behaviour: how to answer.
        blocked: its source is blocked.
        hurried: its source asked again too soon.
        received_ns: when it came, Unix ns.
        transmit_ns: when the answer will go out, Unix ns.
        noise: 64 random bits, the low half for the receive and the high half for the transmit timestamp: what lies
            below the clock's precision shall be random (RFC 4330 §3), so that nobody can foresee an answer.
    """
    try:
        asked = decode(request)
    except PacketTooShortError:
        return None
    # RFC 5905 §3, figure 10: only mode 3 is a client's. Answering others is how servers get reflected at each other.
    if asked.mode != _CLIENT or asked.version not in _VERSIONS or behaviour.silent:
        return None
    if blocked and behaviour.refusal is Refusal.SILENCE:
        return None
    kiss = b"DENY" if blocked else b"RATE" if hurried else None
    synchronised = behaviour.stratum < 16 and kiss is None
    below = (1 << max(0, 32 + behaviour.precision)) - 1
    return encode(
        Header(
            leap=0 if synchronised else 3,
            version=asked.version,
            mode=_SERVER,
            # RFC 5905 §7.3: on the wire an unsynchronised server's stratum 16 is 0, and so is a kiss code's.
            stratum=behaviour.stratum if synchronised else 0,
            poll=asked.poll,
            precision=behaviour.precision,
            root_delay=behaviour.root_delay,
            root_dispersion=behaviour.root_dispersion,
            refid=kiss if kiss is not None else behaviour.refid if synchronised else b"INIT",
            reference=to_ntp(received_ns - behaviour.reference_age_ns) if synchronised else 0,
            origin=asked.transmit,
            receive=to_ntp(received_ns + behaviour.offset_ns) ^ noise & below,
            transmit=to_ntp(transmit_ns + behaviour.offset_ns) ^ noise >> 32 & below,
        )
    )
