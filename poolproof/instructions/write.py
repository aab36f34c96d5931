"""Finds who writes the instructions for a kind of software."""

from __future__ import annotations

from typing import assert_never

from poolproof.instructions.chrony import chrony
from poolproof.instructions.firewall import iptables, nftables
from poolproof.instructions.generic import generic
from poolproof.instructions.model import Instructions, Request, Software
from poolproof.instructions.ntpd import ntpd, ntpsec
from poolproof.instructions.ntpd_rs import ntpd_rs
from poolproof.instructions.openntpd import openntpd


def write(request: Request) -> Instructions:
    """What the owner has to do, in their software's own language."""
    match request.software:
        case Software.NTPSEC:
            return ntpsec(request)
        case Software.NTPD:
            return ntpd(request)
        case Software.CHRONY:
            return chrony(request)
        case Software.NTPD_RS:
            return ntpd_rs(request)
        case Software.OPENNTPD:
            return openntpd(request)
        case Software.NFTABLES:
            return nftables(request)
        case Software.IPTABLES:
            return iptables(request)
        case Software.GENERIC:
            return generic(request)
        case _:
            assert_never(request.software)
