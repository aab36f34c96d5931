"""The tables of docs/evidence.md, computed again: a page with numbers is wrong as soon as a policy changes."""

from __future__ import annotations

import itertools
import re

import pytest

from poolproof.evidence import domain_evidence, loss_bound, round_evidence
from poolproof.policy import POLICY_2026_11, Assurance
from poolproof.verdict import Ceiling
from tests.docs.pages import ROOT, rows, section, text, word
from tests.simulation.worlds import SCENARIOS

POLICY = POLICY_2026_11
PAGE = text("docs/evidence.md")


def test_what_a_silent_path_is_worth() -> None:
    table = rows(section(PAGE, "### Path by path"))
    assert table
    for answered, *numbers in table:
        loss = loss_bound(POLICY.baseline_exchanges, int(answered), POLICY.loss_confidence, POLICY.loss_floor)
        worth = [domain_evidence(POLICY.dark_path, POLICY.enacted_error, ((loss, n),)) for n in (1, 2, 3, 4)]
        assert numbers == [f"{loss:.3f}", *(f"{nats:.2f}" for nats in worth)]


def test_what_a_round_is_worth() -> None:
    table = rows(section(PAGE, "### All at once"))
    assert table
    for monitors, witnesses, silent, nats in table:
        served, asked = map(int, monitors.split(" of "))
        witnessed, open_ = (0, 0) if witnesses == "none asked" else map(int, witnesses.split(" of "))
        assert nats == f"{round_evidence(asked, served, open_, witnessed, int(silent), POLICY.expected_loss):.2f}"


def test_what_each_attempt_needs() -> None:
    table = rows(section(PAGE, "## How much is enough"))
    assert [name for name, *_ in table] == [assurance.name.lower() for assurance in sorted(Assurance, reverse=True)]
    for name, alpha, *needed in table:
        assurance = Assurance[name.upper()]
        assert float(alpha) == POLICY.alpha(assurance)
        assert needed == [f"{POLICY.threshold(assurance, k):.2f}" for k in (1, 2, 3, 10)]


@pytest.mark.parametrize(("domains", "attempts"), [(5, 77), (4, 7), (3, 0)])
def test_how_many_attempts_can_be_strong(domains: int, attempts: int) -> None:
    reach = domains * POLICY.most_per_domain
    within = itertools.takewhile(lambda k: POLICY.threshold(Assurance.STRONG, k) <= reach, itertools.count(1))
    assert sum(1 for _ in within) == attempts
    assert attempts == 0 or f"attempt {attempts}" in section(PAGE, "## How much is enough")


@pytest.mark.parametrize(
    "page", ["docs/evidence.md", "docs/threat-model.md", "docs/architecture.md", "docs/calibration.md"]
)
def test_tests_that_are_named_exist(page: str) -> None:
    """As `tests/x/test_y.py`, or `test_y.py::test_z` for one in it."""
    named = re.findall(r"`((?:[\w/]+/)?\w+\.py)(?:::(\w+))?`", text(page))
    written: dict[str, str] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for name in (path.name, str(path.relative_to(ROOT))):
            written[name] = written.get(name, "") + path.read_text(encoding="utf-8")
    tests = [(name, function) for name, function in named if "test" in name]
    assert tests
    for name, function in tests:
        assert name in written, f"{page}: no such file: {name}"
        assert not function or f"def {function}(" in written[name], f"{page}: {function}"


def test_ceilings_are_words_of_the_code() -> None:
    table = rows(section(PAGE, "## What an attacker allows"))
    assert {word(cells[-1]) for cells in table} <= {ceiling.value for ceiling in Ceiling}
    assert {cells[2] for cells in table} <= {assurance.name.lower() for assurance in Assurance}


def test_the_simulations_table_has_the_worlds_of_the_simulation() -> None:
    table = rows(section(PAGE, "## What a simulation shows"))
    assert [cells[0] for cells in table] == [scenario.world.name for scenario in SCENARIOS]
    assert all(
        float(cells[2].rstrip("%")) >= 100 * (s.goal.proven or 0) for cells, s in zip(table, SCENARIOS, strict=True)
    )
