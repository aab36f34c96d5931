"""The tables of docs/evidence.md, computed again: a page with numbers is wrong as soon as a policy changes."""

from __future__ import annotations

import json
import re

import pytest

from poolproof.evidence import domain_evidence, event_evidence, jointly, loss_bound, round_evidence
from poolproof.policy import POLICY_2026_11, Assurance
from poolproof.verdict import Ceiling
from tests.docs.pages import PAGES, ROOT, rows, section, text, word
from tests.simulation.literature import MECHANISMS
from tests.simulation.wald import fewest_packets
from tests.simulation.worlds import SCENARIOS, Goal

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


def test_what_one_event_leaves() -> None:
    table = rows(section(PAGE, "### One event"))
    assert table
    for domains, *numbers in table:
        silent, answered = map(int, domains.split(" and "))

        def worth(unanswered: int, counting: int, silent: int = silent, answered: int = answered) -> float:
            worths = (POLICY.most_per_domain,) * counting
            return event_evidence(POLICY.common_cut, silent + answered, silent, unanswered, worths)

        most = jointly(silent * POLICY.most_per_domain, worth(0, silent))
        within = [k for k in range(1, 100) if POLICY.threshold(Assurance.STRONG, k) <= most]
        nats = [worth(0, silent), worth(1, silent), worth(0, silent - 1), most]
        assert numbers == [*(f"{n:.2f}" for n in nats), str(len(within))]


def test_the_soaks_tables_have_its_mechanisms_and_keep_to_their_limits() -> None:
    both = rows(section(PAGE, "## How often a strong proof is false"))
    found, power = ([cells for cells in both if len(cells) == width] for width in (6, 5))
    assert [cells[0] for cells in found] == [m.name for m in MECHANISMS if m.world is not None]
    assert [cells[0] for cells in power] == [m.name for m in MECHANISMS if m.honest is not None]
    for _, *numbers, held_to in found:
        assert float(held_to) == Goal().false_strong
        assert max(map(float, numbers)) <= Goal().false_strong


def test_what_a_proof_costs_is_what_the_figures_show() -> None:
    kept = json.loads(text("docs/figures/numbers.json"))["power"]
    table = rows(section(PAGE, "## What a proof costs"))
    assert table
    by_place = {(row["line"], f"{100 * row['loss']:g} %"): row for row in kept}
    for name, loss, packets, bound, ratio, all_packets in table:
        row = by_place[name, loss]
        shown = 0.6 * (1 - row["loss"]) if name == "rejecting" else 1.0
        assert bound == f"{fewest_packets(row['loss'], shown):.1f}"
        assert packets == f"{row['packets']:.1f}"
        assert ratio == f"{row['packets'] / row['bound']:.2f}"
        assert all_packets == f"{row['with_baseline']:.0f}"


def test_every_figure_is_drawn_and_shown() -> None:
    shown = {name for page in PAGES for name in re.findall(r"\(figures/([\w.]+)\)", page.read_text(encoding="utf-8"))}
    assert shown
    assert shown == {path.name for path in (ROOT / "docs" / "figures").glob("*.svg")}


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
