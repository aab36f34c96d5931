"""A store that refuses, that takes effect and says that it failed, that is slow or hangs: nothing is lost or proven."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from coordinator.problems import BusyError
from coordinator.store.memory import MemoryStore
from coordinator.store.port import CommitResult, Transaction
from poolproof.policy import SECOND_NS
from poolproof.verdict import ControlProven, ControlRefuted
from poolproof.verification import State
from tests.coordinator.doubles import ID, Play, current, wanted
from tests.faults.troubled import FaultyStore, Troubled

SEEDS = 12


async def test_whatever_the_store_does_an_honest_owner_is_proven_and_nothing_is_lost() -> None:
    faults, ends = Counter[str](), Counter[str]()
    for seed in range(SEEDS):
        store = FaultyStore(seed, rate=0.03 + 0.01 * seed)
        troubled = Troubled(store, obeys=True)
        verification = await troubled.live()
        await troubled.check_nothing_lost(verification)
        assert not isinstance(verification.verdict, ControlRefuted)
        faults += store.faults
        ends[type(verification.verdict).__name__] += 1
    print(f"{sum(faults.values())} faults: {dict(faults)}; {dict(ends)}")
    assert set(faults) >= {"commit refused", "commit unheard", "commit slow", "get refused", "get slow"}
    # Where the store refuses for longer than jobs are handed out ahead, probes miss the start: that proves nothing.
    assert ends["ControlProven"] >= SEEDS - 2


async def test_whatever_the_store_does_an_owner_who_did_nothing_is_never_proven() -> None:
    for seed in range(SEEDS):
        troubled = Troubled(FaultyStore(100 + seed, rate=0.15), obeys=False)
        verification = await troubled.live()
        await troubled.check_nothing_lost(verification)
        assert not isinstance(verification.verdict, ControlProven)


class HungStore(MemoryStore):
    """Answers no commit while it hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.asked = asyncio.Event()
        self.waiting = 0

    async def commit(self, transaction: Transaction) -> CommitResult:
        self.waiting += 1
        if not self.goes_on.is_set():
            self.asked.set()
        await self.goes_on.wait()
        self.waiting -= 1
        return await super().commit(transaction)


async def test_while_the_store_hangs_nothing_is_answered_or_handed_out_and_then_all_of_it_is() -> None:
    store = HungStore()
    play = Play(store=store)
    await play.conductor.request(wanted())
    await play.until(lambda v: v.state is State.CHALLENGED)
    play.owner_does_as_told(current((await play.held()).verification))
    store.goes_on.clear()
    handed = len(play.agents.handed)
    ready = asyncio.ensure_future(play.conductor.ready(ID))
    await store.asked.wait()
    for _ in range(20):
        # Half an hour in which timers ring and nobody can save anything.
        play.clock.move_to(play.clock.now_ns() + 90 * SECOND_NS)
        for _ in range(5):
            await asyncio.sleep(0)
    assert not ready.done()
    assert store.waiting == 1, "one turn at a time, however many timers ring"
    assert len(play.agents.handed) == handed, "a job went out that was not saved"
    store.goes_on.set()
    assert (await ready).verification.state is State.MEASURING
    proven = await play.until(lambda v: v.state is State.CONCLUDED)
    assert isinstance(proven.verdict, ControlProven)
    await play.conductor.close()


async def test_while_the_store_hangs_what_waits_is_bounded_and_the_rest_is_told_so() -> None:
    store = HungStore()
    play = Play(store=store)
    await play.conductor.request(wanted())
    store.goes_on.clear()
    jobs = play.agents.handed
    waiting = [asyncio.ensure_future(play.report(jobs[n % len(jobs)])) for n in range(1_200)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        with pytest.raises(BusyError, match="wait already"):
            task.result()
    store.goes_on.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert 0 < sum(isinstance(result, BusyError) for result in results) < 200
    assert {seen.vantage for seen in current((await play.held()).verification).paths} == {job.vantage for job in jobs}
    await play.conductor.close()
