"""Sentences that instructions for several kinds of software share."""

from __future__ import annotations

from collections.abc import Iterable

from poolproof.instructions.model import Network, Request, is_single, show
from poolproof.target import Family
from poolproof.variant import Variant

TWO_WAYS = "each verifier in the way that was drawn for it: no rate limiter refuses in two ways"


def listed(networks: Iterable[Network]) -> str:
    """Addresses and prefixes with commas between."""
    return ", ".join(show(network) for network in networks)


def title(request: Request, name: str) -> str:
    """One line: what, with what, on which target."""
    doing = {
        Variant.BLOCK: "block the assigned verifiers",
        Variant.ALLOW_ONLY: "answer the assigned monitors only",
    }[request.variant]
    return f"{name}: {doing} on {request.target}"


def summary(request: Request) -> str:
    """What will be different, and for whom."""
    monitors = listed(request.monitor_networks)
    version = f"IPv{request.family.value}"
    if request.variant is Variant.BLOCK:
        return (
            f"Your server stops answering NTP to {listed(request.verifier_networks)}."
            f" It must go on answering everybody else, above all {monitors}."
        )
    return (
        f"Over {version}, your server answers NTP to {monitors} and to nobody else until you undo it."
        " Do this only while the server is not yet in service. It goes on asking its own time sources."
    )


def assurance(request: Request) -> str:
    """What a proof is worth (design, section 2a)."""
    if request.variant is Variant.ALLOW_ONLY:
        return (
            "A proof is strong: it is judged from further vantages whose addresses nobody is told,"
            " so nobody can silence them from outside."
        )
    if all_prefixes(request):
        return (
            "A proof is strong: every question comes from another address of a prefix, so nobody can silence them"
            " one by one from outside (unless your server limits the rate by prefix, which is tried beforehand)."
        )
    return (
        "A proof by silence is medium: somebody else could make a server fall silent towards addresses that they know,"
        " by flooding it in their name. With the stronger step your server refuses instead, in packets that quote"
        " ours and in two ways at once, and that nobody else can do: strong."
    )


def all_prefixes(request: Request) -> bool:
    """Whether every verifier comes from a prefix, so that silence alone is strong."""
    return not any(is_single(network) for network in request.verifier_networks)


def caveats(request: Request) -> tuple[str, ...]:
    """What holds whatever the software."""
    own, other = (4, 6) if request.family is Family.IPV4 else (6, 4)
    behind = (
        "The rules compare source addresses. If a load balancer, proxy or source NAT stands in front of the server"
        " and hides them, set the rules there."
    )
    one_by_one = f"If this host has several IPv{own} addresses, verify one after the other."
    after = "Undo it when the verdict is there: a proof is needed once."
    return (
        f"This is for IPv{own} alone. If the same host also answers on IPv{other}, that is another target with a"
        f" verification and instructions of its own; these steps leave its IPv{other} answers as they are.",
        one_by_one,
        behind,
        after,
    )
