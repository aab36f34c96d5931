"""`make bench`: how fast poolproof is, as ratios within one run, beside what is to be reached."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench import decide, dispatch, engine, history, skew, store
from bench.goals import ROWS, Row

BENCHES: Mapping[str, Callable[[], dict[str, float]]] = {
    "decide": decide.measure,
    "dispatch": dispatch.measure,
    "skew": skew.measure,
    "engine": engine.measure,
    "store": store.measure,
}
PIPED_WIDTH = 110


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(BENCHES)), help="Run this one alone; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
@click.option("--record", is_flag=True, help="Add the run to bench/history.jsonl.")
def main(only: tuple[str, ...], as_json: bool, record: bool) -> None:
    """Measure, and say which goals are reached. A missed goal is no failure: the exit code is 0."""
    chosen = only or tuple(BENCHES)
    progress = Console(stderr=True)
    # Before anything is measured: this is what was measured, whatever is committed meanwhile.
    commit, date = _commit(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    figures: dict[str, float] = {}
    for name in chosen:
        began_s = time.monotonic()
        figures |= BENCHES[name]()
        progress.print(f"{name}: {time.monotonic() - began_s:.0f} s")
    run = history.Run(date, commit, os.cpu_count() or 1, figures)
    if as_json:
        print(json.dumps({"date": run.date, "commit": run.commit, "cores": run.cores, "figures": figures}, indent=1))
    else:
        console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
        console.print(table(chosen, figures))
        console.print(summary(chosen, figures))
    if record:
        history.append(run)
        progress.print(f"recorded in bench/{history.FILE.name}")


def table(chosen: Sequence[str], figures: Mapping[str, float]) -> Table:
    """The figures with their goals."""
    made = Table(title="poolproof bench")
    for heading, justify in (("what", "left"), ("value", "right"), ("unit", "left"), ("goal", "right")):
        made.add_column(heading, justify="right" if justify == "right" else "left")
    made.add_column("reached")
    for name in chosen:
        for row in ROWS[name]:
            value = figures[row.figure]
            said = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.reached(value)]
            made.add_row(row.what, number(value), row.unit, _goal(row), said)
        made.add_section()
    return made


def summary(chosen: Sequence[str], figures: Mapping[str, float]) -> str:
    """One line: all goals reached, or which are not."""
    rows = [row for name in chosen for row in ROWS[name] if row.goal is not None]
    missed = [row for row in rows if row.reached(figures[row.figure]) is False]
    if not missed:
        return f"all {len(rows)} goals reached"
    words = "; ".join(f"{row.what}: {number(figures[row.figure])}, goal {_goal(row)}" for row in missed)
    return f"{len(missed)} of {len(rows)} goals missed: {words}"


def number(value: float) -> str:
    """Three digits that say something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _goal(row: Row) -> str:
    return "" if row.goal is None else f"{'<=' if row.at_most else '>='} {row.goal:g}"


def _commit() -> str:
    """The short id, with `+` when the work tree differs from it; `unknown` outside a repository."""
    here = Path(__file__).parent
    try:
        short = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return short.stdout.strip() + ("+" if changed.stdout.strip() else "")


if __name__ == "__main__":
    main()
