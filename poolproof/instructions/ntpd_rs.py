"""ntpd-rs: `denylist` and `allowlist` under each `[[server]]`.

Tried on ntpd-rs 1.4.0. A server that listens on `[::]` (as the sample configuration does) sees IPv4 clients as
`::ffff:a.b.c.d`, and an IPv4 filter does not match those; one that listens on `0.0.0.0` sees them plainly. So each IPv4
source is written both ways, and "all of the other family" is written without the one form or with it. No reload.
`action = "deny"` sends the kiss code DENY: a refusal that bears our origin.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from poolproof.instructions import remarks
from poolproof.instructions.model import Instructions, Network, Request, Step
from poolproof.target import Family
from poolproof.variant import Variant

_FILE: Final = "/etc/ntpd-rs/ntp.toml"
_VALIDATE: Final = f"ntp-ctl validate -c {_FILE}"
_RESTART: Final = "systemctl restart ntpd-rs"

_NOT_MONITORED: Final = {
    Family.IPV4: ("127.0.0.0/8", "::1/128", "2000::/3", "fc00::/7", "fe80::/10"),
    Family.IPV6: ("::1/128", "0.0.0.0/0", "::ffff:0:0/96"),
}
"""What stays allowed besides the monitors: loopback and the other family. `::/0` would let mapped IPv4 in."""


def ntpd_rs(request: Request) -> Instructions:
    """With one line under each `[[server]]`."""
    block = request.variant is Variant.BLOCK
    easy = block and not remarks.all_prefixes(request)
    key, networks = ("denylist", request.verifier_networks) if block else ("allowlist", request.monitor_networks)
    filters = [each for network in networks for each in _forms(network)]
    if not block:
        filters += _NOT_MONITORED[request.family]
    quoted = ", ".join(f'"{each}"' for each in filters)
    mark = f"# poolproof-ipv{request.family.value}"
    remove, show_line = f"sed -i '/{mark}$/d' {_FILE}", f"grep '{mark}$' {_FILE}"
    line = f'{key} = {{ filter = [{quoted}], action = "ignore" }} {mark}'
    steps = [
        Step(text="Take out the line of an earlier attempt. The first time it changes nothing.", commands=(remove,)),
        Step(
            text=f"{'Easiest: put' if easy else 'Put'} one line under each `[[server]]` of {_FILE}.",
            commands=(rf"sed -i '/^[[:space:]]*\[\[server\]\]/a {line}' {_FILE}",),
            check=(show_line, _VALIDATE),
            expect=f"the line with `{key}`, and `Config looks good`",
        ),
        Step(
            text="Restart the daemon: it reads its configuration only then. It answers again within a second.",
            commands=(_RESTART,),
            check=("systemctl is-active ntpd-rs",),
            expect="`active`",
        ),
    ]
    if easy:
        steps.append(
            Step(
                text="Stronger: one line more. The daemon then answers the verifiers with the refusal DENY.",
                commands=(f'sed -i \'/{mark}$/s/"ignore"/"deny"/\' {_FILE} && {_RESTART}',),
                check=(show_line,),
                expect='the line, now with action = "deny"',
            )
        )
    return Instructions(
        title=remarks.title(request, "ntpd-rs"),
        summary=remarks.summary(request),
        steps=tuple(steps),
        undo=(
            Step(
                text="Take the line out again and restart.",
                commands=(remove, _RESTART),
                check=(show_line,),
                expect="nothing",
            ),
        ),
        assurance_note=remarks.assurance(request),
        caveats=(
            f"If a `[[server]]` already has a {key} (also one for a verification of the other family),"
            " `ntp-ctl validate` says `duplicate key`: then undo before you restart, and take those for a firewall.",
            *remarks.caveats(request),
        ),
    )


def _forms(network: Network) -> tuple[str, ...]:
    if isinstance(network, ipaddress.IPv6Network):
        return (str(network),)
    return str(network), f"::ffff:{network.network_address}/{96 + network.prefixlen}"
