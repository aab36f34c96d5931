"""Bad paths that nftables cannot make: delay, jitter, reordering, duplication and loss, from one seed.

The router sends the packets of chosen hosts into a TUN device; a thread of the test's process reads them there, decides
the fate of each with a seeded generator, and writes them back when due. The router then forwards them as usual.
What happens to the n-th packet of a path depends on the seed and n alone.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.lab.net import Host, Network
from tests.lab.packages import tool

_NUMBERS = itertools.count()
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
_PACKET_BYTES = 65_536
_FIRST_TABLE = 1000


@dataclass(frozen=True, slots=True)
class Fate:
    """What a path does to packets. Chances are 0 to 1.

    Attributes:
        delay_s: every packet takes this long.
        jitter_s: and up to this much longer, evenly spread: packets less far apart than this change places.
        reorder: chance that a packet overtakes: it is not delayed at all.
        duplicate: chance that a packet comes twice, each with its own delay.
        loss: chance that a packet never comes.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        for name in ("reorder", "duplicate", "loss"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: give a chance from 0 to 1")
        if self.delay_s < 0 or self.jitter_s < 0:
            raise ValueError(f"delay {self.delay_s} s, jitter {self.jitter_s} s: give 0 or more")

    def delays(self, entropy: random.Random) -> tuple[float, ...]:
        """How long each copy of the next packet takes, in seconds; none if it is lost.

        Takes the same number of draws for every packet, so that one packet's fate does not move another's.
        """
        lost, twice, overtakes, first, second = (entropy.random() for _ in range(5))
        if lost < self.loss:
            return ()
        delay = 0.0 if overtakes < self.reorder else self.delay_s + self.jitter_s * first
        return (delay, self.delay_s + self.jitter_s * second) if twice < self.duplicate else (delay,)


class Hub:
    """A bad path on the router of a network; a context manager that makes it good again.

    Example:
        with Hub(net, Fate(delay_s=0.05, jitter_s=0.02, duplicate=0.1), seed=7, sources=[target]):
            ...  # what the target sends comes late, in another order, and some of it twice
    """

    def __init__(
        self,
        net: Network,
        fate: Fate,
        *,
        seed: int,
        sources: Iterable[Host] | None = None,
        destinations: Iterable[Host] | None = None,
    ) -> None:
        """Prepares it; nothing happens before `with`.

        Args:
            net: the network.
            fate: what happens to packets.
            seed: of all chances.
            sources: whose packets; all hosts' that exist by then, if left out.
            destinations: only packets to these hosts' addresses (not their prefixes); to all, if left out.
        """
        self.packets = 0
        self._net = net
        self._fate = fate
        self._entropy = random.Random(seed)
        self._sources = None if sources is None else tuple(sources)
        self._destinations = None if destinations is None else tuple(destinations)
        number = next(_NUMBERS)
        self._device = f"hub{number}"
        self._table = _FIRST_TABLE + number
        self._rules: list[str] = []

    def __enter__(self) -> Self:
        self._tun = self._net.router.call(self._open)
        self._stop_reading, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._carry, name=self._device)
        self._thread.start()
        try:
            self._net.router.ip(
                f"link set dev {self._device} up\n"
                f"route add 0.0.0.0/0 dev {self._device} table {self._table}\n"
                f"route add ::/0 dev {self._device} table {self._table}\n"
            )
            for rule in self._selectors():
                self._net.router.run([tool("ip"), *rule.format("add").split()])
                self._rules.append(rule)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leads packets past the hub again; those still under way in it are lost."""
        while self._rules:
            self._net.router.run([tool("ip"), *self._rules.pop().format("delete").split()])
        os.write(self._stop, b"x")
        self._thread.join()
        for descriptor in (self._tun, self._stop_reading, self._stop):
            os.close(descriptor)

    def _selectors(self) -> list[str]:
        sources = self._net.hosts.values() if self._sources is None else self._sources
        if self._destinations is None:
            targets = [(4, ""), (6, "")]
        else:
            addresses = [address for host in self._destinations for address in host.addresses]
            targets = [(6 if ":" in address else 4, f"to {address}") for address in addresses]
        return [
            f"-{family} rule {{}} iif {source.name} {target} lookup {self._table}"
            for source in sources
            for family, target in targets
        ]

    def _open(self) -> int:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", self._device.encode(), _IFF_TUN_NO_PI))
        except BaseException:
            os.close(tun)
            raise
        return tun

    def _carry(self) -> None:
        """Carries packets until told to stop."""
        due: list[tuple[float, int, bytes]] = []
        order = itertools.count()
        while True:
            wait_s = max(0.0, due[0][0] - time.monotonic()) if due else None
            readable, _, _ = select.select([self._tun, self._stop_reading], [], [], wait_s)
            if self._stop_reading in readable:
                return
            if self._tun in readable:
                packet = os.read(self._tun, _PACKET_BYTES)
                if packet[0] >> 4 == 6 and packet[24] == 0xFF:
                    continue  # to multicast: what the kernel itself says on a new device, and no host's packet
                now = time.monotonic()
                self.packets += 1
                for delay_s in self._fate.delays(self._entropy):
                    heapq.heappush(due, (now + delay_s, next(order), packet))
            while due and due[0][0] <= time.monotonic():
                os.write(self._tun, heapq.heappop(due)[2])
