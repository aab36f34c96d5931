"""docs/command.md lists every key that `--json` prints, and no other."""

from __future__ import annotations

import json
from itertools import chain

from coordinator.cli.exit_codes import ExitCode
from coordinator.cli.snapshot_json import snapshot_json
from tests.cli.json_page import documented, keys, undocumented
from tests.cli.snapshots import GOLDEN, VERIFICATIONS, snapshot
from tests.docs.pages import text


def test_keys_of_a_verification() -> None:
    shown = [snapshot_json(snapshot(name)) for name in VERIFICATIONS]
    assert set().union(*(undocumented(each, "A verification") for each in shown)) == set()
    assert documented("A verification") <= set(chain.from_iterable(map(keys, shown)))


def test_keys_of_the_fleet() -> None:
    vantages = json.loads((GOLDEN / "json/fleet.json").read_text(encoding="utf-8"))["vantages"]
    assert set().union(*(undocumented(each, "The fleet") for each in vantages)) == set()
    assert documented("The fleet") <= set(chain.from_iterable(map(keys, vantages)))


def test_keys_of_calibrations() -> None:
    page = json.loads((GOLDEN / "json/calibration.json").read_text(encoding="utf-8"))
    assert undocumented(page, "Calibrations") == set()
    assert documented("Calibrations") <= set(keys(page))


def test_a_key_that_the_page_does_not_have_is_found() -> None:
    assert undocumented({"id": "x", "colour": 1, "rows": [{"shade": []}]}, "A verification") == {
        "colour",
        "rows[].shade[]",
    }


def test_words_of_errors() -> None:
    said = text("docs/command.md").partition("`code` is ")[2].partition(".\n")[0]
    assert set(said.split("`")[1::2]) == {code.word for code in ExitCode} - {ExitCode.OK.word}
