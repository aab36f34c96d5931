"""Mixes calibrations into the probes' work, at the policy's rate, where the operator has given addresses for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from coordinator.calibration.addresses import Addresses, Place
from coordinator.calibration.ledger import Ledger
from coordinator.calibration.play import Play, Stage
from coordinator.calibration.server import CalibrationServer
from coordinator.ports import Timer
from coordinator.problems import CoordinatorError
from coordinator.records import load, open_ids
from coordinator.store.errors import StoreError
from coordinator.tracing_port import Telemetry
from poolproof.enactment import draw_enactment, draw_looks
from poolproof.ids import VerificationId
from poolproof.policy import SECOND_NS, Policy
from poolproof.target import Target
from poolproof.verification import NotNowError, Purpose

MAX_AT_ONCE = 16
"""Calibrations under way."""
MAX_KEPT = 64
"""Servers at addresses of prefixes that go on answering after their calibration, the latest."""
_SPREAD_NS = 60 * SECOND_NS
"""A calibration that follows from an attempt begins within this time after it, so that they are not seen together."""
_log = logging.getLogger(__name__)


class Calibrations:
    """All calibrations of one coordinator.

    Args:
        stage: what they share.
        addresses: where their targets are; none: there are no calibrations.
        telemetry: told of each.
        draw_key: what owners do is drawn with it.
        new_id: a fresh verification id.
        bits: that many random bits.
    """

    def __init__(
        self,
        stage: Stage,
        addresses: Addresses,
        telemetry: Telemetry,
        draw_key: bytes,
        new_id: Callable[[], VerificationId],
        bits: Callable[[int], int],
    ) -> None:
        self._stage = stage
        self._addresses = addresses
        self._telemetry = telemetry
        self._draw_key = draw_key
        self._new_id = new_id
        self._bits = bits
        self._servers: dict[Target, CalibrationServer] = {}
        self._resting: list[Target] = []
        self._playing: dict[VerificationId, asyncio.Task[None]] = {}
        self._timers: set[Timer] = set()
        self._idle: Timer | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """Where targets are; none: there are no calibrations."""
        return self._addresses.places

    @property
    def ledger(self) -> Ledger:
        """The conduct of all vantages."""
        return self._stage.ledger

    @property
    def policy(self) -> Policy:
        """Whose numbers they follow."""
        return self._stage.policy

    @property
    def under_way(self) -> int:
        """How many."""
        return len(self._playing)

    async def start(self) -> None:
        """Ends what a former life has left open, whose truth is lost, and begins.

        Raises:
            OSError: an address cannot be bound.
        """
        await self._stage.ledger.load()
        self._stage.ledger.distrust_again()
        for name in await open_ids(self._stage.store):
            held = await load(self._stage.store, name)
            if held is not None and held.verification.purpose is Purpose.CALIBRATION:
                # It may have come to its end by itself since it was looked up.
                with contextlib.suppress(NotNowError):
                    await self._stage.conductor.withdraw(name)
        if not self._addresses.places:
            _log.warning("no calibrations: calibration_listen is empty, so that a probe that lies is not found")
            return
        for place in self._addresses.places:
            if place.is_single:
                # An ordinary server is there all the time.
                self._open(Target(str(place.network.network_address), place.port))
        _log.info("calibrations at %s", ", ".join(map(str, self._addresses.places)))
        self._wait_for_idle()

    async def close(self) -> None:
        """Stops; what is under way is withdrawn when the coordinator comes back."""
        for timer in (*self._timers, *((self._idle,) if self._idle is not None else ())):
            timer.cancel()
        self._timers.clear()
        playing = tuple(self._playing.values())
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    def attempt_begun(self) -> None:
        """An applicant's attempt has begun: by the policy's rate, a calibration follows."""
        if self._addresses.places and self._share() < self._stage.policy.calibration_rate:
            self._later(int(self._share() * _SPREAD_NS))

    def begin(self) -> VerificationId | None:
        """Begins a calibration now; None: too many are under way, or no address is free."""
        if self._idle is not None:
            self._wait_for_idle()
        target = self._addresses.take() if len(self._playing) < MAX_AT_ONCE else None
        if target is None:
            return None
        name = self._new_id()
        task = asyncio.create_task(self._play(name, target))
        self._playing[name] = task
        task.add_done_callback(lambda _: self._playing.pop(name, None))
        return name

    async def _play(self, name: VerificationId, target: Target) -> None:
        said = False
        try:
            server = self._servers.get(target) or self._open(target)
            drawn = partial(draw_enactment, self._draw_key, name, policy=self._stage.policy)
            said = await Play(self._stage, name, server, drawn).run()
        except (CoordinatorError, NotNowError, StoreError) as error:
            _log.info("calibration %s came to nothing: %s", name, error)
        except OSError as error:
            _log.error("calibration target %s: %s: is it an address of this host, or routed to it?", target, error)
        except Exception:
            _log.exception("calibration %s failed", name)
        finally:
            self._addresses.give_back(target)
            self._rest(target)
        self._telemetry.calibrated(said=said)

    def _open(self, target: Target) -> CalibrationServer:
        looks = draw_looks(self._draw_key, target.address)
        server = CalibrationServer(target, looks, self._stage.clock.now_ns, self._bits)
        server.open()
        self._servers[target] = server
        return server

    def _rest(self, target: Target) -> None:
        """A server does not vanish when it is proven; of those at random addresses the latest go on."""
        if target not in self._servers or any(place.is_single and _holds(place, target) for place in self.places):
            return
        self._resting.append(target)
        while len(self._resting) > MAX_KEPT:
            self._servers.pop(self._resting.pop(0)).close()

    def _wait_for_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        # Half to three halves of it, so that nobody can count on it.
        pause_ns = int(self._stage.policy.calibration_idle_ns * (0.5 + self._share()))
        self._idle = self._stage.clock.call_at(self._stage.clock.now_ns() + pause_ns, self._idled)

    def _idled(self) -> None:
        self.begin()

    def _later(self, pause_ns: int) -> None:
        timer: Timer | None = None

        def fire() -> None:
            if timer is not None:
                self._timers.discard(timer)
            self.begin()

        timer = self._stage.clock.call_at(self._stage.clock.now_ns() + pause_ns, fire)
        self._timers.add(timer)

    def _share(self) -> float:
        return self._bits(53) / (1 << 53)


def _holds(place: Place, target: Target) -> bool:
    return str(place.network.network_address) == target.address and place.port == target.port
