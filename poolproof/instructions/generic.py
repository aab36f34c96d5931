"""Any firewall, router or appliance, in plain words; and Linux without a firewall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from poolproof.instructions import remarks
from poolproof.instructions.model import Instructions, Request, Step, show
from poolproof.refusal import RefusalKind
from poolproof.target import Family
from poolproof.variant import Variant

_HEADINGS: Final = ("rule", "action", "source", "protocol", "destination", "port")
_PLACE: Final = "They stand above every other rule, also above one that accepts `established` packets."


def generic(request: Request) -> Instructions:
    """As a table of firewall rules."""
    block = request.variant is Variant.BLOCK
    easy = block and not remarks.all_prefixes(request)
    steps = [_block(request, easy=easy) if block else _allow_only(request)]
    undo = [Step(text="Remove these rules.")]
    if easy:
        steps.append(
            Step(
                text=(
                    "Stronger: take `reject` (some call it `refuse` or `deny with ICMP`) instead of `drop`, with the"
                    f" ICMP code that was drawn for each verifier: {_ways(request)}. No rate limiter refuses in two"
                    " ways; with a device that has only one, the proof stays medium."
                )
            )
        )
    if block:
        program = "ip route" if request.family is Family.IPV4 else "ip -6 route"
        networks = [show(network) for network in request.verifier_networks]
        steps.append(
            Step(
                text=(
                    "Or, on Linux without any firewall: send whatever goes to the verifiers into a black hole"
                    " (not only NTP; silence, so no refusal)."
                ),
                commands=tuple(f"{program} replace blackhole {network}" for network in networks),
                check=(f"{program} show type blackhole",),
                expect="a line for each verifier",
            )
        )
        undo.append(
            Step(
                text="Only if you took the black hole: delete its routes.",
                commands=tuple(f"{program} del blackhole {network}" for network in networks),
                check=(f"{program} show type blackhole",),
                expect="none of them",
            )
        )
    return Instructions(
        title=remarks.title(request, "Any firewall or router"),
        summary=remarks.summary(request),
        steps=tuple(steps),
        undo=tuple(undo),
        assurance_note=remarks.assurance(request),
        caveats=(
            "Behind a NAT that changes the destination, write the server's inner address and port as the destination.",
            *remarks.caveats(request),
        ),
    )


def _ways(request: Request) -> str:
    codes = {
        (Family.IPV4, RefusalKind.ADMIN_PROHIBITED): "administratively prohibited (type 3, code 13)",
        (Family.IPV4, RefusalKind.PORT_UNREACHABLE): "port unreachable (type 3, code 3)",
        (Family.IPV6, RefusalKind.ADMIN_PROHIBITED): "administratively prohibited (type 1, code 1)",
        (Family.IPV6, RefusalKind.PORT_UNREACHABLE): "port unreachable (type 1, code 4)",
    }
    return "; ".join(
        f"{codes[request.family, kind]} for {remarks.listed(networks)}" for kind, networks in request.refusals
    )


def _block(request: Request, *, easy: bool) -> Step:
    target = request.target
    rows = [("drop", show(network), "UDP", target.address, str(target.port)) for network in request.verifier_networks]
    return Step(
        text=f"{'Easiest: set' if easy else 'Set'} these rules for incoming packets. {_PLACE}",
        lines=_table(rows),
    )


def _allow_only(request: Request) -> Step:
    target = request.target
    to = ("UDP", target.address, str(target.port))
    rows = [("accept", show(network), *to) for network in request.monitor_networks]
    rows += [("accept", "answers to the server's own requests", *to), ("drop", "any", *to)]
    return Step(
        text=(
            "Set these rules for incoming packets, in this order, above every other rule. The last but one keeps the"
            " server's own time: many daemons ask from port 123, so their answers arrive there. Match connection state"
            " `established`, or, where that cannot be had, source port 123 of your time sources'"
            " addresses."
        ),
        lines=_table(rows),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    numbered = [_HEADINGS, *((str(number), *row) for number, row in enumerate(rows, start=1))]
    widths = [max(len(row[column]) for row in numbered) for column in range(len(_HEADINGS))]
    return tuple(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in numbered
    )
