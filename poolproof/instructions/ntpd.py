"""ntpsec and classic ntpd: `restrict` lines.

Facts that the lines rest on, each tried on ntpsec 1.2.2 and classic 4.2.8p15:

- The most specific line wins, wherever it stands; flags of two lines for one address (or `default`) add up.
- `ignore` on `default` also drops the answers of the server's own time sources: ntpd then never becomes synchronised,
  unless there is a `restrict source` line.
- Classic takes a prefix only as `address mask mask`: it logs a CIDR and goes on without the line.
- No reload: a restart. At run time `ntpq -c ':config restrict ...'` needs a control key, and classic and ntpsec < 1.2.3
  cannot take such a line back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from poolproof.instructions import remarks
from poolproof.instructions.firewall import nft_reject, nft_undo
from poolproof.instructions.model import Instructions, Network, Request, Step, is_single, show
from poolproof.target import Family
from poolproof.variant import Variant

_MARK: Final = {Family.IPV4: "# poolproof-ipv4", Family.IPV6: "# poolproof-ipv6"}
"""One for each family: a host's two targets may be verified at the same time."""


@dataclass(frozen=True, slots=True)
class _Daemon:
    name: str
    file: str
    service: str
    elsewhere: str
    dhcp: str
    takes_cidr: bool
    flags: str
    """Restrictions that monitors and time sources keep: a line of their own does not inherit those of `default`."""


_NTPSEC: Final = _Daemon(
    name="ntpsec",
    file="/etc/ntpsec/ntp.conf",
    service="ntpsec",
    elsewhere="it is often /etc/ntp.conf and ntpd",
    dhcp="/run/ntpsec/ntp.conf.dhcp",
    takes_cidr=True,
    flags="nomodify noquery",
)
_CLASSIC: Final = _Daemon(
    name="ntpd (classic)",
    file="/etc/ntp.conf",
    service="ntp",
    elsewhere="the service is often called ntpd",
    dhcp="/run/ntp.conf.dhcp",
    takes_cidr=False,
    flags="notrap nomodify noquery",
)


def ntpsec(request: Request) -> Instructions:
    """For ntpsec, which takes CIDR prefixes."""
    return _instructions(request, _NTPSEC)


def ntpd(request: Request) -> Instructions:
    """For classic ntpd 4.2.8, which wants masks."""
    return _instructions(request, _CLASSIC)


def _instructions(request: Request, daemon: _Daemon) -> Instructions:
    mark = _MARK[request.family]
    remove = f"sed -i -e '/{mark}$/d' -e '$a\\' {daemon.file}"
    restart = f"systemctl restart {daemon.service}"
    show_lines = f"grep '{mark}$' {daemon.file}"
    block = request.variant is Variant.BLOCK
    easy = block and not remarks.all_prefixes(request)
    steps = [
        Step(
            text="Take out the lines of an earlier attempt. The first time it changes nothing.",
            commands=(remove,),
        ),
        Step(
            text=(f"{'Easiest: add' if easy else 'Add'} these lines to the end of the configuration."),
            file=daemon.file,
            lines=_block(request, daemon) if block else _allow_only(request, daemon),
            check=(show_lines,),
            expect="the lines above",
        ),
        Step(
            text=(
                "Restart the daemon: it reads `restrict` lines only when it starts. For some seconds (6 s with iburst)"
                " it then answers as unsynchronised; that is an answer too and does no harm here."
            ),
            commands=(restart,),
            check=(f"systemctl is-active {daemon.service}", "ntpq -pn"),
            expect="`active`, and after a minute your time sources, one of them with a `*`",
        ),
    ]
    undo = [
        Step(
            text="Take the lines out again and restart.",
            commands=(remove, restart),
            check=(show_lines,),
            expect="nothing",
        )
    ]
    if easy:
        steps.append(nft_reject(request))
        undo.append(nft_undo(request, "Only if you did the stronger step: delete the firewall's table."))
    return Instructions(
        title=remarks.title(request, daemon.name),
        summary=remarks.summary(request),
        steps=tuple(steps),
        undo=tuple(undo),
        assurance_note=remarks.assurance(request),
        caveats=(
            f"File and service names are Debian's and Ubuntu's; elsewhere {daemon.elsewhere}."
            " The commands are for Linux.",
            f"If {daemon.dhcp} exists (time servers from DHCP), Debian's daemon reads that copy instead:"
            f" `rm -f {daemon.dhcp}` before the restart.",
            "With a control key `ntpq` can add `restrict` lines without a restart (`:config`), but only ntpsec 1.2.3"
            " and newer can take them back: the restart would only come later.",
            *remarks.caveats(request),
        ),
    )


def _block(request: Request, daemon: _Daemon) -> tuple[str, ...]:
    return tuple(
        f"restrict {_where(network, daemon)} ignore {_MARK[request.family]}" for network in request.verifier_networks
    )


def _allow_only(request: Request, daemon: _Daemon) -> tuple[str, ...]:
    mark = _MARK[request.family]
    option, loopback = ("-4", "127.0.0.1") if request.family is Family.IPV4 else ("-6", "::1")
    return (
        f"restrict {option} default ignore {mark}",
        f"restrict source {daemon.flags} {mark}",
        f"restrict {loopback} {mark}",
        *(f"restrict {_where(network, daemon)} {daemon.flags} {mark}" for network in request.monitor_networks),
    )


def _where(network: Network, daemon: _Daemon) -> str:
    if is_single(network) or daemon.takes_cidr:
        return show(network)
    return f"{network.network_address} mask {network.netmask}"
