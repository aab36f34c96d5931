"""`make sim`: 100,000 simulated attempts, and a table of what became of them."""

from __future__ import annotations

import json
import os
import sys
import time

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from poolproof.policy import POLICY_2026_11, Assurance
from tests.simulation.attempt import play
from tests.simulation.census import Tally, census
from tests.simulation.worlds import SCENARIOS


@click.command()
@click.option(
    "--attempts", default=100_000, show_default=True, type=click.IntRange(1), help="Attempts over all worlds."
)
@click.option("--seed", default="poolproof", show_default=True, help="Any text; the same seed gives the same table.")
@click.option("--processes", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@click.option("--replay", metavar="SEED/SCENARIO/NUMBER", help="Play one attempt again and print its verdict.")
def main(attempts: int, seed: str, processes: int, as_json: bool, replay: str | None) -> None:
    """Simulate attempts in every world; exit with 1 if a goal is missed or a proof is false."""
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else 120)
    if replay is not None:
        scenario = SCENARIOS[int(replay.split("/")[-2])]
        console.print(scenario.world, play(scenario.world, replay, POLICY_2026_11))
        return
    started = time.monotonic()
    tallies: list[Tally] = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("simulating", total=attempts)
        for done, tallies in census(attempts, seed, processes):  # noqa: B007
            progress.update(task, completed=done)
    misses = [
        f"{scenario.world.name}: {miss}"
        for scenario, tally in zip(SCENARIOS, tallies, strict=True)
        for miss in tally.misses(scenario)
    ]
    if as_json:
        json.dump([_as_json(s.world.name, t) for s, t in zip(SCENARIOS, tallies, strict=True)], sys.stdout, indent=1)
    else:
        console.print(_table(tallies))
    total = sum(tally.attempts for tally in tallies)
    false = sum(len(tally.false_proofs) for tally in tallies)
    console.print(f"{total:,} attempts in {time.monotonic() - started:.0f} s, seed {seed!r}: {false} false proofs")
    for miss in misses:
        console.print(f"[red]missed[/] {miss}")
        if "false proof" in miss:
            console.print(f"  again: python -m tests.simulation --replay {miss.rsplit(' ', 1)[1]}")
    sys.exit(1 if misses else 0)


def _table(tallies: list[Tally]) -> Table:
    table = Table(title="Simulated attempts per world")
    for heading in ("world", "attempts", "proven", "strong", "refuted", "in round 1", "inconclusive", "rounds"):
        table.add_column(heading, justify="left" if heading == "world" else "right", no_wrap=heading == "world")
    for scenario, tally in zip(SCENARIOS, tallies, strict=True):
        n = max(1, tally.attempts)
        table.add_row(
            scenario.world.name,
            f"{tally.attempts:,}",
            f"{tally.proven.total() / n:.3%}",
            f"{tally.proven[Assurance.STRONG] / n:.3%}",
            f"{tally.refuted / n:.3%}",
            f"{tally.refuted_in_round_one / n:.3%}",
            f"{tally.inconclusive.total() / n:.3%}",
            f"{tally.median_rounds:g}" if tally.rounds else "-",
            style="red" if tally.misses(scenario) else "",
        )
    return table


def _as_json(name: str, tally: Tally) -> dict[str, object]:
    return {
        "world": name,
        "attempts": tally.attempts,
        "proven": {assurance.name.lower(): number for assurance, number in tally.proven.items()},
        "refuted": tally.refuted,
        "refuted_in_round_one": tally.refuted_in_round_one,
        "inconclusive": dict(tally.inconclusive),
        "median_rounds": tally.median_rounds,
        "packets": tally.packets,
        "false_proofs": tally.false_proofs,
    }


if __name__ == "__main__":
    main()
