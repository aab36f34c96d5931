"""The tripwire: captures a target's packets to this probe's address, and tells those that nobody here asked for.

Somebody who floods a server in this probe's name makes the server answer, or refuse, this probe: that backscatter shows
the flood. The probe only reports it (`poolproof.capture`); the coordinator judges.

Theory of operation. A watch is one packet socket with a filter for one target and one source (`watch_filter`), and one
account of what came through (`account`). A packet counts as asked for if it echoes, or quotes, something that was
captured on its way out; what came out before the watch began was not captured, so that a watch learns for LEARNING_NS
before anything is held against anybody. The event loop reads a bounded number of packets at once. A flood ends the
reading: the socket is closed, the account stays. Nothing is on disk: when the probe dies its watches end, and the next
job of the verification begins a new one, with a later `since_ns`.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from poolproof.capture import Capture
from poolproof.ids import VerificationId
from poolproof.target import Target
from probe.account import Account
from probe.packet_socket import dropped, open_packet_socket, read_captured
from probe.settings import SettingsError, TripwireMode, TripwireSettings
from probe.sockets import words_of
from probe.watch_filter import watch_filter

LEARNING_NS: Final = 4_000_000_000
"""A watch's account begins this long after its socket: longer than an answer to an earlier exchange is waited for."""
READ_AT_ONCE: Final = 64
"""Packets read before anything else on the loop gets a turn."""
_LONGEST_TIMER_S: Final = 60.0
"""The wall clock may be set: ends are looked at this often at least."""

_log = logging.getLogger(__name__)

Key = tuple[VerificationId, Target, str]


class Tripwire(Protocol):
    """Watches between sources of this probe and targets. To be used on the event loop."""

    @property
    def can_watch(self) -> bool:
        """Whether there is a tripwire here at all."""
        ...

    def arm(self, verification: VerificationId, target: Target, source: str, until_ns: int) -> None:
        """Watch until a time, Unix ns. Who is watched already gets a new end, and goes on without a gap.

        Where no watch can be had (no tripwire here, too many watches), nothing happens but a line in the log.
        """
        ...

    def harvest(self, verification: VerificationId, target: Target, source: str) -> Capture | None:
        """What was caught since the watch began, up to now; None: there is no such watch, or it has ended."""
        ...

    def close(self) -> None:
        """End all watches."""
        ...


class NoTripwire:
    """A probe that cannot watch. Satisfies `Tripwire`."""

    can_watch: Final = False

    def arm(self, verification: VerificationId, target: Target, source: str, until_ns: int) -> None:
        """Nothing: the coordinator was told that there is no tripwire here."""

    def harvest(self, verification: VerificationId, target: Target, source: str) -> Capture | None:
        """None."""
        return None

    def close(self) -> None:
        """Nothing."""


@dataclass(slots=True)
class _Watch:
    """One watch.

    Attributes:
        account: what it saw.
        until_ns: its end.
        sock: None once a flood has ended the reading.
        stopped_at_ns: when that was.
    """

    account: Account
    until_ns: int
    sock: socket.socket | None
    stopped_at_ns: int = 0


class PacketTripwire:
    """A tripwire of packet sockets. Satisfies `Tripwire`."""

    can_watch: Final = True

    def __init__(
        self, max_watches: int, *, learning_ns: int = LEARNING_NS, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """Args: max_watches: at one time. learning_ns: see `LEARNING_NS`. now_ns: the clock of kernel timestamps."""
        self._max_watches = max_watches
        self._learning_ns = learning_ns
        self._now_ns = now_ns
        self._watches: dict[Key, _Watch] = {}
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, verification: VerificationId, target: Target, source: str, until_ns: int) -> None:
        """Watch until a time, Unix ns; see `Tripwire`."""
        key = (verification, target, source)
        self._expire()
        watch = self._watches.get(key)
        if watch is not None:
            watch.until_ns = until_ns
        elif until_ns > self._now_ns() and (opened := self._open(key, until_ns)) is not None:
            self._watches[key] = opened
        self._set_timer()

    def harvest(self, verification: VerificationId, target: Target, source: str) -> Capture | None:
        """What was caught so far; see `Tripwire`. Reads what waits first."""
        key = (verification, target, source)
        self._expire()
        watch = self._watches.get(key)
        if watch is None:
            return None
        until_ns = self._now_ns()
        # What waits came before now, so that this ends even under a flood.
        while self._read(key, watch, READ_AT_ONCE, until_ns):
            pass
        if watch.sock is None:
            return watch.account.capture(watch.stopped_at_ns)
        watch.account.lose(dropped(watch.sock))
        return watch.account.capture(until_ns)

    def close(self) -> None:
        """End all watches."""
        for watch in self._watches.values():
            self._close_socket(watch)
        self._watches.clear()
        self._set_timer()

    def _open(self, key: Key, until_ns: int) -> _Watch | None:
        verification, target, source = key
        about = {"verification": verification, "target": str(target), "source": source}
        if len(self._watches) >= self._max_watches:
            detail = f"{len(self._watches)} watches; tripwire.max_watches is {self._max_watches}"
            _log.warning("no watch", extra={**about, "detail": detail})
            return None
        network = ipaddress.ip_network(source)
        try:
            sock = open_packet_socket(watch_filter(target, network))
        except OSError as error:
            _log.warning("no watch", extra={**about, "detail": words_of(error)})
            return None
        watch = _Watch(Account(target, network, self._now_ns() + self._learning_ns), until_ns, sock)
        asyncio.get_running_loop().add_reader(sock, self._ready, key, watch)
        _log.debug("watching", extra={**about, "until_ns": until_ns})
        return watch

    def _ready(self, key: Key, watch: _Watch) -> None:
        self._read(key, watch, READ_AT_ONCE)

    def _read(self, key: Key, watch: _Watch, most: int, until_ns: int | None = None) -> bool:
        """Read some packets, none that came after a time; whether more may be waiting."""
        if watch.sock is None:
            return False
        for _ in range(most):
            try:
                captured = read_captured(watch.sock)
            except BlockingIOError:
                return False
            except OSError as error:
                # An interface went away, or no memory: something may have been lost.
                _log.warning("tripwire cannot read", extra={"target": str(key[1]), "detail": words_of(error)})
                watch.account.lose(1)
                return False
            watch.account.see(captured.packet, captured.at_ns, outgoing=captured.outgoing)
            if watch.account.full:
                self._stop(key, watch)
                return False
            if until_ns is not None and captured.at_ns > until_ns:
                break
        else:
            return True
        return False

    def _stop(self, key: Key, watch: _Watch) -> None:
        """A flood: what matters is known, and nobody shall eat this probe's time."""
        if watch.sock is None:
            return
        watch.stopped_at_ns = self._now_ns()
        watch.account.lose(max(1, dropped(watch.sock)))
        self._close_socket(watch)
        _log.warning("flood, watch stopped", extra={"verification": key[0], "target": str(key[1]), "source": key[2]})

    def _expire(self) -> None:
        now_ns = self._now_ns()
        for key in [key for key, watch in self._watches.items() if watch.until_ns <= now_ns]:
            self._close_socket(self._watches.pop(key))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watches:
            first_ns = min(watch.until_ns for watch in self._watches.values())
            left_s = max(0.0, (first_ns - self._now_ns()) / 1e9)
            self._timer = asyncio.get_running_loop().call_later(min(left_s, _LONGEST_TIMER_S), self._ended)

    def _ended(self) -> None:
        self._timer = None
        self._expire()
        self._set_timer()

    @staticmethod
    def _close_socket(watch: _Watch) -> None:
        if watch.sock is not None:
            asyncio.get_running_loop().remove_reader(watch.sock)
            watch.sock.close()
            watch.sock = None


def tripwire_by(settings: TripwireSettings) -> Tripwire:
    """The tripwire that the settings and this host allow; says in the log why there is none.

    Raises:
        SettingsError: there can be none, and the settings insist on one.
    """
    if settings.enabled is TripwireMode.NO:
        _log.info("no tripwire", extra={"detail": "tripwire.enabled is no"})
        return NoTripwire()
    try:
        open_packet_socket(watch_filter(Target("192.0.2.1"), ipaddress.ip_network("192.0.2.2"))).close()
    except OSError as error:
        remedy = "; give this process CAP_NET_RAW" if error.errno == errno.EPERM else ""
        detail = f"no packet socket: {words_of(error)}{remedy}"
        if settings.enabled is TripwireMode.YES:
            raise SettingsError(f"tripwire.enabled: yes, but there is {detail}") from None
        _log.warning("no tripwire", extra={"detail": detail})
        return NoTripwire()
    return PacketTripwire(settings.max_watches)
