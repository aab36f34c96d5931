"""docs/silence.md and its figure are what was measured: tables, picture, and the claims about all cells."""

from __future__ import annotations

from tests.docs.pages import rows, section, text
from tests.lab import floods_page
from tests.lab.attacks import stories
from tests.lab.floods_figure import figure
from tests.lab.silence import load

CELLS = load(floods_page.MEASURED)
TABLE = floods_page.table(CELLS)
PAGE = text("docs/silence.md")


def test_the_tables_are_those_of_the_measurements() -> None:
    """After another measurement: `python -m tests.lab.floods_page`."""
    assert floods_page.filled(PAGE, TABLE) == PAGE


def test_the_figure_is_that_of_the_measurements() -> None:
    assert floods_page.FIGURE.read_text(encoding="utf-8") == figure(TABLE)


def test_the_monitor_was_answered_every_time_in_every_cell() -> None:
    assert [cell for cell in CELLS if cell.monitor != cell.asked] == []


def test_ipv6_is_no_different_at_ntpsec() -> None:
    v4 = {(c.kind, c.rhythm): (c.answered, c.udp_at_once) for c in CELLS if c.server == "ntpsec"}
    v6 = {(c.kind, c.rhythm): (c.answered, c.udp_at_once) for c in CELLS if c.server == "ntpsec-6"}
    assert v4 == v6


def test_every_answer_names_the_test_that_shows_it() -> None:
    answers = rows(section(PAGE, "## What answers it"))
    assert answers
    for *_, shown_by in answers:
        file, _, name = shown_by.strip("`").partition("::")
        assert f"def {name}(" in text(f"tests/lab/{file}"), shown_by


def test_the_page_tells_of_every_item_that_an_attack_shows() -> None:
    left = section(PAGE, "## What is left")
    assert {story.left for story in stories().values()} == {0, 1}
    assert "\n1. " in left
