"""nftables and iptables: rules in a table or chain of their own, so that one line takes them away.

IPv4 and IPv6 have a table each (`ip poolproof`, `ip6 poolproof`): a host's two targets may be verified at the same
time, and the steps for one must not undo the other's.

No other rule overrides them: what an nftables base chain drops stays dropped, whatever other base chains accept, and at
priority -150 it comes before `filter` (0); the iptables chain is called from position 1 of INPUT.

ALLOW_ONLY drops requests of NTP mode 3 alone. Time servers that ntpd itself asks answer in mode 4 *to port 123*,
because ntpd also asks from port 123: a rule for all of UDP port 123 would cut the server off its own time. Connection
tracking would tell them apart too, but lets through who was answered in the last 30 s, and busy servers switch it off.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from poolproof.instructions import remarks
from poolproof.instructions.model import Instructions, Network, Request, Step, show
from poolproof.refusal import RefusalKind
from poolproof.target import Family
from poolproof.variant import Variant

_NFT_TABLE: Final = {Family.IPV4: "table ip poolproof", Family.IPV6: "table ip6 poolproof"}
_NFT_REJECT: Final = {
    (Family.IPV4, RefusalKind.ADMIN_PROHIBITED): "reject with icmp type admin-prohibited",
    (Family.IPV4, RefusalKind.PORT_UNREACHABLE): "reject with icmp type port-unreachable",
    (Family.IPV6, RefusalKind.ADMIN_PROHIBITED): "reject with icmpv6 type admin-prohibited",
    (Family.IPV6, RefusalKind.PORT_UNREACHABLE): "reject with icmpv6 type port-unreachable",
}
IPTABLES_REJECT: Final = {
    (Family.IPV4, RefusalKind.ADMIN_PROHIBITED): "icmp-admin-prohibited",
    (Family.IPV4, RefusalKind.PORT_UNREACHABLE): "icmp-port-unreachable",
    (Family.IPV6, RefusalKind.ADMIN_PROHIBITED): "icmp6-adm-prohibited",
    (Family.IPV6, RefusalKind.PORT_UNREACHABLE): "icmp6-port-unreachable",
}
"""What `--reject-with` takes for each way to refuse (iptables-extensions(8), REJECT)."""
_NOT_KEPT: Final = "The rules are gone after a reboot."


def nftables(request: Request) -> Instructions:
    """An own table, loaded as one transaction."""
    forwarded = _forwarded(request, "write `hook forward` instead of `hook input`, and the port inside the container")
    return Instructions(
        title=remarks.title(request, "nftables"),
        summary=remarks.summary(request),
        steps=nft_steps(request),
        undo=(nft_undo(request),),
        assurance_note=remarks.assurance(request),
        caveats=(forwarded, _NOT_KEPT, *remarks.caveats(request)),
    )


def nft_steps(request: Request) -> tuple[Step, ...]:
    """Steps with nftables: the owner of a daemon without access control takes the same."""
    if request.variant is Variant.ALLOW_ONLY:
        rules: tuple[str, ...] = (
            'iifname "lo" accept',
            f"{_nft_sources(request.monitor_networks)} accept",
            f"udp dport {request.target.port} @th,64,8 & 0x07 == 0x03 counter drop",
        )
        what = (
            "Load a table of its own that drops NTP requests (mode 3) of everybody but the monitors."
            " Answers of your own time sources (mode 4) are let through."
        )
        return (_nft_load(request, what, rules),)
    packets = _nft_verifiers(request)
    easiest = _nft_load(
        request,
        "Easiest: load a table of its own that drops the verifiers' packets."
        if not remarks.all_prefixes(request)
        else "Load a table of its own that drops the verifiers' packets.",
        (f"{packets} counter drop",),
    )
    if remarks.all_prefixes(request):
        return (easiest,)
    where = _NFT_TABLE[request.family].removeprefix("table ")
    inserts = "; ".join(f"insert rule {where} input {rule}" for rule in _nft_rejects(request))
    stronger = Step(
        text=f"Stronger: one line more. It refuses the packets before the other rule drops them, {remarks.TWO_WAYS}.",
        commands=(f"nft '{inserts}'",),
        check=_nft_check(request),
        expect="a rule that ends in `reject` for each way, above the one that ends in `drop`",
    )
    return easiest, stronger


def nft_undo(request: Request, text: str = "Delete the table, and with it all its rules.") -> Step:
    """One line."""
    table = _NFT_TABLE[request.family]
    return Step(text=text, commands=(f"nft delete {table}",), check=("nft list tables",), expect=f"no `{table}`")


def nft_reject(request: Request) -> Step:
    """One line that refuses the verifiers in front of a daemon that could only be silent."""
    table = _NFT_TABLE[request.family]
    rules = " ".join(f"{rule};" for rule in _nft_rejects(request))
    chain = f"chain input {{ type filter hook input priority -150; {rules} }};"
    return Step(
        text=(
            "Stronger: one line more. Let the firewall (nftables) refuse the packets before the daemon sees them,"
            f" {remarks.TWO_WAYS}. Without nftables, take the instructions for iptables instead."
        ),
        commands=(f"nft '{table}; delete {table}; {table} {{ {chain} }}'",),
        check=_nft_check(request),
        expect="a rule that ends in `reject` for each way",
    )


def iptables(request: Request) -> Instructions:
    """An own chain, called first from INPUT; with ip6tables for an IPv6 target."""
    program = "iptables" if request.family is Family.IPV4 else "ip6tables"
    undo = Step(
        text="Take the chain out of INPUT and delete it.",
        commands=tuple(f"{program} {rest}" for rest in ("-D INPUT -j POOLPROOF", "-F POOLPROOF", "-X POOLPROOF")),
        check=(f"{program} -S | grep POOLPROOF",),
        expect="nothing",
    )
    return Instructions(
        title=remarks.title(request, program),
        summary=remarks.summary(request),
        steps=_iptables_steps(request, program),
        undo=(undo,),
        assurance_note=remarks.assurance(request),
        caveats=(
            _forwarded(request, "write FORWARD (with Docker: DOCKER-USER) instead of INPUT, here and in the undo"),
            f"{_NOT_KEPT} A reload of ufw, firewalld or another tool that owns INPUT removes them too:"
            " then run the steps again.",
            *remarks.caveats(request),
        ),
    )


def _iptables_steps(request: Request, program: str) -> tuple[Step, ...]:
    to_port = f"-p udp --dport {request.target.port}"
    fresh = f"{program} -N POOLPROOF 2>/dev/null || {program} -F POOLPROOF"
    first = f"{program} -D INPUT -j POOLPROOF 2>/dev/null; {program} -I INPUT 1 -j POOLPROOF"
    check = (f"{program} -nvL INPUT 1", f"{program} -nvL POOLPROOF")
    if request.variant is Variant.ALLOW_ONLY:
        keep = [f"{program} -A POOLPROOF -s {show(network)} -j RETURN" for network in request.monitor_networks]
        only = Step(
            text=(
                "Drop NTP requests (mode 3) of everybody but the monitors, in a chain of its own that comes first."
                " Answers of your own time sources (mode 4) are let through."
            ),
            commands=(
                fresh,
                f"{program} -A POOLPROOF -i lo -j RETURN",
                *keep,
                f"{program} -A POOLPROOF {to_port} -m u32 --u32 '{_U32_MODE_3[request.family]}' -j DROP",
                first,
            ),
            check=check,
            expect="the jump to POOLPROOF, and in it one DROP below the RETURN lines; DROP counts packets",
        )
        tracked = Step(
            text=(
                "Only if the line with `u32` was refused (some systems lack that module): tell answers from requests by"
                " connection tracking. Requests from ports that were answered in the last 30 s still get through"
                " at first."
            ),
            commands=(
                f"{program} -A POOLPROOF {to_port} -m conntrack --ctstate ESTABLISHED -j RETURN",
                f"{program} -A POOLPROOF {to_port} -j DROP",
            ),
            check=check,
            expect="one DROP, in the last line",
        )
        return only, tracked
    drops = [f"{program} -A POOLPROOF -s {show(network)} {to_port} -j DROP" for network in request.verifier_networks]
    easiest = Step(
        text="Easiest: drop the verifiers' packets, in a chain of its own that comes first.",
        commands=(fresh, *drops, first),
        check=check,
        expect="the jump to POOLPROOF, and in it a DROP for each verifier",
    )
    if remarks.all_prefixes(request):
        return (easiest,)
    rejects = (
        f"{program} -I POOLPROOF -s {','.join(map(show, networks))} {to_port}"
        f" -j REJECT --reject-with {IPTABLES_REJECT[request.family, kind]}"
        for kind, networks in request.refusals
    )
    stronger = Step(
        text=f"Stronger: one line more. It refuses the packets before the other rules drop them, {remarks.TWO_WAYS}.",
        commands=(" && ".join(rejects),),
        check=(f"{program} -nvL POOLPROOF",),
        expect="a REJECT for each verifier above the DROP lines",
    )
    return easiest, stronger


_U32_MODE_3: Final = {
    Family.IPV4: "0>>22&0x3C@8>>24&0x07=0x03",
    Family.IPV6: "48>>24&0x07=0x03",
}
"""First byte of the UDP payload, mode bits (RFC 5905 §7.3): IPv4 by its header length, IPv6 without extensions."""


def _forwarded(request: Request, block: str) -> str:
    """An ALLOW_ONLY rule in a forward chain would also drop the requests that the server itself sends."""
    instead = block if request.variant is Variant.BLOCK else "take the instructions for the daemon itself"
    return f"If NTP runs in a container, its packets are forwarded and pass no input chain: {instead}."


def _nft_load(request: Request, text: str, rules: Iterable[str]) -> Step:
    """Loads a table anew. Naming it before deleting it is no error, whether it was there or not."""
    table = _NFT_TABLE[request.family]
    ruleset = (
        table,
        f"delete {table}",
        f"{table} {{",
        "  chain input {",
        "    type filter hook input priority -150; policy accept;",
        *(f"    {rule}" for rule in rules),
        "  }",
        "}",
    )
    return Step(
        text=text,
        commands=("\n".join(("nft -f - <<'END'", *ruleset, "END")),),
        check=_nft_check(request),
        expect="the rules; the counter goes up when packets are dropped",
    )


def _nft_check(request: Request) -> tuple[str, ...]:
    return (f"nft list {_NFT_TABLE[request.family]}",)


def _nft_verifiers(request: Request) -> str:
    return f"{_nft_sources(request.verifier_networks)} udp dport {request.target.port}"


def _nft_rejects(request: Request) -> tuple[str, ...]:
    return tuple(
        f"{_nft_sources(networks)} udp dport {request.target.port} counter {_NFT_REJECT[request.family, kind]}"
        for kind, networks in request.refusals
    )


def _nft_sources(networks: tuple[Network, ...]) -> str:
    return f"{'ip' if networks[0].version == 4 else 'ip6'} saddr {{ {remarks.listed(networks)} }}"
