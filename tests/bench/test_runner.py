"""The bench runner's table, goals and history; nothing here is measured."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

import bench.__main__ as runner
from bench import history
from bench.goals import ROWS


@pytest.fixture(autouse=True)
def _history_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history.append, "__defaults__", (tmp_path / "history.jsonl",))


def _measured(monkeypatch: pytest.MonkeyPatch, **figures: float) -> None:
    monkeypatch.setattr(runner, "BENCHES", {**runner.BENCHES, "decide": lambda: figures})


def test_a_missed_goal_is_said_and_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    _measured(monkeypatch, decide_10x12_us=250.0)
    result = CliRunner().invoke(runner.main, ["--only", "decide"])
    assert result.exit_code == 0
    assert "1 of 1 goals missed: decide, 10 perspectives x 12 rounds: 250, goal <= 100" in result.stdout
    assert [cell.strip() for cell in result.stdout.splitlines()[4].split("│")[1:-1]][1:] == [
        "250",
        "µs",
        "<= 100",
        "no",
    ]


def test_a_reached_goal_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    _measured(monkeypatch, decide_10x12_us=50.0)
    result = CliRunner().invoke(runner.main, ["--only", "decide"])
    assert "all 1 goals reached" in result.stdout


@pytest.mark.parametrize(("value", "reached"), [(0.69, False), (0.7, True), (1.2, True)])
def test_a_ratio_is_reached_from_its_goal_upwards(value: float, reached: bool) -> None:
    (row,) = (row for row in ROWS["dispatch"] if row.figure == "ratio_to_echo_1000")
    assert row.reached(value) is reached


def test_only_record_writes_history_and_it_reads_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _measured(monkeypatch, decide_10x12_us=51.23456)
    file = tmp_path / "history.jsonl"
    CliRunner().invoke(runner.main, ["--only", "decide"])
    assert not file.exists()
    CliRunner().invoke(runner.main, ["--only", "decide", "--record"])
    result = CliRunner().invoke(runner.main, ["--only", "decide", "--record", "--json"])
    first, second = history.runs(file)
    assert first.figures == second.figures == {"decide_10x12_us": 51.23}
    assert json.loads(result.stdout)["commit"] == second.commit


def test_a_broken_line_of_history_is_named(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    history.append(history.Run("2026-11-23T00:00:00+00:00", "abc", 2, {}), file)
    file.write_text(file.read_text() + '{"date": "2026"}\n')
    with pytest.raises(ValueError, match=r"history\.jsonl, line 2: .*; remove the line"):
        history.runs(file)


def test_the_kept_history_can_be_read() -> None:
    runs = history.runs()
    assert runs
    assert [run.date for run in runs] == sorted(run.date for run in runs)


def test_the_table_fits_its_width_when_piped() -> None:
    figures = {row.figure: 123_456.0 for rows in ROWS.values() for row in rows}
    out = io.StringIO()
    Console(width=runner.PIPED_WIDTH, file=out).print(runner.table(tuple(ROWS), figures))
    shown = out.getvalue()
    assert "…" not in shown
    assert all(row.what in shown for rows in ROWS.values() for row in rows)
