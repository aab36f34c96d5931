"""From what an applicant typed to targets: host names are looked up once, here, and pinned to their addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable

from coordinator.problems import ForbiddenTargetError, ResolverTimeoutError, UnresolvableTargetError
from poolproof.policy import SECOND_NS
from poolproof.special_purpose import Network, forbidden_target
from poolproof.target import InvalidTargetError, Target, canonical_address, split_host_port

MAX_ADDRESSES = 16
"""More addresses than this behind one name are no server's."""
Lookup = Callable[[str, int], Awaitable[Iterable[str]]]
"""Host name and port -> addresses; raises OSError."""


async def look_up(host: str, port: int) -> Iterable[str]:
    """The addresses that the system's resolver knows."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP)
    return [str(address[0]) for *_, address in found]


async def resolve(text: str, timeout_ns: int, lookup: Lookup = look_up) -> tuple[Target, ...]:
    """The targets of what was typed, in order: one for each address.

    Args:
        text: an address or a host name, with or without a port.
        timeout_ns: how long a look-up may take.
        lookup: finds addresses.

    Raises:
        InvalidTargetError: it cannot be read.
        UnresolvableTargetError: the name has no address, or too many.
        ResolverTimeoutError: the name servers do not answer.
    """
    host, port = split_host_port(text)
    try:
        return (Target(canonical_address(host), port),)
    except InvalidTargetError:
        if ":" in host or host.replace(".", "").isdigit():
            raise  # it was meant to be an address
    try:
        async with asyncio.timeout(timeout_ns / SECOND_NS):
            found = await lookup(host, port)
    except TimeoutError:
        raise ResolverTimeoutError(
            f"target: {text!r}: no name server answered within {timeout_ns / SECOND_NS:g} s; try again, or give an"
            " address"
        ) from None
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            raise ResolverTimeoutError(f"target: {text!r}: {error.strerror}; try again, or give an address") from None
        raise UnresolvableTargetError(
            f"target: {text!r}: the host name has no address ({error}); check the spelling, or give an address"
        ) from None
    addresses = sorted({canonical_address(address) for address in found}, key=lambda each: (":" in each, each))
    if not 0 < len(addresses) <= MAX_ADDRESSES:
        raise UnresolvableTargetError(
            f"target: {text!r}: the host name has {len(addresses)} addresses, 1 to {MAX_ADDRESSES} are taken; give the"
            " server's own name, or an address"
        )
    return tuple(Target(address, port) for address in addresses)


def check_allowed(target: Target, allow_networks: Iterable[Network], allow_ports: frozenset[int]) -> None:
    """Refuses targets that the operator's rules do not allow.

    Raises:
        ForbiddenTargetError: a special-purpose address, or another port.
    """
    found = forbidden_target(target.address, allow_networks)
    if found is not None:
        raise ForbiddenTargetError(
            f"target: {target.address} is no public host: it lies in {found}; give a public address"
        )
    if target.port not in allow_ports:
        ports = ", ".join(map(str, sorted(allow_ports)))
        raise ForbiddenTargetError(f"target: {target}: port {target.port} is not asked here; give one of {ports}")
