"""A quarantine: kept in the store, felt at once by the registry and by open attempts, ended by an operator alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from coordinator.calibration.ledger import Ledger
from coordinator.problems import NotQuarantinedError
from coordinator.records import CONDUCTS
from coordinator.registry import Agent, Ended, Registry
from coordinator.settings import CoordinatorSettings
from coordinator.store.memory import MemoryStore
from coordinator.store.port import Store, pages
from poolproof.calibration import Examined, Finding, Stratum
from poolproof.conduct import Quarantine, QuarantineReason
from poolproof.fleet import Role
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import Job, Step
from poolproof.outcome import Outcome
from poolproof.target import Family, Target
from poolproof.verdict import ControlProven, Inconclusive, Reason
from poolproof.verification import State
from poolproof.wire import Hello
from tests.coordinator.agents import ABLE
from tests.coordinator.doubles import POLICY, START_NS, ManualClock, NoTelemetry, Play, a_fleet, current, wanted

CALIBRATION = VerificationId("c00000000001")
V1 = VantageId("v01")
WHY = Quarantine(QuarantineReason.INVENTED_ANSWER, START_NS, CALIBRATION, "seen")


def lie(finding: Finding = Finding.INVENTED_ANSWER) -> list[Examined]:
    return [Examined("c/1/0/v01 #0", finding, finding is Finding.MISSING)]


class Conductor:
    def __init__(self) -> None:
        self.distrusted: list[VantageId] = []

    def distrust(self, vantage: VantageId) -> None:
        self.distrusted.append(vantage)


class Telemetry(NoTelemetry):
    def __init__(self) -> None:
        super().__init__()
        self.changes: list[tuple[QuarantineReason, int]] = []

    def quarantined(self, why: Quarantine, change: int) -> None:
        self.changes.append((why.reason, change))


class House:
    """A ledger and all that it moves, on a store that outlives it."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or MemoryStore()
        self.clock = ManualClock()
        self.registry = Registry(a_fleet(), self.clock, CoordinatorSettings(Path("never-read")))
        self.conductor = Conductor()
        self.telemetry = Telemetry()
        self.ledger = Ledger(self.store, self.registry, self.conductor, self.clock, self.telemetry, POLICY)

    def connect(self, vantage: VantageId = V1) -> Agent:
        agent = self.registry.admit(Hello(vantage, "test", 1, b"n" * 16, ABLE), "s1")
        assert not isinstance(agent, Ended)
        return agent

    def usable(self) -> set[VantageId]:
        return {vantage.id for vantage in self.registry.usable(Family.IPV4)}

    def why(self, vantage: VantageId = V1) -> Quarantine | None:
        return next(state.quarantine for state in self.registry.states() if state.vantage.id == vantage)


def a_job() -> Job:
    kind = next(iter(ABLE.kinds))
    return Job(JobId("x/1/0/v01"), VerificationId("x"), V1, Target("192.0.2.9"), "127.7.0.1", 1, (Step(kind, 0),), 1, 1)


async def test_what_is_impossible_stops_the_work_at_once() -> None:
    house = House()
    agent = house.connect()
    assert house.usable() == {V1}
    await house.ledger.look(CALIBRATION, V1, lie())
    assert house.usable() == set()
    assert house.registry.hand_out(V1, [a_job()]) is False
    assert agent.queue.empty()
    assert house.conductor.distrusted == [V1]
    held = house.why()
    assert held is not None
    assert (held.reason, held.calibration) == (QuarantineReason.INVENTED_ANSWER, CALIBRATION)
    assert house.telemetry.changes == [(QuarantineReason.INVENTED_ANSWER, 1)]


@pytest.mark.parametrize("finding", [Finding.TRUE, Finding.MISSING, Finding.IMPOSSIBLE_TIME, Finding.NOT_COUNTED])
async def test_what_can_happen_to_an_honest_probe_changes_nothing_before_the_end(finding: Finding) -> None:
    house = House()
    await house.ledger.look(CALIBRATION, V1, lie(finding))
    assert [entry async for page in pages(house.store, CONDUCTS) for entry in page.entries] == []


async def test_a_quarantine_survives_the_coordinator_and_is_carried_out_again() -> None:
    before = House()
    await before.ledger.look(CALIBRATION, V1, lie())
    after = House(before.store)
    after.connect()
    assert after.usable() == {V1}, "not yet read"
    await after.ledger.load()
    after.ledger.distrust_again()
    assert after.usable() == set()
    assert after.why() == before.why()
    assert after.conductor.distrusted == [V1]
    assert after.telemetry.changes == [(QuarantineReason.INVENTED_ANSWER, 1)]


async def test_missing_answers_add_up_over_coordinators() -> None:
    house = House()
    for _ in range(3):
        seen = lie(Finding.MISSING)
        await house.ledger.count(CALIBRATION, V1, seen, {Stratum.UNSERVED: seen[0]})
    again = House(house.store)
    await again.ledger.load()
    assert again.why() is None
    seen = lie(Finding.MISSING)
    await again.ledger.count(CALIBRATION, V1, seen, {Stratum.UNSERVED: seen[0]})
    held = again.why()
    assert held is not None
    assert held.reason is QuarantineReason.MISSING_ANSWERS


async def test_calibrations_that_end_together_all_count() -> None:
    house, other = House(), None
    other = House(house.store)
    seen = lie(Finding.MISSING)
    await asyncio.gather(
        *(each.ledger.count(CALIBRATION, V1, seen, {Stratum.BASELINE: seen[0]}) for each in [house, other] * 5)
    )
    fresh = House(house.store)
    await fresh.ledger.load()
    assert fresh.ledger.of(V1).counts[Stratum.BASELINE].trials == 10


async def test_an_operator_ends_it_with_a_reason_that_is_kept() -> None:
    house = House()
    house.connect()
    await house.ledger.look(CALIBRATION, V1, lie())
    free = await house.ledger.release(V1, "its uplink was mended")
    assert house.usable() == {V1}
    assert [each.reason for each in free.releases] == ["its uplink was mended"]
    assert house.telemetry.changes == [(QuarantineReason.INVENTED_ANSWER, 1), (QuarantineReason.INVENTED_ANSWER, -1)]
    again = House(house.store)
    await again.ledger.load()
    assert again.why() is None
    assert again.ledger.of(V1) == free


@pytest.mark.parametrize(("vantage", "reason"), [("v02", "mended"), ("nobody", "mended"), ("v01", " "), ("v01", "")])
async def test_there_is_nothing_to_release_or_no_reason(vantage: str, reason: str) -> None:
    house = House()
    await house.ledger.look(CALIBRATION, V1, lie())
    with pytest.raises(NotQuarantinedError):
        await house.ledger.release(VantageId(vantage), reason)
    assert house.why() is not None


async def measured(play: Play) -> Sequence[VantageId]:
    """A verification whose first round is reported, by an owner who does all; those that must get no answer."""
    await play.conductor.request(wanted())
    challenged = await play.until(lambda v: v.state is State.CHALLENGED)
    play.owner_does_as_told(current(challenged))
    await play.conductor.ready(challenged.id)
    await play.until(lambda v: bool(current(v).observations))
    challenge = current(challenged).challenge
    assert challenge is not None
    return [row.perspective.vantage for row in challenge.rows if row.perspective.role is Role.MUST_BE_BLOCKED]


async def test_an_open_attempt_goes_on_without_what_a_quarantined_vantage_said() -> None:
    play = Play()
    liar, *others = await measured(play)
    play.agents.away.add(liar)
    play.conductor.distrust(liar)
    done = await play.until(lambda v: not v.state.is_open)
    attempt = current(done)
    assert isinstance(attempt.verdict, ControlProven)
    assert attempt.verdict.tally.silent == len(others)
    assert attempt.challenge is not None
    views = [row.perspective.vantage for row in attempt.challenge.rows]
    said = {seen.outcome for seen in attempt.observations if views[seen.row] == liar}
    assert said == {Outcome.PROBE_FAILED}


async def test_an_attempt_that_has_lost_too_many_ends_and_names_them() -> None:
    play = Play()
    liars = (await measured(play))[:4]
    for liar in liars:
        play.conductor.distrust(liar)
    await play.conductor.settle()
    verdict = (await play.held()).verification.verdict
    assert isinstance(verdict, Inconclusive)
    assert verdict.reason is Reason.PROBES_FAILED
    assert {view.vantage for view in verdict.perspectives} == set(liars)
