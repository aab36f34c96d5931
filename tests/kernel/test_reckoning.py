"""One calibration reckoned: exchanges by stratum, one trial for each, and none where the target had trouble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from zlib import crc32

import pytest

from poolproof.calibration import Finding, Heard, Stratum, Stray
from poolproof.capture import Capture, UnaskedKind, UnaskedPacket
from poolproof.challenge import Challenge, Expectation
from poolproof.enactment import Enactment, Mode, draw_enactment, serves
from poolproof.exchange import Reply
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import Job, Report
from poolproof.lifecycle import handle
from poolproof.policy import SECOND_NS
from poolproof.reckoning import Reckoned, reckon
from poolproof.verification import Reported, Step, Verification
from tests.kernel.calibrations import answer_to
from tests.kernel.fleets import (
    POLICY,
    START_NS,
    TARGET,
    TARGET6,
    attempt_of,
    begin,
    ends_ns,
    first_round,
    report,
    requested,
)

KEY = bytes(range(32))


def owner(mode: Mode) -> Enactment:
    """One that reaches every vantage of the fleet."""
    for n in range(100_000):
        drawn = draw_enactment(KEY, VerificationId(f"c{n}"), 1, POLICY)
        everybody = all(
            serves(replace(drawn, mode=Mode.NOTHING), None, VantageId(f"v{i:02}"), "", enacted=True) for i in range(16)
        )
        if drawn.mode is mode and everybody:
            return drawn
    raise AssertionError(f"no owner of mode {mode} reaches everybody")


class Theatre:
    """A calibration played up to its first round, by honest probes but for those that a test sees to."""

    def __init__(self, mode: Mode, *, prefix: bool = False) -> None:
        self.enactment = owner(mode)
        self.truth: dict[bytes, tuple[Heard, ...]] = {}
        self.reports: dict[JobId, Report] = {}
        target = TARGET6 if prefix else TARGET
        step = handle(requested(target=target), begin(prefix=prefix), START_NS, POLICY)
        step = self.report(step)
        self.now = step.verification
        if attempt_of(self.now).challenge is not None:
            step = first_round(self.now)
            self.now = self.report(step).verification

    def report(self, step: Step) -> Step:
        at_ns, challenge = ends_ns(step.dispatch), attempt_of(step.verification).challenge
        for job in step.dispatch:
            told = self.see(job, challenge)
            self.reports[job.id] = told
            step = handle(step.verification, Reported(told), at_ns, POLICY)
        return step

    def see(self, job: Job, challenge: Challenge | None) -> Report:
        seen = []
        for i, exchange in enumerate(report(job, False).exchanges):
            bits = crc32(f"{job.id} {i}".encode()) + 1
            asked = replace(exchange, request=exchange.request[:40] + bits.to_bytes(8, "big"))
            enacted = challenge is not None
            answered = serves(self.enactment, challenge, job.vantage, asked.source, enacted=enacted)
            answer = answer_to(asked, noise=bits) if answered else b""
            at_ns = asked.sent_at_ns + 10_000_000
            self.truth[asked.request[40:48]] = (Heard(asked.source, at_ns, answer, at_ns if answer else 0),)
            replies = (Reply(answer, asked.sent_at_ns + 20_000_000),) if answered else ()
            seen.append(replace(asked, replies=replies))
        return replace(report(job), exchanges=tuple(seen))

    def silence(self, vantage: VantageId, *, baseline: bool = True) -> None:
        """From now on the reports of a vantage have no answer."""
        for name, told in self.reports.items():
            if told.vantage == vantage and (baseline or "/baseline/" not in name):
                quiet = tuple(replace(exchange, replies=()) for exchange in told.exchanges)
                self.reports[name] = replace(told, exchanges=quiet)

    def told(self, wanted: Expectation) -> list[VantageId]:
        challenge = attempt_of(self.now).challenge
        assert challenge is not None
        return [row.perspective.vantage for row in challenge.rows if wanted in row.expected]

    def reckoned(self, strays: Mapping[VantageId, tuple[Stray, ...]] | None = None) -> Mapping[VantageId, Reckoned]:
        return reckon(self.now, self.reports, self.truth, self.enactment, strays=strays or {})


@pytest.mark.parametrize("mode", Mode)
def test_honest_probes_fail_in_nothing(mode: Mode) -> None:
    for vantage, each in Theatre(mode).reckoned().items():
        assert {seen.finding for seen in each.all_seen} <= {Finding.TRUE}, vantage
        assert not any(trial.failed for trial in each.trials.values())


def test_a_trial_each_where_an_answer_was_due_and_no_more() -> None:
    whole = Theatre(Mode.WHOLE)
    for vantage, each in whole.reckoned().items():
        quiet = vantage in whole.told(Expectation.SILENCE)
        served = vantage in whole.told(Expectation.ANSWER)
        wanted = {Stratum.BASELINE} | ({Stratum.SERVED} if served else set())
        assert set(each.trials) == wanted, (vantage, quiet)
    nothing = Theatre(Mode.NOTHING)
    reckoned = nothing.reckoned()
    for vantage in nothing.told(Expectation.SILENCE):
        assert set(reckoned[vantage].trials) == {Stratum.BASELINE, Stratum.UNSERVED}


@pytest.mark.parametrize("mode", [Mode.NOTHING, Mode.WHOLE])
def test_of_a_prefix_each_half_is_tried_as_what_it_is(mode: Mode) -> None:
    played = Theatre(mode, prefix=True)
    reckoned = played.reckoned()
    for vantage in played.told(Expectation.SILENCE):
        wanted = {Stratum.BASELINE, Stratum.SERVED} | ({Stratum.UNSERVED} if mode is Mode.NOTHING else set())
        assert set(reckoned[vantage].trials) == wanted, "the half that the owner was not told is answered in any case"
        assert {each.finding for each in reckoned[vantage].all_seen} == {Finding.TRUE}


def test_a_silence_that_was_invented_where_it_pays_fails_there_alone() -> None:
    played = Theatre(Mode.NOTHING)
    liar, *others = played.told(Expectation.SILENCE)
    played.silence(liar, baseline=False)
    reckoned = played.reckoned()
    assert {stratum: trial.failed for stratum, trial in reckoned[liar].trials.items()} == {
        Stratum.BASELINE: False,
        Stratum.UNSERVED: True,
    }
    assert not any(trial.failed for name in others for trial in reckoned[name].trials.values())


def test_where_half_of_the_others_got_no_answer_nobody_is_tried() -> None:
    played = Theatre(Mode.NOTHING)
    names = [candidate.vantage.id for candidate in attempt_of(played.now).candidates]
    for name in names[3:]:
        played.silence(name)
    assert not any(each.trials for each in played.reckoned().values())


def test_a_target_that_is_down_tries_nobody_in_its_rounds() -> None:
    for each in Theatre(Mode.DOWN).reckoned().values():
        assert set(each.trials) <= {Stratum.BASELINE}


def test_a_report_that_is_missing_is_no_trial() -> None:
    played = Theatre(Mode.NOTHING)
    liar = played.told(Expectation.SILENCE)[0]
    played.reports = {name: told for name, told in played.reports.items() if told.vantage != liar}
    assert played.reckoned()[liar].trials == {}


@pytest.mark.parametrize("caught", [True, False])
def test_a_stray_must_be_in_the_capture(caught: bool) -> None:
    played = Theatre(Mode.NOTHING)
    name = played.told(Expectation.ANSWER)[0]
    (last,) = (told for told in played.reports.values() if told.vantage == name and "/0/" in told.job)
    source, at_ns = last.exchanges[0].source, last.exchanges[0].sent_at_ns - 2 * SECOND_NS
    packet = UnaskedPacket(UnaskedKind.UDP, at_ns, last.exchanges[0].destination, source, b"stray")
    packets = (packet,) if caught else ()
    for job, told in played.reports.items():
        if told.vantage == name and "/baseline/" not in job:
            until_ns = told.exchanges[-1].sent_at_ns + 5 * SECOND_NS
            played.reports[job] = replace(told, capture=Capture(START_NS, until_ns, packets, len(packets)))
    reckoned = played.reckoned({name: (Stray(source, at_ns, b"stray"),)})
    assert reckoned[name].trials[Stratum.WATCH].failed is not caught
    assert all(Stratum.WATCH not in each.trials for other, each in reckoned.items() if other != name)


def test_what_was_never_begun_says_nothing() -> None:
    fresh: Verification = requested()
    assert reckon(fresh, {}, {}, owner(Mode.WHOLE)) == {}
