"""chrony: access control through `chronyc`, at once and without a restart.

Tried on chrony 4.3. A more specific subnet wins over a wider one; `all` overrides every earlier line within its subnet,
so it has to come first. Access control concerns clients alone, never chronyd's own time sources. What `chronyc` changed
is gone when chronyd restarts.
"""

from __future__ import annotations

from poolproof.instructions import remarks
from poolproof.instructions.firewall import nft_reject, nft_undo
from poolproof.instructions.model import Instructions, Network, Request, Step, is_single, show
from poolproof.target import Family
from poolproof.variant import Variant


def chrony(request: Request) -> Instructions:
    """With `chronyc deny` and `chronyc allow`."""
    steps, undo = _block(request) if request.variant is Variant.BLOCK else _allow_only(request)
    return Instructions(
        title=remarks.title(request, "chrony"),
        summary=remarks.summary(request),
        steps=steps,
        undo=undo,
        assurance_note=remarks.assurance(request),
        caveats=(
            "A restart of chronyd takes all of it away, which is another way to undo it"
            " (`systemctl restart chrony`; the service is called chronyd on Fedora and others)."
            " While the verification runs, do not restart it.",
            "Undo an earlier attempt before you begin another, or restart chronyd first:"
            " its verifiers would still be blocked.",
            *remarks.caveats(request),
        ),
    )


def _block(request: Request) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    verifiers = request.verifier_networks
    easy = not remarks.all_prefixes(request)
    deny = Step(
        text=("Easiest: deny" if easy else "Deny") + " the verifiers access. It works at once, without a restart.",
        commands=tuple(f"chronyc deny {show(network)}" for network in verifiers),
        check=tuple(f"chronyc accheck {_member(network)}" for network in verifiers),
        expect="`209 Access denied` for each",
    )
    allow = Step(
        text="Allow them again.",
        commands=tuple(f"chronyc allow {show(network)}" for network in verifiers),
        check=deny.check,
        expect="`208 Access allowed` for each",
    )
    if not easy:
        return (deny,), (allow,)
    return (deny, nft_reject(request)), (
        allow,
        nft_undo(request, "Only if you did the stronger step: delete the firewall's table."),
    )


def _allow_only(request: Request) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    monitors = request.monitor_networks
    everyone, loopback = ("0.0.0.0/0", "127.0.0.1") if request.family is Family.IPV4 else ("::/0", "::1")
    only = Step(
        text="Deny everybody access and allow the monitors, in this order. It works at once, without a restart.",
        commands=(
            f"chronyc deny all {everyone}",
            *(f"chronyc allow {show(network)}" for network in monitors),
        ),
        check=(
            f"chronyc accheck {loopback}",
            *(f"chronyc accheck {_member(network)}" for network in monitors),
        ),
        expect="`209 Access denied` for the first, `208 Access allowed` for each monitor",
    )
    again = Step(
        text="Allow everybody again. If your chrony.conf denies some clients, restart chronyd instead.",
        commands=(f"chronyc allow all {everyone}",),
        check=(f"chronyc accheck {loopback}",),
        expect="`208 Access allowed`",
    )
    return (only,), (again,)


def _member(network: Network) -> str:
    """An address to try: of a prefix the first after the network's own."""
    return show(network) if is_single(network) else str(network[1])
