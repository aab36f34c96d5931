"""A search through the lives of a verification: any order of reports, duplicates, lost jobs, crashes at any moment.

The machine plays the shell and the world. Luck is not its subject (`evidence` bounds that, the simulation plays it): a
server that does not do what is asked answers at least one must-be-silent perspective whenever that one really asks.
"""

from __future__ import annotations

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

ODDITIES = ("none", "fault", "late", "lost", "missing", "unreachable")
"""What becomes of a job; the first one, mostly."""


class Life(RuleBasedStateMachine):
    """One verification, what is saved of it, and what its probes have seen."""

    endings: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = START_NS
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
        enacts=st.booleans(),
        refuses=st.booleans(),
        world=st.integers(0, 99),
    )
    def claim(self, variant: Variant, size: int, enacts: bool, refuses: bool, world: int) -> None:
        self.verification = requested(variant)
        self.size, self.enacts, self.refuses, self.world = size, enacts, refuses, world
        self.try_again(dispatched=True)

    @rule(dispatched=st.sampled_from([True, True, True, False]))
    def try_again(self, dispatched: bool) -> None:
        """Another attempt; refused ones spend no number, as the target's standing has it."""
        if self.handle(begin(self.number + 1, self.size), dispatched=dispatched):
            self.number += 1

    @rule(withdraws=st.sampled_from([False] * 30 + [True]))
    def owner_speaks(self, withdraws: bool) -> None:
        self.handle(Withdraw() if withdraws else OwnerReady())

    @rule(seconds=st.sampled_from([1, 5, 60, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.now_ns += seconds * SECOND_NS

    @rule(dispatched=st.sampled_from([True, True, True, False]))
    def woken_in_time(self, dispatched: bool) -> None:
        due_ns = next_wake_ns(self.verification, POLICY)
        if due_ns is not None and due_ns < self.now_ns + 3600 * SECOND_NS:
            self.now_ns = max(self.now_ns, due_ns)
            self.handle(Wake(), dispatched=dispatched)

    @rule()
    def woken_for_nothing(self) -> None:
        due_ns = next_wake_ns(self.verification, POLICY)
        if due_ns is None or self.now_ns < due_ns:
            before = self.verification
            self.handle(Wake())
            assert self.verification == before

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def a_report_comes(self, data: st.DataObject) -> None:
        """Any of those under way, not before it can be there; perhaps of an earlier attempt or after the verdict."""
        job = data.draw(st.sampled_from(sorted(self.reports)))
        self.deliver(job)

    @rule(data=st.data())
    def all_reports_come(self, data: st.DataObject) -> None:
        for job in data.draw(st.permutations(sorted(self.reports))):
            self.deliver(job)

    @rule(rounds=st.integers(1, 4), data=st.data())
    def all_goes_well_for_a_while(self, rounds: int, data: st.DataObject) -> None:
        """So that the search gets as far as verdicts, from where odd things go on happening."""
        for _ in range(rounds):
            self.all_reports_come(data)
            self.owner_speaks(withdraws=False)
            self.woken_in_time(dispatched=True)
        self.all_reports_come(data)

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def a_report_comes_again(self, data: st.DataObject) -> None:
        before = self.verification
        self.handle(Reported(data.draw(st.sampled_from(self.delivered))))
        assert (self.verification.state, self.verification.verdict) == (before.state, before.verdict)

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

    def deliver(self, job: JobId) -> None:
        at_ns, seen = self.reports.pop(job)
        self.now_ns = max(self.now_ns, at_ns)
        self.delivered.append(seen)
        self.handle(Reported(seen))

    def handle(self, event: Event, *, dispatched: bool = True) -> bool:
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
        self.verification = from_record(to_record(step.verification))
        assert self.verification == step.verification, "the record holds everything"
        assert {job.id for job in step.dispatch} <= {job.id for job in outstanding(self.verification, POLICY)}
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
                self.reports[job.id] = (ends_ns([job]), self.see(job, oddity))
        if unreachable:
            self.handle(Unreachable(tuple(unreachable)))

    def oddity(self, job: Job) -> str:
        """Follows from the job's id, so that the world is the same after a crash."""
        if job.start_at_ns < self.now_ns:
            return "fault"
        if not self.enacts and job.id.split("/")[2] != BASELINE and self.is_answered(job):
            return "none"
        drawn = crc32(f"{self.world}/{job.id}".encode()) % 60
        return ODDITIES[drawn] if drawn < len(ODDITIES) else "none"

    def see(self, job: Job, oddity: str) -> Report:
        if oddity == "fault":
            return report(job, fault=LocalFault.MISSED_START)
        phase = job.id.split("/")[2]
        if phase == BASELINE or self.row_expects(job) is Expectation.ANSWER:
            return report(job, oddity != "lost", late=oddity == "late")
        if self.enacts or not self.is_answered(job):
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
            assert self.enacts
            assert self.verification.state is State.CONCLUDED

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        due_ns = next_wake_ns(self.verification, POLICY)
        waits = self.verification.state.is_open and self.verification.state is not State.REQUESTED
        assert (due_ns is not None) == waits

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
    Life.endings.clear()
    bounds = settings(max_examples=150, stateful_step_count=40, derandomize=True, deadline=None)
    run_state_machine_as_test(Life, settings=bounds)
    assert Life.endings == {"ControlProven", "ControlRefuted", "Inconclusive"}
