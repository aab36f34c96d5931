"""Firewalls and bad paths: nftables rules that come, count and go.

Each rule has a table of its own, so that any number of them can be put in and taken out in any order. There may
be no `netem` in the kernel: loss is made by nft on the router; delay, jitter, reordering and duplication by `hub.py`.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.lab.net import Host, Network
from tests.lab.packages import tool

_NUMBERS = itertools.count()


class Filter:
    """An nftables table in one host; a context manager that takes it out again."""

    def __init__(self, host: Host, hook: str, rules: Sequence[str]) -> None:
        """Puts the rules in.

        Args:
            host: where.
            hook: `input`, `output` or `forward`.
            rules: statements that each match and decide; a rule that says `counter` is counted by `packets`.
        """
        self.host = host
        self._table = f"lab{next(_NUMBERS)}"
        self._present = True
        lines = "\n".join(rules)
        host.nft(
            f"table inet {self._table} {{\nchain c {{\ntype filter hook {hook} priority filter; policy accept;\n"
            f"{lines}\n}}\n}}\n"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Takes the rules out; safe to call twice."""
        if self._present:
            self._present = False
            self.host.nft(f"delete table inet {self._table}\n")

    def packets(self) -> int:
        """How many packets the counters of all rules have seen."""
        listed = json.loads(self.host.run([tool("nft"), "-j", "list", "table", "inet", self._table]).stdout)
        statements = [part for item in listed["nftables"] for part in item.get("rule", {}).get("expr", [])]
        return sum(part["counter"]["packets"] for part in statements if "counter" in part)


def drop(host: Host, *sources: str, port: int = 123) -> Filter:
    """Makes a host's firewall drop what comes from addresses or prefixes to a UDP port of it, without a word."""
    return Filter(host, "input", [f"{_from(source)} udp dport {port} counter drop" for source in sources])


def reject(host: Host, *sources: str, port: int = 123, reason: str = "") -> Filter:
    """The same with an ICMP error: port unreachable (3/3, 1/4), or what `reason` says.

    Linux limits the errors that it sends: after some five quick ones the next are silence.

    Args:
        host: whose firewall.
        sources: addresses or prefixes.
        port: UDP port of the service.
        reason: an nft reason, like `icmpx type admin-prohibited` (3/13, 1/1).
    """
    verdict = f"reject with {reason}" if reason else "reject"
    return Filter(host, "input", [f"{_from(source)} udp dport {port} counter {verdict}" for source in sources])


def loss(net: Network, percent: float, *, source: Host | None = None, destination: Host | None = None) -> Filter:
    """Loses packets at random on the router.

    Args:
        net: the network.
        percent: up to 100, in steps of 0.1; 100 is a dark path.
        source: only packets that this host sent; all hosts' if left out.
        destination: only packets towards this host; all hosts' if left out.

    Returns:
        The rule in place; `packets()` is the number lost.
    """
    if not 0 < percent <= 100:
        raise ValueError(f"loss of {percent} %: give more than 0 and at most 100")
    chance = "" if percent == 100 else f"numgen random mod 1000 < {max(1, round(percent * 10))} "
    return Filter(net.router, "forward", [f"{_path(source, destination)}{chance}counter drop"])


def burst(net: Network, lost: int, of: int, *, source: Host | None = None, destination: Host | None = None) -> Filter:
    """Loses the first `lost` packets of every `of`, counted over the whole path: the same in every run."""
    if not 0 < lost < of:
        raise ValueError(f"burst of {lost} in {of}: give 1 to {of - 1}")
    return Filter(net.router, "forward", [f"{_path(source, destination)}numgen inc mod {of} < {lost} counter drop"])


def _path(source: Host | None, destination: Host | None) -> str:
    came = f'iifname "{source.name}" ' if source else ""
    goes = f'oifname "{destination.name}" ' if destination else ""
    return came + goes


def _from(source: str) -> str:
    network = ipaddress.ip_network(source)
    return f"{'ip' if network.version == 4 else 'ip6'} saddr {network}"
