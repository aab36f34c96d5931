"""`python -m tests.simulation.plots`: the figures of docs/evidence.md, drawn anew from seeded runs.

Error against loss, rounds to a verdict against loss, and packets against Wald's bound. About five minutes.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import matplotlib as mpl

from poolproof.policy import POLICY_2026_11
from poolproof.variant import Variant
from tests.simulation.census import Tally, play_many
from tests.simulation.soak import ATTEMPTS, Estimate, estimate
from tests.simulation.wald import fewest_packets
from tests.simulation.worlds import Owner, World

mpl.use("svg")
from matplotlib import pyplot as plt  # a backend without a screen is chosen first
from matplotlib.figure import Figure

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
NUMBERS = FIGURES / "numbers.json"
_FLEET = 40
_INK, _MUTED, _GRID = "#24292f", "#6e7781", "#d8dee4"
_STYLE = {
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "svg.hashsalt": "poolproof",
    "svg.fonttype": "path",
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "figure.figsize": (7.6, 4.4),
    "savefig.bbox": "tight",
}


@dataclass(frozen=True, slots=True)
class Line:
    """How a variant is asked for, and drawn."""

    name: str
    colour: str
    marker: str
    variant: Variant = Variant.BLOCK
    ipv6_prefixes: bool = False
    owner: Owner = Owner.HONEST
    shown: float = 1.0

    def world(self, loss: float, owner: Owner | None = None) -> World:
        """A world with nothing but loss."""
        return World(
            f"{self.name}, {loss:g}", owner or self.owner, self.variant, self.ipv6_prefixes, vantages=_FLEET, loss=loss
        )


LINES = (
    Line("allow-only", "#0969da", "o", Variant.ALLOW_ONLY),
    Line("IPv6 prefixes", "#1a7f37", "s", ipv6_prefixes=True),
    # Of the refusals six in ten are sent, in the simulation as by Linux.
    Line("rejecting", "#bc4c00", "^", owner=Owner.REJECTING, shown=0.6),
)
ERROR_LOSSES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
LOSSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


def bound(line: Line, loss: float) -> float:
    """Wald's bound on the packets of a variant: of the refusals only those that are sent and arrive count."""
    return fewest_packets(loss, line.shown if line.shown == 1 else line.shown * (1 - loss))


def _error(index: int, loss: float, worse: bool, runs: int) -> Estimate:
    line = LINES[index]
    world = line.world(0.0 if worse else loss, Owner.ABSENT)
    if worse:
        world = World(
            f"{world.name}, rising to {loss:g}", Owner.ABSENT, line.variant, line.ipv6_prefixes, _FLEET, 0.0, loss
        )
    return estimate(world, "figures", range(runs))


def _power(index: int, loss: float, runs: int) -> Tally:
    return play_many(LINES[index].world(loss), f"figures/{index}/{loss}", range(runs))


def measure(runs: int, processes: int) -> dict[str, object]:
    """Everything that the figures show, by seeded runs."""
    errors = [(index, loss, worse, runs) for index in (0, 1) for worse in (False, True) for loss in ERROR_LOSSES]
    powers = [(index, loss, runs) for index in range(len(LINES)) for loss in LOSSES]
    with ProcessPoolExecutor(processes) as pool:
        estimates = list(pool.map(_error, *zip(*errors, strict=True)))
        tallies = list(pool.map(_power, *zip(*powers, strict=True)))
    return {
        "runs": runs,
        "error": [
            {"line": LINES[index].name, "loss": loss, "rises": worse, "chance": found.mean, "to": found.interval[1]}
            for (index, loss, worse, _), found in zip(errors, estimates, strict=True)
        ],
        "power": [
            {
                "line": LINES[index].name,
                "loss": loss,
                "proven": tally.proven.total() / tally.attempts,
                "rounds": [_quantile(tally.rounds, part) for part in (0.1, 0.5, 0.9)],
                "packets": statistics.mean(tally.measured),
                "with_baseline": tally.packets / tally.attempts,
                "bound": bound(LINES[index], loss),
            }
            for (index, loss, _), tally in zip(powers, tallies, strict=True)
        ],
    }


def _quantile(numbers: Sequence[int], part: float) -> int:
    return sorted(numbers)[min(len(numbers) - 1, int(part * len(numbers)))]


def _of(numbers: Mapping[str, object], kind: str, **wanted: object) -> list[dict[str, float]]:
    rows = numbers[kind]
    assert isinstance(rows, list)
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _save(figure: Figure, name: str) -> None:
    figure.savefig(FIGURES / name, metadata={"Date": None, "Creator": None})
    plt.close("all")
    # One line's end for all: matplotlib leaves blanks before some.
    path = FIGURES / name
    path.write_text("\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()) + "\n")


def _draw_error(numbers: Mapping[str, object]) -> None:
    figure, axes = plt.subplots()
    for line in LINES[:2]:
        for rises, dashes, what in ((False, "--", "as in the baseline"), (True, "-", "since the baseline")):
            # Where the baseline loses more than that already, too few vantages pass it for a strong proof.
            rows = [row for row in _of(numbers, "error", line=line.name, rises=rises) if rises or row["loss"] <= 0.3]
            axes.plot(
                [100 * row["loss"] for row in rows],
                [row["chance"] for row in rows],
                dashes,
                color=line.colour,
                marker=line.marker,
                markersize=5,
                label=f"{line.name}, loss {what}",
            )
    axes.axhline(POLICY_2026_11.alpha_strong, color="#cf222e", linewidth=1.5)
    axes.annotate(
        "bound of strong: 1e-6", (2, POLICY_2026_11.alpha_strong), (0, 5), textcoords="offset points", color="#cf222e"
    )
    axes.set_yscale("log")
    axes.set_ylim(1e-18, 1e-5)
    axes.set_xlabel("loss of every exchange, %")
    axes.set_ylabel(f"false strong proofs per application\n({ATTEMPTS} attempts)")
    axes.legend(loc="lower right", fontsize=9)
    _save(figure, "error.svg")


def _draw_rounds(numbers: Mapping[str, object]) -> None:
    figure, axes = plt.subplots()
    for place, line in enumerate(LINES):
        rows = _of(numbers, "power", line=line.name)
        at = [100 * row["loss"] + 0.35 * (place - 1) for row in rows]
        low, middle, high = ([row["rounds"][part] for row in rows] for part in range(3))  # type: ignore[index]
        spread = [
            [m - lo for m, lo in zip(middle, low, strict=True)],
            [hi - m for m, hi in zip(middle, high, strict=True)],
        ]
        axes.errorbar(
            at, middle, spread, color=line.colour, marker=line.marker, markersize=6, capsize=3, label=line.name
        )
    axes.set_ylim(0, None)
    axes.set_xlabel("loss of every exchange, %")
    axes.set_ylabel("rounds to the proof\n(median; bars: 10 % to 90 %)")
    axes.legend(loc="upper left")
    _save(figure, "rounds.svg")


def _draw_cost(numbers: Mapping[str, object]) -> None:
    figure, axes = plt.subplots()
    for line in LINES:
        rows = [row for row in _of(numbers, "power", line=line.name) if row["loss"] <= 0.2]
        at = [100 * row["loss"] for row in rows]
        axes.plot(
            at, [row["packets"] for row in rows], color=line.colour, marker=line.marker, markersize=6, label=line.name
        )
        if line is not LINES[1]:
            label = "Wald's bound, rejecting" if line.shown < 1 else "Wald's bound, silence"
            axes.plot(at, [row["bound"] for row in rows], ":", color=line.colour, linewidth=2, label=label)
    at = [100 * loss for loss in LOSSES if loss <= 0.2]
    axes.plot(
        at, [1.3 * bound(LINES[0], loss / 100) for loss in at], color=_MUTED, linewidth=1, label="1.3 x that of silence"
    )
    axes.set_ylim(0, None)
    axes.set_xlabel("loss of every exchange, %")
    axes.set_ylabel("packets in rounds, mean, to a strong proof")
    axes.legend(loc="upper left", fontsize=9, ncols=2)
    _save(figure, "cost.svg")


def draw(numbers: Mapping[str, object]) -> None:
    """Write the figures."""
    with plt.rc_context(_STYLE):  # type: ignore[arg-type]  # its keys are literals
        _draw_error(numbers)
        _draw_rounds(numbers)
        _draw_cost(numbers)


@click.command()
@click.option("--runs", default=400, show_default=True, type=click.IntRange(1), help="Per point of a figure.")
@click.option("--processes", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(1))
@click.option("--redraw", is_flag=True, help="Draw the numbers of the last run again.")
def main(runs: int, processes: int, redraw: bool) -> None:
    """Draw the figures of docs/evidence.md."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    if not redraw:
        NUMBERS.write_text(json.dumps(measure(runs, processes), indent=1) + "\n", encoding="utf-8")
    draw(json.loads(NUMBERS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
