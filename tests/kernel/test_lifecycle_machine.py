"""A search through the lives of a verification: any order of reports, forged ones, clock steps, crashes at any moment.

The machine plays the shell and the world. Two clocks run in it: the true one, by which probes work and reports come,
and the coordinator's, which is set by minutes whenever the search likes. Luck is not its subject (`evidence` bounds
that, the simulation plays it): a server that nobody configured answers whoever really asks it, and a half-configured
one answers one of those that it should not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from enum import Enum
from typing import ClassVar
from zlib import crc32

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from poolproof.challenge import Expectation
from poolproof.exchange import LocalFault
from poolproof.ids import JobId, VantageId
from poolproof.job import Job, Report
from poolproof.lifecycle import handle, next_wake_ns, outstanding
from poolproof.outcome import Outcome
from poolproof.plan import BASELINE
from poolproof.policy import SECOND_NS
from poolproof.variant import Variant
from poolproof.verdict import ControlProven
from poolproof.verification import (
    Attempt,
    Distrusted,
    Event,
    ForeignReportError,
    NotNowError,
    OwnerReady,
    Reported,
    State,
    Step,
    Unreachable,
    Verification,
    Wake,
    Withdraw,
)
from poolproof.wire import from_record, to_record
from tests.kernel.fleets import POLICY, START_NS, begin, ends_ns, report, requested
from tests.kernel.forgeries import FORGERIES

ODDITIES = ("none", "fault", "missing", "unreachable", "late", "lost")
"""What becomes of a job; the first one, mostly. The last two are what the network and the target do."""
AHEAD_NS = 600 * SECOND_NS
"""A probe's guard takes no job that starts later than this from now, by the probe's own clock."""
MINUTES = (-90, -30, -5, -1, 1, 5, 30, 90)
MOST_WAKES = 200
"""With nothing but time passing, no life lasts longer."""


class Owner(Enum):
    """What the owner did when told the challenge."""

    ALL = "all"
    HALF = "half"
    NOTHING = "nothing"


class Life(RuleBasedStateMachine):
    """One verification, what is saved of it, and what its probes have seen."""

    endings: ClassVar[set[str]] = set()
    transitions: ClassVar[Counter[tuple[str, str, str]]] = Counter()
    saved: ClassVar[set[int]] = set()
    forged: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.true_ns = START_NS
        self.skew_ns = 0
        self.verification: Verification = requested()
        self.leased: dict[JobId, Job] = {}
        self.fired: set[str] = set()
        self.reports: dict[JobId, tuple[int, Report]] = {}
        self.delivered: list[Report] = []
        self.concluded: dict[int, Attempt] = {}
        self.number = 0
        self.quarantined: set[VantageId] = set()

    @initialize(
        variant=st.sampled_from(Variant),
        size=st.sampled_from([4, 6, 12]),
        owner=st.sampled_from([Owner.ALL, Owner.ALL, Owner.ALL, Owner.HALF, Owner.NOTHING]),
        refuses=st.booleans(),
        world=st.integers(0, 99),
    )
    def claim(self, variant: Variant, size: int, owner: Owner, refuses: bool, world: int) -> None:
        self.verification = requested(variant)
        self.size, self.owner, self.refuses, self.world = size, owner, refuses, world
        self.try_again(dispatched=True)

    @property
    def now_ns(self) -> int:
        """The coordinator's clock."""
        return self.true_ns + self.skew_ns

    @rule(dispatched=st.sampled_from([True, True, True, False]))
    def try_again(self, dispatched: bool) -> None:
        """Another attempt; refused ones spend no number, as the target's standing has it."""
        if self.handle(begin(self.number + 1, self.size), dispatched=dispatched):
            self.number += 1

    @rule(withdraws=st.sampled_from([False] * 9 + [True]))
    def owner_speaks(self, withdraws: bool) -> None:
        self.handle(Withdraw() if withdraws else OwnerReady())

    @rule(seconds=st.sampled_from([1, 5, 60, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.true_ns += seconds * SECOND_NS

    @rule(minutes=st.sampled_from([*MINUTES, 0, 0]))
    def the_coordinators_clock_is_set(self, minutes: int) -> None:
        """By minutes, however often; 0: it is right again."""
        skew_ns = self.skew_ns + minutes * 60 * SECOND_NS if minutes else 0
        self.skew_ns = max(-7200 * SECOND_NS, min(7200 * SECOND_NS, skew_ns))

    @rule(dispatched=st.sampled_from([True, True, True, False]))
    def woken_in_time(self, dispatched: bool) -> None:
        due_ns = next_wake_ns(self.verification, POLICY)
        if due_ns is not None and due_ns < self.now_ns + 3600 * SECOND_NS:
            self.true_ns += max(0, due_ns - self.now_ns)
            self.handle(Wake(), dispatched=dispatched)

    @rule()
    def woken_for_nothing(self) -> None:
        due_ns = next_wake_ns(self.verification, POLICY)
        if due_ns is None or self.now_ns < due_ns:
            before = self.verification
            self.handle(Wake())
            assert self.verification == before

    @precondition(lambda self: self.reports)
    @rule(data=st.data(), saved=st.sampled_from([True, True, True, False]))
    def a_report_comes(self, data: st.DataObject, saved: bool) -> None:
        """Any of those under way, not before it can be there; perhaps of an earlier attempt or after the verdict."""
        job = data.draw(st.sampled_from(sorted(self.reports)))
        self.deliver(job, saved=saved)

    @rule(data=st.data())
    def all_reports_come(self, data: st.DataObject) -> None:
        for job in data.draw(st.permutations(sorted(self.reports))):
            self.deliver(job)

    @rule(rounds=st.integers(1, 4), data=st.data())
    def all_goes_well_for_a_while(self, rounds: int, data: st.DataObject) -> None:
        """So that the search gets as far as verdicts, from where odd things go on happening."""
        self.skew_ns = 0
        for _ in range(rounds):
            self.all_reports_come(data)
            self.owner_speaks(withdraws=False)
            self.woken_in_time(dispatched=True)
        self.all_reports_come(data)

    @precondition(lambda self: self.delivered)
    @rule(data=st.data(), silent=st.booleans())
    def a_report_comes_again(self, data: st.DataObject, silent: bool) -> None:
        """As it was, or telling another story: the first one stands."""
        before, again = self.verification, data.draw(st.sampled_from(self.delivered))
        if silent:
            again = replace(again, exchanges=tuple(replace(each, replies=(), icmp=()) for each in again.exchanges))
        self.handle(Reported(again))
        assert (self.verification.state, self.verification.verdict) == (before.state, before.verdict)
        assert self.verification.attempts[-1].observations == before.attempts[-1].observations

    @precondition(lambda self: self.reports or self.delivered)
    @rule(data=st.data())
    def foreign_reports_come(self, data: st.DataObject) -> None:
        """What is of another job, another probe or another server changes nothing, and is said to be foreign."""
        known = [*(seen for _, seen in self.reports.values()), *self.delivered]
        # The newest first: for what is under way it could be taken.
        seen = data.draw(st.sampled_from(known[::-1]))
        for name, forge in FORGERIES.items():
            if "of a round" in name and seen.job.split("/")[2] == BASELINE:
                continue
            try:
                handle(self.verification, Reported(forge(seen)), self.now_ns, POLICY)
            except ForeignReportError:
                self.forged[name] += 1
            else:
                raise AssertionError(f"a report {name} was taken")

    @rule(data=st.data())
    def somebody_gives_up_jobs(self, data: st.DataObject) -> None:
        """Known ones that are accounted for, and ones that never were: nothing of that changes anything."""
        before = self.verification
        owed = {job.id for job in outstanding(before, POLICY)}
        others = sorted({seen.job for seen in self.delivered} - owed)
        jobs = (*data.draw(st.permutations(others))[:3], JobId("verify2/1/0/v00"), JobId("x"))
        due_ns = next_wake_ns(before, POLICY)
        if due_ns is None or self.now_ns < due_ns:
            self.handle(Unreachable(jobs))
            assert self.verification.attempts[-1].observations == before.attempts[-1].observations

    @rule(quarantined=st.sampled_from([False] * 12 + [True]), data=st.data())
    def a_vantage_is_quarantined(self, quarantined: bool, data: st.DataObject) -> None:
        attempt = self.verification.attempt
        if not quarantined or attempt is None or not attempt.candidates:
            return
        vantage = data.draw(st.sampled_from([candidate.vantage.id for candidate in attempt.candidates]))
        before = self.verification
        self.handle(Distrusted(vantage))
        if not before.state.is_open:
            assert self.verification == before, "what is closed stays as it is"
            return
        after = self.verification.attempt
        assert after is not None
        assert all(entry.path is None for entry in after.paths if entry.vantage == vantage) or after.challenge
        views = [row.perspective.vantage for row in after.challenge.rows] if after.challenge is not None else []
        assert {seen.outcome for seen in after.observations if views[seen.row] == vantage} <= {Outcome.PROBE_FAILED}
        # The registry hands it nothing more.
        self.quarantined.add(vantage)

    @rule()
    def crash(self) -> None:
        """Only what was saved is left; agents are handed what they have not accounted for."""
        self.verification = from_record(to_record(self.verification))
        self.hand_out(outstanding(self.verification, POLICY))

    def teardown(self) -> None:
        """From here on nobody says anything and only time passes: it ends, in bounded time, without a proof by that."""
        proven = isinstance(self.verification.verdict, ControlProven)
        for _ in range(MOST_WAKES):
            due_ns = next_wake_ns(self.verification, POLICY)
            if due_ns is None:
                break
            self.true_ns += max(0, due_ns - self.now_ns)
            self.handle(Wake(), dispatched=False)
            again_ns = next_wake_ns(self.verification, POLICY)
            assert again_ns is None or again_ns > self.now_ns, "a wake at its time leads to another at once"
        assert not self.verification.state.is_open or not self.verification.attempts
        if not proven and self.owner is not Owner.ALL:
            self.proof_only_for_an_owner_who_did_it()

    def deliver(self, job: JobId, *, saved: bool = True) -> None:
        at_ns, seen = self.reports[job]
        self.true_ns = max(self.true_ns, at_ns)
        if self.handle(Reported(seen), saved=saved) is not None or saved:
            del self.reports[job]
            self.delivered.append(seen)

    def handle(self, event: Event, *, dispatched: bool = True, saved: bool = True) -> bool | None:
        """Whether it was taken; None if the save failed, so that nothing of it has happened and nobody was answered."""
        before = self.verification
        try:
            step = handle(before, event, self.now_ns, POLICY)
        except NotNowError:
            return False
        except ForeignReportError:
            assert isinstance(event, Reported)
            return False
        if isinstance(before.verdict, ControlProven):
            assert step == Step(before), "a proof is a latch"
        if not saved:
            return None
        record = to_record(step.verification)
        self.verification = from_record(record)
        assert self.verification == step.verification, "the record holds everything"
        self.saved.add(hash(record))
        self.transitions[before.state.value, type(event).__name__, self.verification.state.value] += 1
        assert {job.id for job in step.dispatch} <= {job.id for job in outstanding(self.verification, POLICY)}
        assert all(job.start_at_ns >= self.now_ns for job in step.dispatch), "a round begins in the past"
        phases = {job.id.rpartition("/")[0] for job in step.dispatch}
        assert not phases & self.fired, "a round is fired once"
        self.fired |= phases
        if dispatched:
            self.hand_out(step.dispatch)
        return True

    def hand_out(self, jobs: tuple[Job, ...]) -> None:
        """To agents that do a job once, whatever they are handed again."""
        unreachable: list[JobId] = []
        for job in jobs:
            assert self.leased.setdefault(job.id, job) == job, "one id, one job"
            if job.id in self.reports or any(seen.job == job.id for seen in self.delivered):
                continue
            oddity = "unreachable" if job.vantage in self.quarantined else self.oddity(job)
            if oddity == "unreachable":
                unreachable.append(job.id)
            elif oddity != "missing":
                self.reports[job.id] = (max(self.true_ns, ends_ns([job])), self.see(job, oddity))
        if unreachable:
            self.handle(Unreachable(tuple(unreachable)))

    def oddity(self, job: Job) -> str:
        """Follows from the job's id, so that the world is the same after a crash."""
        if not self.true_ns <= job.start_at_ns <= self.true_ns + AHEAD_NS:
            return "fault"  # by the probe's clock it has missed the start, or its guard does not plan so far ahead
        drawn = crc32(f"{self.world}/{job.id}".encode()) % 60
        oddity = ODDITIES[drawn] if drawn < len(ODDITIES) else "none"
        if self.owner is Owner.HALF and job.id.split("/")[2] != BASELINE and self.is_answered(job):
            return "none"
        unlucky = self.owner is Owner.NOTHING and oddity == "lost"
        return "none" if unlucky else oddity

    def see(self, job: Job, oddity: str) -> Report:
        if oddity == "fault":
            fault = LocalFault.MISSED_START if job.start_at_ns < self.true_ns else LocalFault.GUARD_REFUSED
            return replace(report(job, fault=fault), control_before=(), control_after=())
        phase = job.id.split("/")[2]
        if phase == BASELINE or self.row_expects(job) is Expectation.ANSWER:
            return report(job, oddity != "lost", late=oddity == "late")
        if self.owner is Owner.ALL or (self.owner is Owner.HALF and not self.is_answered(job)):
            return report(job, False, refused=self.refuses and oddity != "lost")
        return report(job, late=oddity == "late")

    def row_expects(self, job: Job) -> Expectation:
        attempt = self.verification.attempt
        assert attempt is not None
        assert attempt.challenge is not None
        rows = attempt.challenge.rows
        return next(row.expected[0] for row in rows if row.perspective.vantage == job.vantage)

    def is_answered(self, job: Job) -> bool:
        """A half-configured server: the first of those that it should not answer, it answers."""
        attempt = self.verification.attempt
        assert attempt is not None
        assert attempt.challenge is not None
        quiet = [row.perspective.vantage for row in attempt.challenge.rows if Expectation.SILENCE in row.expected]
        return job.vantage == quiet[0]

    @invariant()
    def a_concluded_attempt_never_changes(self) -> None:
        for attempt in self.verification.attempts:
            if attempt.concluded_at_ns:
                assert self.concluded.setdefault(attempt.number, attempt) == attempt
                self.endings.add(type(attempt.verdict).__name__)

    @invariant()
    def proof_only_for_an_owner_who_did_it(self) -> None:
        if isinstance(self.verification.verdict, ControlProven):
            assert self.owner is Owner.ALL
            assert self.verification.state is State.CONCLUDED

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        due_ns = next_wake_ns(self.verification, POLICY)
        waits = self.verification.state.is_open and self.verification.state is not State.REQUESTED
        assert (due_ns is not None) == waits
        longest_ns = POLICY.ready_window_ns + POLICY.measuring_window_ns
        assert due_ns is None or due_ns - self.now_ns <= longest_ns + 4 * 7200 * SECOND_NS

    @invariant()
    def every_observation_is_of_its_own_attempt_and_round(self) -> None:
        for attempt in self.verification.attempts:
            cells = [(seen.round, seen.row) for seen in attempt.observations]
            assert len(set(cells)) == len(cells)
            for seen in attempt.observations:
                fired = attempt.rounds[seen.round]
                assert seen.row in fired.leased
                assert seen.sent_at_ns in (0, fired.start_at_ns)


def test_any_interleaving_keeps_every_promise() -> None:
    """The same search every time; one that meets none of the ends would show nothing."""
    for explored in (Life.endings, Life.transitions, Life.saved, Life.forged):
        explored.clear()
    bounds = settings(max_examples=max(200, settings().max_examples), stateful_step_count=40)
    run_state_machine_as_test(Life, settings=bounds)
    print(f"{sum(Life.transitions.values())} transitions of {len(Life.transitions)} kinds, {len(Life.saved)} states")
    assert Life.endings == {"ControlProven", "ControlRefuted", "Inconclusive"}
    assert set(Life.forged) == set(FORGERIES)
    ways = {(before, after) for before, _, after in Life.transitions if before != after}
    assert ways >= {
        ("requested", "baseline"),
        ("baseline", "challenged"),
        ("baseline", "concluded"),
        ("challenged", "measuring"),
        ("challenged", "expired"),
        ("measuring", "concluded"),
        ("concluded", "baseline"),
    }
    withdrawn = {before for before, after in ways if after == "withdrawn"}
    assert withdrawn
    assert withdrawn <= {"baseline", "challenged", "measuring"}
