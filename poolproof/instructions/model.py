"""What goes into instructions and what comes out: values, and the refusal of requests that make no sense."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum

from poolproof.fleet import Perspective, Role
from poolproof.refusal import ASKED_FOR, RefusalKind
from poolproof.target import Family, Target
from poolproof.variant import Variant

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Software(Enum):
    """What the owner can configure; the value is what they type after `--for`."""

    NTPSEC = "ntpsec"
    NTPD = "ntpd"
    """The classic reference implementation, 4.2.8."""
    CHRONY = "chrony"
    NTPD_RS = "ntpd-rs"
    OPENNTPD = "openntpd"
    NFTABLES = "nftables"
    IPTABLES = "iptables"
    GENERIC = "generic"
    """Any firewall, router or appliance: said in plain words."""


class InvalidRequestError(ValueError):
    """Instructions were asked for that nobody could follow; the message says what to give instead."""


@dataclass(frozen=True, slots=True)
class Request:
    """What instructions are wanted for.

    Attributes:
        software: what the owner runs.
        variant: which difference they shall bring about.
        target: address and port under test; rules are for its family and port alone.
        monitors: who must go on being answered, at least one.
        verifiers: who must be blocked: at least one for BLOCK. Not shown for ALLOW_ONLY, which names nobody to block.
        ways: for each verifier, in which way it shall be refused by an owner who refuses.
    """

    software: Software
    variant: Variant
    target: Target
    monitors: tuple[Perspective, ...]
    verifiers: tuple[Perspective, ...] = ()
    ways: tuple[RefusalKind, ...] = ()

    def __post_init__(self) -> None:
        if not self.monitors:
            raise InvalidRequestError("monitors: give at least one, else the server could as well be switched off")
        if self.variant is Variant.BLOCK and not self.verifiers:
            raise InvalidRequestError("verifiers: the variant block needs at least one; give them or take allow-only")
        if len(self.ways) != len(self.verifiers):
            raise InvalidRequestError(f"ways: {len(self.ways)} for {len(self.verifiers)} verifiers; give one for each")
        for name, perspectives, role in (
            ("monitors", self.monitors, Role.ALLOWED_MONITOR),
            ("verifiers", self.verifiers, Role.MUST_BE_BLOCKED),
        ):
            for perspective in perspectives:
                if perspective.role is not role:
                    raise InvalidRequestError(
                        f"{name}: {perspective.vantage} has the role {perspective.role.value}; give {role.value} only"
                        " (a witness is told to nobody)"
                    )
                _check_family(name, perspective, self.target)
        _refuse_overlaps(self.monitor_networks, self.verifier_networks)

    @property
    def family(self) -> Family:
        """The target's family, and so that of every address in the instructions."""
        return self.target.family

    @property
    def monitor_networks(self) -> tuple[Network, ...]:
        """Sources of the monitors in numerical order; a single address is a network of one."""
        return _networks(self.monitors)

    @property
    def verifier_networks(self) -> tuple[Network, ...]:
        """Sources of the verifiers in numerical order; a single address is a network of one."""
        return _networks(self.verifiers)

    @property
    def refusals(self) -> tuple[tuple[RefusalKind, tuple[Network, ...]], ...]:
        """The ways that are asked for, each with the sources of its verifiers in numerical order."""
        pairs = tuple(zip(self.verifiers, self.ways, strict=True))
        grouped = ((kind, _networks(tuple(view for view, way in pairs if way is kind))) for kind in ASKED_FOR)
        return tuple((kind, networks) for kind, networks in grouped if networks)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        text: what it is and why, in words.
        file: the file to whose end `lines` are added, or None.
        lines: lines for the file; without a file, a table to be read.
        commands: to be run as root, in this order.
        check: commands that show that it worked; they change nothing.
        expect: what `check` shows then.
    """

    text: str
    file: str | None = None
    lines: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    expect: str = ""


@dataclass(frozen=True, slots=True)
class Instructions:
    """Everything that an owner needs for one challenge.

    Attributes:
        title: software, variant and target.
        summary: what will be different, who is concerned, in two or three sentences.
        steps: to be done in order.
        undo: takes away all that any of the steps added.
        assurance_note: what a proof by these steps is worth, and why.
        caveats: what may make the steps fail, or matters afterwards.
    """

    title: str
    summary: str
    steps: tuple[Step, ...]
    undo: tuple[Step, ...]
    assurance_note: str
    caveats: tuple[str, ...]


def show(network: Network) -> str:
    """A single address without its length, a prefix with it."""
    return str(network.network_address) if is_single(network) else str(network)


def is_single(network: Network) -> bool:
    """Whether it is one address."""
    return network.prefixlen == network.max_prefixlen


def _networks(perspectives: tuple[Perspective, ...]) -> tuple[Network, ...]:
    networks = {_parse(perspective.source) for perspective in perspectives}
    return tuple(sorted(networks, key=lambda network: (int(network.network_address), network.prefixlen)))


def _parse(source: str) -> Network:
    network = ipaddress.ip_network(source)
    if source not in (str(network), show(network)):
        raise ValueError(f"its canonical form is {show(network)}")
    return network


def _check_family(name: str, perspective: Perspective, target: Target) -> None:
    try:
        network = _parse(perspective.source)
    except ValueError as error:
        raise InvalidRequestError(
            f"{name}: {perspective.vantage} has the source {perspective.source!r}: {error};"
            " give an address like 192.0.2.7 or a prefix like 2001:db8:7::/64"
        ) from None
    if network.version != target.family.value:
        raise InvalidRequestError(
            f"{name}: {perspective.vantage} has the source {perspective.source}, which cannot reach {target};"
            f" give an IPv{target.family.value} source"
        )


def _refuse_overlaps(monitors: tuple[Network, ...], verifiers: tuple[Network, ...]) -> None:
    for monitor in monitors:
        for verifier in verifiers:
            if monitor.overlaps(verifier):
                raise InvalidRequestError(
                    f"monitors: {show(monitor)} overlaps the verifier {show(verifier)}: one rule cannot both answer"
                    " and block it; draw another cohort"
                )
