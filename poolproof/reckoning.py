"""What one calibration says of each vantage: its reports held against the truth, and one trial for each stratum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from poolproof.calibration import (
    Examined,
    Stratum,
    Stray,
    Truth,
    examine_report,
    examine_watch,
    opens_trial,
    target_was_well,
    trial,
)
from poolproof.challenge import Challenge, Expectation
from poolproof.enactment import Enactment, serves
from poolproof.ids import JobId, VantageId
from poolproof.job import Report
from poolproof.plan import baseline_job_id, round_exchanges, round_job_id
from poolproof.verification import Verification


@dataclass(frozen=True, slots=True)
class Reckoned:
    """One vantage in one calibration.

    Attributes:
        seen: all of its exchanges that were reported, by stratum.
        trials: those that count.
    """

    seen: Mapping[Stratum, tuple[Examined, ...]]
    trials: Mapping[Stratum, Examined] = field(default_factory=dict)

    @property
    def all_seen(self) -> tuple[Examined, ...]:
        """Of every stratum."""
        return tuple(each for seen in self.seen.values() for each in seen)


def reckon(
    calibration: Verification,
    reports: Mapping[JobId, Report],
    truth: Truth,
    enactment: Enactment,
    *,
    strays: Mapping[VantageId, Sequence[Stray]] = MappingProxyType({}),
) -> Mapping[VantageId, Reckoned]:
    """All vantages of a calibration's attempt.

    Args:
        calibration: as it stands; once it is closed the trials are final.
        reports: those that came, by job.
        truth: what the target received and answered.
        enactment: what it would have answered.
        strays: what it sent to whom unasked.
    """
    seen = _examined(calibration, reports, truth, enactment)
    for vantage, mine in seen.items():
        theirs = (report for report in reports.values() if report.vantage == vantage)
        mine[Stratum.WATCH] = tuple(examine_watch(each, strays.get(vantage, ())) for each in theirs)
    return {vantage: Reckoned(mine, _trials(vantage, seen, enactment.key)) for vantage, mine in seen.items()}


_Seen = dict[VantageId, dict[Stratum, tuple[Examined, ...]]]
_TOGETHER = {
    Stratum.BASELINE: (Stratum.BASELINE,),
    Stratum.SERVED: (Stratum.SERVED, Stratum.UNSERVED),
    Stratum.UNSERVED: (Stratum.SERVED, Stratum.UNSERVED),
    Stratum.WATCH: (Stratum.BASELINE, Stratum.SERVED, Stratum.UNSERVED),
}
"""Where others show that the target was well when a trial of a stratum was made."""


def _examined(calibration: Verification, reports: Mapping[JobId, Report], truth: Truth, enactment: Enactment) -> _Seen:
    attempt = calibration.attempt
    if attempt is None:
        return {}
    found: _Seen = {}

    def take(job: JobId, vantage: VantageId, strata: Sequence[Stratum], challenge: Challenge | None) -> None:
        mine = found.setdefault(vantage, {})
        if (report := reports.get(job)) is None:
            return
        enacted = challenge is not None
        meant = [
            serves(enactment, challenge, vantage, exchange.source, enacted=enacted) for exchange in report.exchanges
        ]
        for stratum, each in zip(strata, _of(report, truth, meant), strict=True):
            mine[stratum] = (*mine.get(stratum, ()), each)

    for candidate in attempt.candidates:
        name = candidate.vantage.id
        job = baseline_job_id(calibration.id, attempt.number, name)
        asked = len(reports[job].exchanges) if job in reports else 0
        take(job, name, [Stratum.BASELINE] * asked, None)
    if attempt.challenge is None:
        return found
    for fired in attempt.rounds:
        for index in fired.leased:
            row = attempt.challenge.rows[index]
            name = row.perspective.vantage
            job = round_job_id(calibration.id, attempt.number, fired.number, name)
            quiet = row.expected[fired.window] is Expectation.SILENCE
            strata = [
                Stratum.UNSERVED if quiet and source == row.perspective.source else Stratum.SERVED
                for source in round_exchanges(row, fired.number, attempt.seed)
            ]
            take(job, name, strata, attempt.challenge)
    return found


def _of(report: Report, truth: Truth, meant: Sequence[bool]) -> Iterator[Examined]:
    findings = examine_report(report, truth, meant)
    for number, (exchange, finding, would) in enumerate(zip(report.exchanges, findings, meant, strict=True)):
        opens = opens_trial(exchange, finding, truth, meant=would)
        yield Examined(f"{report.job} #{number}", finding, opens)


def _trials(vantage: VantageId, seen: _Seen, key: bytes) -> Mapping[Stratum, Examined]:
    """One for each stratum, if others show that the target was well."""
    drawn: dict[Stratum, Examined] = {}
    for stratum, mine in seen[vantage].items():
        others = (
            each
            for name, theirs in seen.items()
            if name != vantage
            for part in _TOGETHER[stratum]
            for each in theirs.get(part, ())
        )
        if target_was_well(others) and (one := trial(mine, key)) is not None:
            drawn[stratum] = one
    return drawn
