"""The tables and numbers of docs/calibration.md, computed again."""

from __future__ import annotations

import re

import pytest

from coordinator.calibration.addresses import read_place
from coordinator.cli.calibration_table import WORDS, percent
from poolproof.calibration import Finding, Stratum, needed
from poolproof.catching import JOBS, RATES, Lie, boundary, table
from poolproof.conduct import QuarantineReason
from poolproof.enactment import DENIES, MODES, STRAYS, TRIES_AGAIN, UNREACHED
from poolproof.policy import POLICY_2026_11 as POLICY
from tests.docs.pages import rows, section, text, word

PAGE = text("docs/calibration.md")


def flat(heading: str) -> str:
    return " ".join(section(PAGE, heading).split())


def test_how_soon_liars_are_caught() -> None:
    chances = {(each.lie, each.rate, each.jobs): each.chance for each in table(POLICY)}
    assert rows(section(PAGE, "## How soon a liar is caught")) == [
        [WORDS[lie], f"{rate:g}", *(percent(chances[lie, rate, jobs]) for jobs in JOBS)]
        for lie in Lie
        for rate in RATES
    ]


def test_owners_and_their_shares() -> None:
    listed = {word(cells[0]): cells[1] for cells in rows(section(PAGE, "## A probe cannot tell it from other work"))}
    assert listed == {mode.value: f"{float(share):.0%}".replace("%", " %") for mode, share in MODES.items()}
    said = flat("## A probe cannot tell it from other work")
    assert f"One vantage in {1 / UNREACHED} is never answered" in said
    assert f"One server in {1 / DENIES} refuses" in said
    assert f"One owner in {1 / TRIES_AGAIN} who got no proof tries again" in said
    assert f"One vantage in {1 / STRAYS} is sent a packet" in said


def test_the_policys_numbers() -> None:
    said = flat("## A probe cannot tell it from other work")
    assert f"at a rate of {POLICY.calibration_rate:g} for each attempt" in said
    assert f"about every {POLICY.calibration_idle_ns // 60_000_000_000} minutes" in said
    assert f"half a minute to {POLICY.calibration_ready_ns // 60_000_000_000} minutes" in said
    test = flat("### The test")
    assert f"l = {POLICY.calibration_loss:g}" in test
    assert f"ln({len(Stratum)}/{POLICY.alpha_quarantine:g}) = {needed(POLICY):.2f} nats" in test


def test_how_many_failures_quarantine() -> None:
    fewest = boundary(200, POLICY.calibration_loss, needed(POLICY))
    assert fewest[4] == 4
    pairs = re.findall(r"(\d+) of (\d+)", flat("### The test"))
    assert [(int(k), int(n)) for k, n in pairs] == [(fewest[n], n) for n in (10, 200)]


def test_findings_and_what_follows() -> None:
    table_rows = rows(section(PAGE, "## What a report is held against"))[: len(Finding)]
    listed = {word(cells[0]): cells[2] for cells in table_rows}
    assert set(listed) == {finding.value for finding in Finding}
    assert {name for name, follows in listed.items() if follows == "quarantine at once"} == {
        finding.value for finding in Finding if finding.is_impossible
    }
    assert {reason.value for reason in QuarantineReason} - {finding.value for finding in Finding} == {"missing-answers"}


def test_strata() -> None:
    assert [word(cells[0]) for cells in rows(section(PAGE, "### The test"))] == [stratum.value for stratum in Stratum]


@pytest.mark.parametrize("place", re.findall(r'"([^"]+)"', re.findall(r"calibration_listen = \[(.+)\]", PAGE)[0]))
def test_the_example_can_be_read(place: str) -> None:
    assert read_place(place).port == 123
