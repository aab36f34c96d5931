"""Every vantage's conduct, in the store and at hand; and what follows at once when a vantage is quarantined.

A change is saved before anything follows from it, so that a quarantine survives whatever happens next. What follows is
done again when the coordinator starts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from coordinator.ports import Clock
from coordinator.problems import BusyError, NotQuarantinedError
from coordinator.records import CONDUCTS, conduct_key, conduct_put
from coordinator.registry import Registry
from coordinator.store.port import Compare, Conflict, Store, Transaction, pages
from coordinator.tracing_port import Telemetry
from coordinator.turns import MAX_TRIES
from poolproof.calibration import Examined, Stratum
from poolproof.conduct import Conduct, Quarantine, after_calibration, quarantined, released
from poolproof.ids import VantageId, VerificationId
from poolproof.policy import Policy
from poolproof.wire.conduct import from_conduct_record

_log = logging.getLogger(__name__)


class Distrusts(Protocol):
    """Whoever has open attempts: the conductor."""

    def distrust(self, vantage: VantageId) -> None:
        """See `Conductor.distrust`."""
        ...


class Ledger:
    """The conduct of all vantages.

    Args:
        store: where it is kept.
        registry: gives quarantined vantages no work.
        conductor: has open attempts.
        clock: Unix time.
        telemetry: told of quarantines.
        policy: the test's numbers.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        conductor: Distrusts,
        clock: Clock,
        telemetry: Telemetry,
        policy: Policy,
    ) -> None:
        self._store = store
        self._registry = registry
        self._conductor = conductor
        self._clock = clock
        self._telemetry = telemetry
        self._policy = policy
        self._conducts: dict[VantageId, tuple[Conduct, int]] = {}

    async def load(self) -> None:
        """Reads what the store has; quarantined vantages get no work from then on."""
        async for page in pages(self._store, CONDUCTS):
            for entry in page.entries:
                conduct = from_conduct_record(entry.value)
                self._conducts[conduct.vantage] = conduct, entry.mod_revision
                if conduct.quarantine is not None:
                    self._registry.quarantine(conduct.vantage, conduct.quarantine)
                    self._telemetry.quarantined(conduct.quarantine, 1)

    def distrust_again(self) -> None:
        """Once open verifications are carried on: what a quarantine leads to may have been cut short."""
        for conduct, _ in self._conducts.values():
            if conduct.quarantine is not None:
                self._conductor.distrust(conduct.vantage)

    def of(self, vantage: VantageId) -> Conduct:
        """One vantage's conduct."""
        return self._conducts.get(vantage, (Conduct(vantage), 0))[0]

    async def look(self, calibration: VerificationId, vantage: VantageId, seen: Sequence[Examined]) -> None:
        """Something was reported in a calibration that is not over; what is impossible quarantines at once."""
        if not any(each.finding.is_impossible for each in seen):
            return
        now_ns = self._clock.now_ns()
        await self._change(vantage, lambda held: quarantined(held, calibration, seen, now_ns, self._policy))

    async def count(
        self,
        calibration: VerificationId,
        vantage: VantageId,
        seen: Sequence[Examined],
        trials: Mapping[Stratum, Examined],
    ) -> None:
        """A calibration is over."""
        now_ns = self._clock.now_ns()
        await self._change(
            vantage, lambda held: after_calibration(held, calibration, seen, trials, now_ns, self._policy)
        )
        self._telemetry.tried({stratum: each.failed for stratum, each in trials.items()})

    async def release(self, vantage: VantageId, reason: str) -> Conduct:
        """An operator ends a quarantine.

        Raises:
            NotQuarantinedError: it is not quarantined, or no reason is given.
        """
        now_ns = self._clock.now_ns()
        try:
            conduct = await self._change(vantage, lambda held: released(held, reason, now_ns))
        except ValueError as error:
            raise NotQuarantinedError(f"vantage_id: {error}") from None
        return conduct

    async def _change(self, vantage: VantageId, change: Callable[[Conduct], Conduct]) -> Conduct:
        for _ in range(MAX_TRIES):
            before, revision = self._conducts.get(vantage, (Conduct(vantage), 0))
            after = change(before)
            if after == before:
                return after
            compare = Compare(conduct_key(vantage), revision)
            result = await self._store.commit(Transaction((compare,), (conduct_put(after),)))
            if not isinstance(result, Conflict):
                self._conducts[vantage] = after, result.revision
                self._follow_up(before.quarantine, after)
                return after
            entry = await self._store.get(conduct_key(vantage))
            if entry is not None:
                self._conducts[vantage] = from_conduct_record(entry.value), entry.mod_revision
        raise BusyError(f"vantage {vantage}: others saved first {MAX_TRIES} times; try again in a second")

    def _follow_up(self, before: Quarantine | None, after: Conduct) -> None:
        if before is None and after.quarantine is not None:
            held = after.quarantine
            _log.error(
                "vantage %s is quarantined (%s): %s",
                after.vantage,
                held.reason.value,
                held.evidence,
                extra={"vantage": after.vantage, "reason": held.reason.value, "calibration": held.calibration},
            )
            self._registry.quarantine(after.vantage, held)
            self._telemetry.quarantined(held, 1)
            self._conductor.distrust(after.vantage)
        elif before is not None and after.quarantine is None:
            reason = after.releases[-1].reason
            _log.warning("vantage %s is released: %s", after.vantage, reason, extra={"vantage": after.vantage})
            self._registry.release(after.vantage)
            self._telemetry.quarantined(before, -1)
