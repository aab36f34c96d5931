"""The conductor carries verifications from request to verdict, driven by hand: no clock but the test's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from coordinator.problems import (
    BusyError,
    DuplicateClaimError,
    NoVantagesError,
    UnknownVerificationError,
)
from coordinator.records import OPEN, load_standing, open_ids, report_key
from coordinator.store.errors import StoreUnavailableError
from coordinator.store.memory import MemoryStore
from coordinator.store.port import CommitResult, Conflict, Entry, Transaction
from poolproof.exchange import LocalFault
from poolproof.ids import JobId, PolicyId, VerificationId
from poolproof.outcome import Outcome
from poolproof.policy import SECOND_NS
from poolproof.variant import Variant
from poolproof.verdict import ControlProven, ControlRefuted, Inconclusive, Reason
from poolproof.verification import Foreign, ForeignReportError, NotNowError, State, Verification
from tests.coordinator.doubles import ID, POLICY, TARGET, Play, current, report_of, wanted


@pytest.fixture
async def play() -> AsyncIterator[Play]:
    play = Play()
    yield play
    await play.conductor.close()
    await play.store.close()


async def challenged(play: Play, variant: Variant = Variant.BLOCK) -> None:
    await play.conductor.request(wanted(variant=variant))
    await play.until(lambda v: v.state is State.CHALLENGED)


@pytest.mark.parametrize("variant", Variant)
async def test_an_owner_who_does_as_told_is_proven(play: Play, variant: Variant) -> None:
    await challenged(play, variant)
    play.owner_does_as_told(current((await play.held()).verification))
    await play.conductor.ready(ID)
    proven = await play.until(lambda v: v.state is State.CONCLUDED)
    assert isinstance(proven.verdict, ControlProven), proven.verdict
    standing = (await load_standing(play.store, TARGET)).standing
    assert standing.attempts == 1
    assert [(proof.applicant, proof.verification) for proof in standing.proofs] == [("alice", ID)]
    for job in play.agents.handed:
        assert await play.store.get(report_key(job.id)) is not None
    assert await open_ids(play.store) == ()


async def test_a_server_that_nobody_configured_is_refuted_in_the_first_round(play: Play) -> None:
    await challenged(play)
    await play.conductor.ready(ID)
    refuted = await play.until(lambda v: v.state is State.CONCLUDED)
    assert isinstance(refuted.verdict, ControlRefuted)
    assert len(current(refuted).rounds) == 1


async def test_a_report_that_comes_twice_changes_nothing_and_the_first_one_is_kept(play: Play) -> None:
    await play.conductor.request(wanted())
    job = play.agents.handed[0]
    first = await play.report(job)
    assert await play.report(job) == first, "the acknowledgement was lost: it is given once more"
    assert play.telemetry.refused == ["duplicate"]
    with pytest.raises(ForeignReportError, match="reported before, and otherwise") as refused:
        await play.report(job, report_of(job, lambda job: False))
    assert refused.value.foreign is Foreign.DUPLICATE
    assert await play.held() == first
    kept = await play.store.get(report_key(job.id))
    assert kept is not None
    assert kept.value.count(bytes((0o44, 2))) == len(job.steps) + 2  # answers, not the second report's silence


async def test_a_report_of_a_closed_verification_is_kept_as_evidence(play: Play) -> None:
    await play.conductor.request(wanted())
    await play.conductor.withdraw(ID)
    job = play.agents.handed[0]
    assert (await play.report(job)).verification.state is State.WITHDRAWN
    assert await play.store.get(report_key(job.id)) is not None


async def test_foreign_reports_are_refused_and_nothing_of_them_is_kept(play: Play) -> None:
    await play.conductor.request(wanted())
    job = play.agents.handed[0]
    before = await play.held()
    for name in (f"{ID}/2/baseline/v01", f"{ID}/1/7/v01", f"{ID}/1//v01"):
        with pytest.raises(ForeignReportError):
            await play.report(job, replace(report_of(job, play.answered), job=JobId(name)))
        assert (await play.store.scan("report/")).entries == ()
    with pytest.raises(UnknownVerificationError):
        await play.report(job, replace(report_of(job, play.answered), job=JobId("v0000000009x/1/baseline/v01")))
    other = next(each for each in play.agents.handed if each.vantage != job.vantage)
    with pytest.raises(ForeignReportError, match="came from vantage"):
        await play.report(job, replace(report_of(job, play.answered), vantage=other.vantage))
    assert await play.held() == before


class Contended(MemoryStore):
    """Somebody else saves first, the first so many times."""

    conflicts = 0

    async def commit(self, transaction: Transaction) -> CommitResult:
        if self.conflicts > 0:
            self.conflicts -= 1
            return Conflict(transaction.compares[0].key, 1)
        return await super().commit(transaction)


async def test_whoever_is_overtaken_looks_again_and_gives_up_after_some_times() -> None:
    store = Contended()
    play = Play(store=store)
    store.conflicts = 3
    await play.conductor.request(wanted())
    store.conflicts = 3
    await play.report(play.agents.handed[0])
    assert len(current((await play.held()).verification).paths) == 1
    store.conflicts = 1_000
    with pytest.raises(BusyError, match="try again"):
        await play.conductor.withdraw(ID)
    store.conflicts = 0
    await play.conductor.withdraw(ID)
    await play.conductor.close()


class Failing(MemoryStore):
    """Cannot save anything while it is told so."""

    failing = False

    async def commit(self, transaction: Transaction) -> CommitResult:
        if self.failing:
            raise StoreUnavailableError("the disk is full")
        return await super().commit(transaction)


async def test_a_store_that_fails_for_a_while_costs_no_step() -> None:
    store = Failing()
    play = Play(store=store)
    await challenged(play)
    play.owner_does_as_told(current((await play.held()).verification))
    await play.conductor.ready(ID)
    store.failing = True
    handed = len(play.agents.handed)
    play.clock.move_to(play.clock.now_ns() + 10 * SECOND_NS)
    await play.conductor.settle()
    assert len(play.agents.handed) == handed, "a job went out that was not saved"
    with pytest.raises(StoreUnavailableError):
        await play.conductor.withdraw(ID)
    store.failing = False
    proven = await play.until(lambda v: v.state is State.CONCLUDED)
    assert isinstance(proven.verdict, ControlProven)
    await play.conductor.close()


async def test_a_job_that_no_stream_takes_by_its_start_is_the_probes_failure(play: Play) -> None:
    await challenged(play)
    attempt = current((await play.held()).verification)
    play.owner_does_as_told(attempt)
    assert attempt.challenge is not None
    gone = attempt.challenge.rows[-1].perspective.vantage
    play.agents.away.add(gone)
    await play.conductor.ready(ID)
    done = await play.until(lambda v: len(current(v).rounds) == 2)
    seen = [o for o in current(done).observations if o.round == 0 and o.row == len(attempt.challenge.rows) - 1]
    assert [o.outcome for o in seen] == [Outcome.PROBE_FAILED]


async def test_an_agent_that_connects_before_the_start_gets_its_job_after_all(play: Play) -> None:
    await challenged(play)
    attempt = current((await play.held()).verification)
    play.owner_does_as_told(attempt)
    assert attempt.challenge is not None
    late = attempt.challenge.rows[0].perspective.vantage
    play.agents.away.add(late)
    await play.conductor.ready(ID)
    await play.until(lambda v: len(current(v).rounds) == 1)
    play.agents.away.clear()
    play.conductor.joined(late)
    await play.conductor.settle()
    assert [job.vantage for job in play.agents.handed if job.id.split("/")[2] == "0"].count(late) == 1
    done = await play.until(lambda v: len(current(v).rounds) == 2)
    assert Outcome.PROBE_FAILED not in {o.outcome for o in current(done).observations}


async def test_an_agent_that_comes_back_is_handed_exactly_what_it_has_not_accounted_for(play: Play) -> None:
    await play.conductor.request(wanted())
    one, other = play.agents.handed[0], play.agents.handed[1]
    await play.report(one)
    play.agents.handed.clear()
    for vantage in (one.vantage, other.vantage):
        play.conductor.joined(vantage)
    await play.conductor.settle()
    assert play.agents.handed == [other]


class Mortal(MemoryStore):
    """Dies right after a commit: it has taken effect, and nobody hears of it."""

    lives = 10**9

    async def commit(self, transaction: Transaction) -> CommitResult:
        self._check()
        result = await super().commit(transaction)
        self.lives -= 1
        self._check()
        return result

    async def get(self, key: str) -> Entry | None:
        self._check()
        return await super().get(key)

    def _check(self) -> None:
        if self.lives <= 0:
            raise StoreUnavailableError("killed")


@pytest.mark.parametrize("lives", range(1, 9))
async def test_after_a_crash_at_any_commit_the_verification_carries_on_to_the_same_verdict(lives: int) -> None:
    """A coordinator is thrown away right after a commit, before it can act on it, and another takes over."""
    store = Mortal()
    play = Play(store=store)
    await play.conductor.request(wanted())
    store.lives = lives
    with contextlib.suppress(StoreUnavailableError):
        await _prove(play)
    await play.conductor.close()
    store.lives = 10**9
    play.conductor = play.another()
    await play.conductor.start()
    for vantage in play.agents.fleet:
        play.conductor.joined(vantage.id)
    play.forget_acknowledgements()
    proven = await _prove(play)
    assert isinstance(proven.verdict, ControlProven), proven.verdict
    assert [attempt.number for attempt in proven.attempts] == [1]
    standing = (await load_standing(store, TARGET)).standing
    assert (standing.attempts, len(standing.proofs)) == (1, 1)
    await play.conductor.close()


async def _prove(play: Play) -> Verification:
    """The owner's part from wherever the verification stands; ready is said only if it was not."""
    verification = await play.until(lambda v: v.state is not State.BASELINE)
    play.owner_does_as_told(current(verification))
    if current(verification).ready_at_ns == 0:
        await play.conductor.ready(ID)
    return await play.until(lambda v: not v.state.is_open)


async def test_what_a_save_led_to_is_handed_out_even_if_its_success_was_not_heard_of() -> None:
    store = Mortal()
    play = Play(store=store)
    store.lives = 1
    with pytest.raises(StoreUnavailableError):
        await play.conductor.request(wanted())
    assert play.agents.handed == []
    store.lives = 10**9
    play.clock.move_to(play.clock.now_ns() + SECOND_NS)
    await play.conductor.settle()
    assert len(play.agents.handed) == len(current((await play.held()).verification).candidates)
    assert isinstance((await _prove(play)).verdict, ControlProven)
    await play.conductor.close()


async def test_one_applicant_has_one_open_verification_of_a_target(play: Play) -> None:
    await play.conductor.request(wanted())
    with pytest.raises(DuplicateClaimError, match=ID):
        await play.conductor.request(wanted(name="v0000000002x"))
    await play.conductor.request(wanted("bob", name="v0000000003x"))
    assert current((await play.held("v0000000003x")).verification).number == 2, "attempts are counted on the target"


async def test_asking_again_with_the_same_id_changes_nothing(play: Play) -> None:
    first = await play.conductor.request(wanted())
    assert await play.conductor.request(wanted()) == first


async def test_two_requests_at_once_are_two_attempts_with_numbers_of_their_own(play: Play) -> None:
    names = [f"v000000000{n}y" for n in range(5)]
    await asyncio.gather(*(play.conductor.request(wanted(f"user {n}", name=n)) for n in names))
    numbers = sorted([current((await play.held(name)).verification).number for name in names])
    assert numbers == [1, 2, 3, 4, 5]


async def test_a_new_verification_is_no_way_around_the_pause_between_attempts(play: Play) -> None:
    await challenged(play)
    await play.conductor.ready(ID)
    await play.until(lambda v: v.state is State.CONCLUDED)
    with pytest.raises(NotNowError, match="may begin in 60 s"):
        await play.conductor.retry(ID)
    with pytest.raises(NotNowError, match="may begin in 60 s"):
        await play.conductor.request(wanted(name="v0000000002x"))
    play.clock.move_to(play.clock.now_ns() + POLICY.retry_spacing_ns)
    await play.conductor.request(wanted(name="v0000000002x"))
    await play.until(lambda v: v.state is State.CHALLENGED, "v0000000002x")
    await play.conductor.ready(VerificationId("v0000000002x"))
    await play.until(lambda v: v.state is State.CONCLUDED, "v0000000002x")
    play.clock.move_to(play.clock.now_ns() + POLICY.retry_spacing_ns)
    with pytest.raises(NotNowError, match="may begin in 60 s"):
        await play.conductor.request(wanted(name="v0000000003x"))


async def test_another_attempt_has_the_next_number_and_other_seeds(play: Play) -> None:
    await challenged(play)
    await play.conductor.ready(ID)
    await play.until(lambda v: v.state is State.CONCLUDED)
    play.clock.move_to(play.clock.now_ns() + POLICY.retry_spacing_ns)
    attempts = (await play.conductor.retry(ID)).verification.attempts
    assert [attempt.number for attempt in attempts] == [1, 2]
    assert attempts[0].seed != attempts[1].seed
    assert await play.store.get(OPEN + ID) is not None


async def test_a_fleet_that_is_not_there_spends_no_attempt(play: Play) -> None:
    play.agents.away = {vantage.id for vantage in play.agents.fleet}
    with pytest.raises(NoVantagesError, match="no vantage"):
        await play.conductor.request(wanted())
    assert (await load_standing(play.store, TARGET)).standing.attempts == 0


async def test_an_owner_who_never_says_ready_runs_out_of_time(play: Play) -> None:
    await challenged(play)
    expired = await play.until(lambda v: v.state is State.EXPIRED)
    assert isinstance(expired.verdict, Inconclusive)
    assert expired.verdict.reason is Reason.NOT_READY_IN_TIME


async def test_one_report_that_never_comes_keeps_the_attempt_from_proof(play: Play) -> None:
    await challenged(play)
    attempt = current((await play.held()).verification)
    play.owner_does_as_told(attempt)
    assert attempt.challenge is not None
    play.agents.mute = {row.perspective.vantage for row in attempt.challenge.rows[-1:]}
    await play.conductor.ready(ID)
    await play.until(lambda v: len(current(v).rounds) == 2)
    lost = next(job for job in play.agents.handed if job.vantage in play.agents.mute and job.id.split("/")[2] == "0")
    play.agents.handed.remove(lost)
    play.agents.mute.clear()
    ended = await play.until(lambda v: v.state is State.CONCLUDED)
    assert isinstance(ended.verdict, Inconclusive)
    assert ended.verdict.reason is Reason.REPORT_MISSING


async def test_failing_probes_prove_nothing(play: Play) -> None:
    await challenged(play)
    attempt = current((await play.held()).verification)
    play.owner_does_as_told(attempt)
    await play.conductor.ready(ID)
    await play.until(lambda v: len(current(v).rounds) == 1)
    for job in [job for job in play.agents.handed if job.id.split("/")[2] == "0"]:
        await play.report(job, report_of(job, play.answered, LocalFault.CLOCK_WRONG))
    outcomes = {seen.outcome for seen in current((await play.held()).verification).observations}
    assert outcomes == {Outcome.PROBE_FAILED}


async def test_ready_is_refused_before_the_challenge_and_harmless_the_second_time(play: Play) -> None:
    await play.conductor.request(wanted())
    with pytest.raises(NotNowError, match="say ready once it is challenged"):
        await play.conductor.ready(ID)
    await play.until(lambda v: v.state is State.CHALLENGED)
    first = await play.conductor.ready(ID)
    play.clock.move_to(play.clock.now_ns() + SECOND_NS)
    second = await play.conductor.ready(ID)
    assert current(second.verification).ready_at_ns == current(first.verification).ready_at_ns


async def test_what_does_not_exist_is_said_so(play: Play) -> None:
    for name in ("nothere", "a b", "", "../x"):
        with pytest.raises(UnknownVerificationError):
            await play.conductor.ready(VerificationId(name))


async def test_a_coordinator_without_a_verifications_policy_does_not_start(play: Play) -> None:
    await play.conductor.request(wanted())
    bare = Play(store=play.store, policy=replace(POLICY, id=PolicyId("other")))
    with pytest.raises(ValueError, match="policy test"):
        await bare.conductor.start()
