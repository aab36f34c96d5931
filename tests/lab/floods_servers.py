"""Servers whose owners did nothing at all, and what may limit them: the daemon's own rate limit, or a firewall's.

Each is a common configuration. None of them blocks anybody; whoever is silent here was silenced by somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from tests.lab.daemons import Chrony, Daemon, Ntpsec, Openntpd
from tests.lab.floods import GATEWAY, KINDS, NEIGHBOUR
from tests.lab.net import Host
from tests.lab.packages import tool

CLASSIC: Final = "POOLPROOF_CLASSIC_NTPD"
"""Environment variable with the program of a classic ntpd 4.2.8, which Debian 12 no longer has (docs/silence.md)."""


class Classic(Ntpsec):
    """ntpd 4.2.8 with the restrictions of Debian 11; without a reference, hence unsynchronised."""

    package = "classic"
    can_synchronise = False

    def _before(self) -> Sequence[str]:
        restrictions = "default kod notrap nomodify nopeer noquery limited"
        return (
            f"restrict -4 {restrictions}",
            f"restrict -6 {restrictions}",
            "disable ntp",
            f"driftfile {self.folder / 'drift'}",
        )

    def _command(self) -> Sequence[str]:
        return (os.environ[CLASSIC], "-n", "-c", str(self.configuration), "-p", str(self.folder / "pid"))


@dataclass(frozen=True, slots=True)
class Server:
    """One configuration.

    Attributes:
        what: in words, for tables.
        daemon: what answers.
        lines: of its configuration.
        firewall: what stands before it, or how it is connected.
        limiter: whether that counts packets of each source.
        ipv6: asked over IPv6.
        by_prefix: the flood bears one address of a /64, and the questions come from another.
        kinds: keys of `KINDS` that are tried on it.
    """

    what: str
    daemon: type[Daemon]
    lines: tuple[str, ...] = ()
    firewall: Callable[[Host], None] | None = None
    limiter: bool = False
    ipv6: bool = False
    by_prefix: bool = False
    kinds: tuple[str, ...] = tuple(kind for kind in KINDS if kind != "redirect")


PER_MINUTE, BURST = 30, 20
"""What the firewalls below let through of one source, or of one /64: more than a client needs that keeps its polls."""
LAN_ADDRESS = "198.18.200.2"


def _meter(key: str, rate: str, burst: int, verdict: str) -> Callable[[Host], None]:
    """nftables' way to limit each source (nft(8), "dynamic sets")."""
    kind = "ipv6_addr" if key.startswith("ip6") else "ipv4_addr"

    def install(host: Host) -> None:
        host.nft(
            f"table inet per_source {{\nset seen {{\ntype {kind}; size 65535; flags dynamic;\n}}\n"
            "chain c {\ntype filter hook input priority filter; policy accept;\n"
            f"udp dport 123 add @seen {{ {key} limit rate over {rate} burst {burst} packets }} {verdict}\n"
            "}\n}\n"
        )

    return install


def _on_a_lan(host: Host) -> None:
    """Behind a gateway of its own subnet, as most servers are: Linux then believes redirects, by default."""
    host.ip(
        f"address add {LAN_ADDRESS}/24 dev eth0\nroute replace 0.0.0.0/0 via {GATEWAY} dev eth0\n"
        f"neighbour replace {GATEWAY} lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n"
        f"neighbour replace {NEIGHBOUR} lladdr 02:00:00:00:00:77 dev eth0 nud permanent\n"
    )


def _iptables(*rules: str) -> Callable[[Host], None]:
    def install(host: Host) -> None:
        for rule in rules:
            host.run([tool("iptables"), "-A", "INPUT", "-p", "udp", "--dport", "123", *rule.split()])

    return install


_HASHLIMIT = (
    f"-m hashlimit --hashlimit-name ntp --hashlimit-mode srcip --hashlimit-above {PER_MINUTE}/minute "
    f"--hashlimit-burst {BURST} -j REJECT"
)
_UFW = (
    # What `ufw limit 123/udp` puts in: six new flows in 30 s, and the rest is rejected.
    "-m conntrack --ctstate NEW -m recent --name ufw --set",
    "-m conntrack --ctstate NEW -m recent --name ufw --update --seconds 30 --hitcount 6 -j REJECT",
)
_SLASH_64 = "ip6 saddr and ffff:ffff:ffff:ffff::"


def _behind(what: str, firewall: Callable[[Host], None]) -> Server:
    """A daemon without a limit of its own behind a firewall that has one."""
    return Server(what, Chrony, firewall=firewall, limiter=True, kinds=("mode3-v4", "short-47", "checksum", "fragment"))


SERVERS: Final = MappingProxyType(
    {
        "ntpsec": Server("ntpsec, `kod ... limited` (Debian's default)", Ntpsec),
        "ntpsec-6": Server("the same, IPv6", Ntpsec, ipv6=True),
        "ntpsec-no-kod": Server("ntpsec, `limited` without `kod`", Ntpsec, ("unrestrict default kod",)),
        "classic": Server("ntpd 4.2.8, `kod ... limited` (Debian 11's default)", Classic),
        "chrony-limit": Server("chrony, `ratelimit`", Chrony, ("ratelimit",)),
        "chrony-limit-6": Server("the same, IPv6", Chrony, ("ratelimit",), ipv6=True),
        "chrony": Server("chrony, no limit", Chrony),
        "openntpd": Server("openntpd", Openntpd),
        "chrony-lan": Server("chrony, no limit, on a LAN", Chrony, firewall=_on_a_lan, kinds=("redirect",)),
        "nft-drop": _behind("nft meter, drops", _meter("ip saddr", f"{PER_MINUTE}/minute", BURST, "drop")),
        "nft-reject": _behind("nft meter, rejects", _meter("ip saddr", f"{PER_MINUTE}/minute", BURST, "reject")),
        "hashlimit-reject": _behind("iptables hashlimit, REJECT", _iptables(_HASHLIMIT)),
        "ufw-limit": _behind("`ufw limit` (REJECT)", _iptables(*_UFW)),
        "nft-64-drop": replace(
            _behind("nft meter by /64, drops", _meter(_SLASH_64, f"{PER_MINUTE}/minute", BURST, "drop")),
            ipv6=True,
            by_prefix=True,
        ),
    }
)
"""By the name that tables use."""


TIGHT: Final = MappingProxyType(
    {
        "reject": _behind("nft meter, rejects, tight", _meter("ip saddr", "10/minute", 4, "reject")),
        "64": replace(
            _behind("nft meter by /64, drops, tight", _meter(_SLASH_64, "10/minute", 4, "drop")),
            ipv6=True,
            by_prefix=True,
        ),
    }
)
"""Limiters so tight that the eight questions of a baseline meet them."""


def at_hand() -> tuple[str, ...]:
    """Names of those that this machine can run."""
    return tuple(name for name, server in SERVERS.items() if server.daemon is not Classic or CLASSIC in os.environ)
