"""In what way a request was refused.

A rate limiter that rejects makes genuine refusals that quote our packet, and a flood in a verifier's name fills it. But
it has one way to refuse, whoever asks. So a challenge asks that some verifiers be refused in one way and the others in
another, drawn with the roles: two ways at once are an owner's rules and no limiter's.
"""

from __future__ import annotations

from enum import Enum

from poolproof.exchange import IcmpError
from poolproof.target import Family


class RefusalKind(Enum):
    """A way to refuse."""

    ADMIN_PROHIBITED = "admin-prohibited"
    """ICMP 3/13 (RFC 1812 §5.2.7.1), ICMPv6 1/1 (RFC 4443 §3.1)."""
    PORT_UNREACHABLE = "port-unreachable"
    """ICMP 3/3 (RFC 792), ICMPv6 1/4 (RFC 4443 §3.1)."""
    KISS = "kiss"
    """Kiss code DENY or RSTR of the daemon itself (RFC 5905 §7.4). No known daemon sends these to limit a rate."""
    OTHER = "other"
    """Any other refusal by ICMP."""


ASKED_FOR = (RefusalKind.ADMIN_PROHIBITED, RefusalKind.PORT_UNREACHABLE)
"""What verifiers ask for, in turn: the two that every firewall can do, in both families."""

_BY_CODE: dict[Family, dict[tuple[int, int], RefusalKind]] = {
    Family.IPV4: {(3, 13): RefusalKind.ADMIN_PROHIBITED, (3, 3): RefusalKind.PORT_UNREACHABLE},
    Family.IPV6: {(1, 1): RefusalKind.ADMIN_PROHIBITED, (1, 4): RefusalKind.PORT_UNREACHABLE},
}


def kind_of(error: IcmpError, family: Family) -> RefusalKind:
    """The way in which an ICMP error refuses."""
    return _BY_CODE[family].get((error.type, error.code), RefusalKind.OTHER)
