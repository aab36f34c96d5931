"""`make soak`: how likely an application for a server that nobody configured ends in a false strong proof.

An application is all attempts on a target, up to a hundred. Its chance is at most the sum over the attempts, so each
run plays one attempt, drawn by number, under the change of measure of `chance.Steered`; a run that proves falsely
counts for its likelihood ratio over the chance of its number. The mean is the estimate, whatever the steering; the
effective sample size (Kish, "Survey sampling", 1965) says how many runs carry it.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from poolproof.policy import POLICY_2026_11, Assurance, Policy
from poolproof.verdict import ControlProven
from tests.simulation.attempt import play
from tests.simulation.census import Tally, play_many
from tests.simulation.literature import ABSENT, HONEST
from tests.simulation.worlds import World

ATTEMPTS = 100
_CHUNK = 50
_NUMBERS = tuple(k**-1.5 for k in range(1, ATTEMPTS + 1))
"""How often an attempt of each number is played: the error budget shrinks with the square of the number."""
_RUNS, _QUICK = 2_000, 200
_POWER = 10
"""An honest world gets one plain attempt for so many steered ones."""


@dataclass(slots=True)
class Estimate:
    """What steered runs of one world add up to.

    Attributes:
        runs: number of runs.
        hits: runs that ended in a false strong proof.
        total, squares: sum of their weights, and of the squares.
        largest: largest weight of a run that was not refuted; what a hit that has not been seen may weigh.
    """

    runs: int = 0
    hits: int = 0
    total: float = 0.0
    squares: float = 0.0
    largest: float = 0.0

    def add(self, other: Estimate) -> None:
        """Take another estimate's runs in."""
        self.runs += other.runs
        self.hits += other.hits
        self.total += other.total
        self.squares += other.squares
        self.largest = max(self.largest, other.largest)

    @property
    def mean(self) -> float:
        """The estimated chance."""
        return self.total / self.runs

    @property
    def effective(self) -> float:
        """Effective sample size of the hits."""
        return self.total**2 / self.squares if self.squares else 0.0

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return math.sqrt(max(0.0, self.squares / self.runs - self.mean**2) / self.runs)

    @property
    def interval(self) -> tuple[float, float]:
        """95 %: normal where ten hits or more carry it; else up to three hits more of the largest weight seen."""
        if self.effective >= 10:
            return max(0.0, self.mean - 1.96 * self.error), self.mean + 1.96 * self.error
        return 0.0, self.mean + 3 * self.largest / self.runs


def estimate(
    world: World, seed: str, runs: range, policy: Policy = POLICY_2026_11, attempts: int = ATTEMPTS
) -> Estimate:
    """Steered runs of an application in one world, of at most so many attempts."""
    numbers, weights = range(1, attempts + 1), _NUMBERS[:attempts]
    sum_of_weights = math.fsum(weights)
    found = Estimate()
    for i in runs:
        name = f"{seed}/{world.name}/{i}"
        number = random.Random(f"number/{name}").choices(numbers, weights)[0]
        result = play(world, name, policy, number, steered=True)
        weight = math.exp(result.log_ratio) * sum_of_weights / weights[number - 1]
        found.runs += 1
        found.largest = max(found.largest, weight if result.rounds > 1 else 0.0)
        if isinstance(result.verdict, ControlProven) and result.verdict.assurance is Assurance.STRONG:
            found.hits += 1
            found.total += weight
            found.squares += weight**2
    return found


@dataclass(slots=True)
class Soak:
    """What is known so far, by place in ABSENT and HONEST."""

    chances: list[Estimate] = field(default_factory=lambda: [Estimate() for _ in ABSENT])
    power: list[Tally] = field(default_factory=lambda: [Tally() for _ in HONEST])

    @property
    def failures(self) -> list[str]:
        """Worlds whose upper limit is above what they are held to."""
        return [
            f"{scenario.world.name}: up to {found.interval[1]:.1e} > {scenario.goal.false_strong:g}"
            for scenario, found in zip(ABSENT, self.chances, strict=True)
            if found.interval[1] > scenario.goal.false_strong
        ]


def _piece(kind: str, index: int, first: int, count: int, seed: str) -> tuple[int, Estimate | Tally]:
    runs = range(first, first + count)
    if kind == "chance":
        return index, estimate(ABSENT[index].world, seed, runs)
    return index, play_many(HONEST[index].world, f"{seed}/power/{index}", runs)


def soak(runs: int, seed: str, processes: int) -> Iterator[tuple[int, int, Soak]]:
    """Play all worlds; yields (pieces done, pieces in all, what is known) as work comes in."""
    wanted = [("chance", len(ABSENT), runs), ("power", len(HONEST), max(1, runs // _POWER))]
    work = [
        (kind, index, first, min(_CHUNK, count - first), seed)
        for kind, worlds, count in wanted
        for index in range(worlds)
        for first in range(0, count, _CHUNK)
    ]
    known = Soak()
    with ProcessPoolExecutor(processes) as pool:
        for done, (index, found) in enumerate(pool.map(_piece, *zip(*work, strict=True)), start=1):
            if isinstance(found, Estimate):
                known.chances[index].add(found)
            else:
                known.power[index].add(found)
            yield done, len(work), known


@click.command()
@click.option("--runs", type=click.IntRange(1), help=f"Steered runs per world; {_RUNS:,} by default.")
@click.option("--quick", is_flag=True, help=f"Only {_QUICK} runs per world.")
@click.option("--seed", default="poolproof", show_default=True, help="Any text; the same seed gives the same tables.")
@click.option("--processes", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def main(runs: int | None, quick: bool, seed: str, processes: int, as_json: bool) -> None:
    """Estimate the chance of a false strong proof per application; exit with 1 where its upper limit is too high."""
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else 120)
    started = time.monotonic()
    known = Soak()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("soaking", total=None)
        for done, total, known in soak(runs or (_QUICK if quick else _RUNS), seed, processes):  # noqa: B007
            progress.update(task, completed=done, total=total)
    if as_json:
        json.dump(_as_json(known), sys.stdout, indent=1)
    else:
        console.print(_chances(known))
        console.print(_power(known))
    count = sum(found.runs for found in known.chances) + sum(tally.attempts for tally in known.power)
    console.print(f"{count:,} attempts in {time.monotonic() - started:.0f} s, seed {seed!r}")
    for failure in known.failures:
        console.print(f"[red]too likely[/] {failure}")
    sys.exit(1 if known.failures else 0)


def _chances(known: Soak) -> Table:
    table = Table(title=f"Chance of a false strong proof per application of {ATTEMPTS} attempts")
    for heading in ("absent owner", "chance", "95 %, from", "to", "held to", "runs", "effective"):
        table.add_column(heading, justify="left" if heading == "absent owner" else "right")
    for scenario, found in zip(ABSENT, known.chances, strict=True):
        low, high = found.interval
        limit = scenario.goal.false_strong
        cells = (f"{found.mean:.1e}", f"{low:.1e}", f"{high:.1e}", f"{limit:g}", f"{found.runs:,}")
        style = "red" if high > limit else ""
        table.add_row(scenario.world.name, *cells, f"{found.effective:,.0f}", style=style)
    return table


def _power(known: Soak) -> Table:
    table = Table(title="Honest owners, first attempt")
    for heading in ("honest owner", "attempts", "proven", "strong", "rounds"):
        table.add_column(heading, justify="left" if heading == "honest owner" else "right")
    for scenario, tally in zip(HONEST, known.power, strict=True):
        n = max(1, tally.attempts)
        strong = tally.proven[Assurance.STRONG] / n
        rounds = f"{tally.median_rounds:g}" if tally.rounds else "-"
        table.add_row(scenario.world.name, f"{n:,}", f"{tally.proven.total() / n:.1%}", f"{strong:.1%}", rounds)
    return table


def _as_json(known: Soak) -> dict[str, object]:
    return {
        "false_strong": [
            {
                "world": scenario.world.name,
                "chance": found.mean,
                "interval": found.interval,
                "held_to": scenario.goal.false_strong,
                "runs": found.runs,
                "hits": found.hits,
                "effective": found.effective,
            }
            for scenario, found in zip(ABSENT, known.chances, strict=True)
        ],
        "power": [
            {
                "world": scenario.world.name,
                "attempts": tally.attempts,
                "proven": tally.proven.total(),
                "strong": tally.proven[Assurance.STRONG],
                "median_rounds": tally.median_rounds,
            }
            for scenario, tally in zip(HONEST, known.power, strict=True)
        ],
    }


if __name__ == "__main__":
    main()
