"""Calibrations as tables and as JSON: what they say of each vantage, and how soon they catch a liar. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from coordinator.cli.snapshot_json import time_json
from poolproof.calibration import Stratum
from poolproof.catching import Chance, Lie
from poolproof.conduct import Conduct, Quarantine

WORDS: Final = {
    Lie.HIDES_ANSWERS: "hides answers everywhere",
    Lie.HIDES_WHERE_IT_PAYS: "hides answers where none shall come",
    Lie.INVENTS_ANSWERS: "invents answers",
}


@dataclass(frozen=True, slots=True)
class ConductLine:
    """One vantage's conduct, and its tests in nats."""

    conduct: Conduct
    evidence: Mapping[Stratum, float]


@dataclass(frozen=True, slots=True)
class CalibrationPage:
    """All that operators are told of calibrations; names as in verification.proto."""

    policy: str
    listen: tuple[str, ...]
    rate: float
    loss: float
    alpha: float
    needed: float
    under_way: int
    recent: tuple[str, ...]
    lines: tuple[ConductLine, ...]
    chances: tuple[Chance, ...]


def summary(page: CalibrationPage) -> str:
    """Whether there are calibrations, how many, and what a vantage may lose."""
    if not page.listen:
        return (
            "There are no calibrations: the coordinator's setting calibration_listen is empty. A probe that lies is not"
            " found."
        )
    return (
        f"Calibrations at {', '.join(page.listen)}: {page.rate:g} for each attempt of an applicant,"
        f" {page.under_way} under way (policy {page.policy}).\nA vantage is quarantined at {page.needed:.2f} nats:"
        f" an honest one whose path loses {page.loss:.0%} ever gets there with chance {page.alpha:g}."
    )


def conduct_table(lines: Iterable[ConductLine]) -> Table:
    """Per vantage: calibrations, and for each stratum the failed of all trials and the test."""
    table = _table("vantage", "calibrations", *(stratum.value for stratum in Stratum), "state")
    for line in lines:
        conduct = line.conduct
        held = conduct.quarantine
        table.add_row(
            Text(conduct.vantage),
            Text(str(conduct.calibrations)),
            *(_test(line, stratum) for stratum in Stratum),
            Text("works") if held is None else Text(f"quarantined: {held.reason.value}", style="red"),
        )
    return table


def _test(line: ConductLine, stratum: Stratum) -> Text:
    counts = line.conduct.counts[stratum]
    if not counts.trials:
        return Text("-")
    return Text(f"{counts.failures} of {counts.trials} ({line.evidence.get(stratum, 0.0):+.1f})")


def chance_table(chances: Iterable[Chance]) -> Table:
    """How often a liar is quarantined within so many jobs."""
    known = tuple(chances)
    jobs = sorted({each.jobs for each in known})
    table = _table("a probe that", "at rate", *(f"{count:,} jobs" for count in jobs))
    cells = {(each.lie, each.rate, each.jobs): each.chance for each in known}
    for lie in Lie:
        for rate in sorted({each.rate for each in known if each.lie is lie}, reverse=True):
            shown = (percent(cells[lie, rate, count]) for count in jobs)
            table.add_row(Text(WORDS[lie]), Text(f"{rate:g}"), *map(Text, shown))
    return table


def percent(chance: float) -> str:
    """A chance for people, never rounded up to certainty."""
    return f"{min(chance, 0.9999):.2%}" if chance < 1 - 5e-6 else ">99.99%"


def quarantine_lines(quarantines: Iterable[tuple[str, Quarantine]]) -> Iterable[str]:
    """Why each quarantined vantage gets no work, and what to do, a line each."""
    for vantage, held in quarantines:
        yield (
            f"{vantage}: quarantined since {time_json(held.since_ns)} ({held.reason.value}, calibration"
            f" {held.calibration}): {held.evidence}. Once it is mended: poolproof release {vantage} --reason WHY"
        )


def calibration_json(page: CalibrationPage) -> dict[str, Any]:
    """The whole page with the keys of docs/command.md."""
    return {
        "policy": page.policy,
        "listen": list(page.listen),
        "rate": page.rate,
        "loss": page.loss,
        "alpha": page.alpha,
        "needed_nats": page.needed,
        "under_way": page.under_way,
        "recent": list(page.recent),
        "vantages": [conduct_json(line) for line in page.lines],
        "chances": [
            {"lie": each.lie.value, "rate": each.rate, "jobs": each.jobs, "chance": each.chance}
            for each in page.chances
        ],
    }


def conduct_json(line: ConductLine) -> dict[str, Any]:
    """One vantage's conduct."""
    conduct = line.conduct
    return {
        "id": conduct.vantage,
        "calibrations": conduct.calibrations,
        "tests": [
            {
                "stratum": stratum.value,
                "trials": conduct.counts[stratum].trials,
                "failures": conduct.counts[stratum].failures,
                "evidence_nats": line.evidence.get(stratum, 0.0),
            }
            for stratum in Stratum
        ],
        "quarantine": quarantine_json(conduct.quarantine),
        "releases": [
            {
                "released_at": time_json(each.released_at_ns),
                "reason": each.reason,
                "quarantine": quarantine_json(each.quarantine),
            }
            for each in conduct.releases
        ],
    }


def quarantine_json(held: Quarantine | None) -> dict[str, Any] | None:
    """A quarantine; None: there is none."""
    if held is None:
        return None
    return {
        "reason": held.reason.value,
        "since": time_json(held.since_ns),
        "calibration": held.calibration,
        "evidence": held.evidence,
    }


def _table(*names: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, name in enumerate(names):
        table.add_column(name, no_wrap=True, justify="left" if index == 0 or name == "state" else "right")
    return table
