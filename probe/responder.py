"""A small, correct NTP server: control server of a demo fleet, and a target where no real daemon can be had.

It answers client requests (mode 3) of versions 1 to 4 with the machine's time and never with more bytes than it got.
Everything else is ignored. `Behaviour` makes it act as owners and daemons do: block, answer some alone, keep silent,
refuse with DENY, limit the rate with RATE. It disciplines no clock: do not put it into a pool.

    python -m probe.responder --listen 127.0.0.1:11123 [--listen [::1]:11123] [--behaviour FILE]

The file is TOML with the fields of `Behaviour`; SIGHUP reads it again.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import signal
import socket
import struct
import time
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from poolproof.serving import Behaviour, Refusal, reply_to
from poolproof.special_purpose import Network
from poolproof.target import Family, InvalidTargetError, Target, canonical_address, family_of, split_host_port

_log = logging.getLogger(__name__)

_MAX_DATAGRAM = 2048
_BATCH = 64
"""Datagrams read before other tasks get a turn."""
_REMEMBERED = 4096
"""Sources whose last request is remembered for the rate limit."""
_LONGEST_NS = 1 << 62
"""146 years: no clock is further off."""
_TIMESPEC = struct.Struct("@ll")
_SO_TIMESTAMPNS = 35
_IPV6_RECVPKTINFO = 49
_IPV6_PKTINFO = 50
_IP_PKTINFO = 8


def read_behaviour(text: str) -> Behaviour:
    """A behaviour from TOML.

    Raises:
        ValueError: an unknown field or a value that cannot be read; the message names it.
    """
    given = tomllib.loads(text)
    unknown = sorted(set(given) - {each.name for each in fields(Behaviour)})
    if unknown:
        raise ValueError(f"behaviour: no field {unknown[0]!r}; there are {[each.name for each in fields(Behaviour)]}")
    readers: dict[str, Callable[[Any], Any]] = {
        "deny": _networks,
        "allow_only": _networks,
        "refusal": Refusal,
        "silent": _truth,
        "rate_interval_ns": lambda value: _whole(value, 0, _LONGEST_NS),
        # Stratum 0 is a kiss code's on the wire, and 16 the last that means anything (RFC 5905 §7.3).
        "stratum": lambda value: _whole(value, 1, 16),
        "refid": lambda value: value.encode("ascii").ljust(4, b"\0")[:4],
        "offset_ns": lambda value: _whole(value, -_LONGEST_NS, _LONGEST_NS),
        "precision": lambda value: _whole(value, -128, 127),
        "root_delay": lambda value: _whole(value, 0, (1 << 32) - 1),
        "root_dispersion": lambda value: _whole(value, 0, (1 << 32) - 1),
        "reference_age_ns": lambda value: _whole(value, 0, _LONGEST_NS),
    }
    read: dict[str, Any] = {}
    for name, value in given.items():
        try:
            read[name] = readers[name](value)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"behaviour: {name}: cannot read {value!r}: {error}") from None
    return Behaviour(**read)


def _networks(value: Any) -> tuple[Network, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError('give a list like ["192.0.2.0/24"]')
    return tuple(ipaddress.ip_network(item) for item in value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("give true or false")
    return value


def _whole(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"give a whole number from {low} to {high}")
    return value


@dataclass(slots=True)
class Responder:
    """An NTP server on some addresses of this machine; `behaviour` may be changed at any time.

    Attributes:
        listen: where to listen; port 0 takes a free one.
        behaviour: how to answer.
        now_ns: the time that it tells, Unix ns.
        answered: requests answered so far.
        ignored: datagrams that got no answer.
    """

    listen: Sequence[tuple[str, int]]
    behaviour: Behaviour = field(default_factory=Behaviour)
    now_ns: Callable[[], int] = time.time_ns
    answered: int = 0
    ignored: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)
    _last_seen: OrderedDict[str, int] = field(default_factory=OrderedDict)

    async def start(self) -> tuple[Target, ...]:
        """Bind and answer; stopped sockets make the kernel refuse by ICMP.

        Returns:
            Where it listens, with the ports that were taken.

        Raises:
            OSError: an address cannot be bound.
        """
        try:
            for host, port in self.listen:
                self._sockets.append(_bind(host, port))
        except OSError:
            await self.stop()
            raise
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.add_reader(each, self._readable, each)
        # What was bound once keeps its port, so that a responder that is stopped comes back where it was.
        self.listen = tuple((each.getsockname()[0], each.getsockname()[1]) for each in self._sockets)
        return tuple(Target(host, port) for host, port in self.listen)

    async def stop(self) -> None:
        """Close the sockets; `start` opens them again."""
        loop = asyncio.get_running_loop()
        while self._sockets:
            closing = self._sockets.pop()
            loop.remove_reader(closing)
            closing.close()

    def _readable(self, each: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                request, ancillary, _, peer = each.recvmsg(_MAX_DATAGRAM, 256)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error for an earlier answer; it was for somebody who is gone
                continue
            self._answer(each, request, ancillary, peer)

    def _answer(
        self, each: socket.socket, request: bytes, ancillary: Sequence[tuple[int, int, bytes]], peer: Any
    ) -> None:
        received_ns, same_address = self.now_ns(), []
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and self.now_ns is time.time_ns:
                seconds, nanoseconds = _TIMESPEC.unpack_from(content)
                received_ns = seconds * 1_000_000_000 + nanoseconds
            elif (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                # in_pktinfo: ifindex, local address, header's destination. The answer leaves from where it was asked.
                same_address = [(level, kind, bytes(4) + content[4:8] + bytes(4))]
            elif (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
                same_address = [(level, kind, content)]
        source = canonical_address(peer[0].partition("%")[0])
        reply = reply_to(
            request,
            behaviour=self.behaviour,
            blocked=self.behaviour.blocks(source),
            hurried=self._hurried(source, received_ns),
            received_ns=received_ns,
            transmit_ns=self.now_ns(),
        )
        if reply is None or peer[1] == 0:
            self.ignored += 1
            return
        try:
            each.sendmsg([reply], same_address, 0, peer)
        except OSError:  # no route back, or no buffer: the client asks again
            self.ignored += 1
        else:
            self.answered += 1

    def _hurried(self, source: str, received_ns: int) -> bool:
        if not self.behaviour.rate_interval_ns:
            return False
        last_ns = self._last_seen.pop(source, None)
        self._last_seen[source] = received_ns
        if len(self._last_seen) > _REMEMBERED:
            self._last_seen.popitem(last=False)
        return last_ns is not None and received_ns - last_ns < self.behaviour.rate_interval_ns


async def serve(
    listen: Sequence[tuple[str, int]],
    *,
    behaviour: Callable[[], Behaviour] = Behaviour,
    reload_on: signal.Signals | None = signal.SIGHUP,
    ready: Callable[[tuple[Target, ...]], None] | None = None,
) -> None:
    """Answer until cancelled.

    Args:
        listen: addresses and ports.
        behaviour: called at the start, and again on the signal; if it fails then, the old one stays.
        reload_on: the signal; None for none.
        ready: told where it listens.

    Raises:
        OSError: an address cannot be bound.
    """
    responder = Responder(listen, behaviour())
    loop = asyncio.get_running_loop()
    bound = await responder.start()

    def reload() -> None:
        try:
            responder.behaviour = behaviour()
        except (OSError, ValueError) as error:
            _log.error("behaviour not changed", extra={"detail": str(error)})

    if reload_on is not None:
        loop.add_signal_handler(reload_on, reload)
    try:
        if ready is not None:
            ready(bound)
        await loop.create_future()
    finally:
        if reload_on is not None:
            loop.remove_signal_handler(reload_on)
        await responder.stop()


def _bind(host: str, port: int) -> socket.socket:
    ipv6 = family_of(host) is Family.IPV6
    each = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        each.setblocking(False)
        each.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if ipv6:
            each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            each.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        each.bind((host, port))
    except OSError as error:
        each.close()
        raise OSError(error.errno, f"listen {host} port {port}: {error.strerror}") from None
    return each


def listen_address(text: str) -> tuple[str, int]:
    """Address and port to listen on, from `192.0.2.7:123` or `[2001:db8::7]:123`; port 0 takes a free one.

    Raises:
        InvalidTargetError: no address and port.
    """
    free = text.removesuffix(":0")
    host, port = split_host_port(free)
    return canonical_address(host), 0 if free != text else port


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m probe.responder", description="A small NTP server for demos.")
    parser.add_argument("--listen", action="append", required=True, metavar="ADDRESS:PORT", help="may be repeated")
    parser.add_argument("--behaviour", type=Path, metavar="FILE", help="TOML; SIGHUP reads it again")
    given = parser.parse_args(arguments)
    try:
        listen = [listen_address(text) for text in given.listen]
    except InvalidTargetError as error:
        parser.error(str(error))

    def behaviour() -> Behaviour:
        return read_behaviour(given.behaviour.read_text("utf-8")) if given.behaviour else Behaviour()

    async def until_signalled() -> None:
        serving = asyncio.ensure_future(
            serve(listen, behaviour=behaviour, ready=lambda bound: print(*bound, sep="\n", flush=True))
        )
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, serving.cancel)
        await asyncio.wait([serving])
        if not serving.cancelled():
            serving.result()

    try:
        asyncio.run(until_signalled())
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
