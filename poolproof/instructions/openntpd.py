"""OpenNTPD, which has no access control of its own: the firewall in front of it."""

from __future__ import annotations

from dataclasses import replace

from poolproof.instructions import remarks
from poolproof.instructions.firewall import nftables
from poolproof.instructions.model import Instructions, Request


def openntpd(request: Request) -> Instructions:
    """The same as for nftables."""
    firewall = nftables(request)
    return replace(
        firewall,
        title=remarks.title(request, "OpenNTPD"),
        caveats=(
            "OpenNTPD answers everybody and has no setting for that, so these steps use nftables, Linux's firewall."
            " With iptables, OpenBSD's pf or no firewall at all, take the instructions for iptables or generic.",
            *firewall.caveats,
        ),
    )
