"""Many attempts of many worlds, counted: proven, refuted, inconclusive, and whether the goals are met."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from poolproof.policy import POLICY_2026_11, Assurance
from poolproof.verdict import ControlProven, ControlRefuted
from tests.simulation.attempt import play
from tests.simulation.worlds import SCENARIOS, Scenario, World

_CHUNK = 250


@dataclass(slots=True)
class Tally:
    """What became of the attempts of one scenario.

    `rounds` and `measured`, the packets of the rounds, are those of the proofs; `packets` is all of all attempts.
    """

    attempts: int = 0
    proven: Counter[Assurance] = field(default_factory=Counter)
    refuted: int = 0
    refuted_in_round_one: int = 0
    inconclusive: Counter[str] = field(default_factory=Counter)
    rounds: list[int] = field(default_factory=list)
    packets: int = 0
    measured: list[int] = field(default_factory=list)
    false_proofs: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take another tally's counts in."""
        self.attempts += other.attempts
        self.proven += other.proven
        self.refuted += other.refuted
        self.refuted_in_round_one += other.refuted_in_round_one
        self.inconclusive += other.inconclusive
        self.rounds += other.rounds
        self.packets += other.packets
        self.measured += other.measured
        self.false_proofs += other.false_proofs

    @property
    def median_rounds(self) -> float:
        """Median of the rounds to a proof; 0 if there was none."""
        return statistics.median(self.rounds) if self.rounds else 0

    def misses(self, scenario: Scenario) -> list[str]:
        """The goals that were not reached, in words."""
        goal, share = scenario.goal, max(1, self.attempts)
        said: list[str] = [f"false proof: {seed}" for seed in self.false_proofs]
        proven = self.proven.total() / share
        if goal.proven is not None and proven < goal.proven:
            said.append(f"proven {proven:.4%} < {goal.proven:.2%}")
        first = self.refuted_in_round_one / share
        if goal.refuted_in_round_one is not None and first < goal.refuted_in_round_one:
            said.append(f"refuted in round one {first:.4%} < {goal.refuted_in_round_one:.2%}")
        if goal.median_rounds is not None and self.median_rounds > goal.median_rounds:
            said.append(f"median rounds {self.median_rounds:g} > {goal.median_rounds}")
        return said


def chunks(attempts: int) -> Iterator[tuple[int, int, int]]:
    """(scenario, first number, count) of pieces of work; `attempts` are shared out by the scenarios' weights."""
    total = sum(scenario.weight for scenario in SCENARIOS)
    for index, scenario in enumerate(SCENARIOS):
        share = max(1, round(attempts * scenario.weight / total))
        for first in range(0, share, _CHUNK):
            yield index, first, min(_CHUNK, share - first)


def count(index: int, first: int, number: int, seed: str) -> tuple[int, Tally]:
    """Play some attempts of one scenario."""
    return index, play_many(SCENARIOS[index].world, f"{seed}/{index}", range(first, first + number))


def play_many(world: World, seed: str, runs: range) -> Tally:
    """Play attempts of a world, each with a seed of its own."""
    tally = Tally()
    for i in runs:
        name = f"{seed}/{i}"
        result = play(world, name, POLICY_2026_11)
        tally.attempts += 1
        tally.packets += result.packets
        verdict = result.verdict
        if isinstance(verdict, ControlProven):
            tally.proven[verdict.assurance] += 1
            tally.rounds.append(result.rounds)
            tally.measured.append(result.measured)
            if not world.owner.deserves_proof:
                tally.false_proofs.append(name)
        elif isinstance(verdict, ControlRefuted):
            tally.refuted += 1
            tally.refuted_in_round_one += result.rounds == 1
        else:
            tally.inconclusive[verdict.reason.value] += 1
    return tally


def census(attempts: int, seed: str, processes: int) -> Iterator[tuple[int, list[Tally]]]:
    """Play all scenarios; yields (attempts done, tallies so far) as work comes in."""
    tallies = [Tally() for _ in SCENARIOS]
    work = list(chunks(attempts))
    done = 0
    if processes == 1:
        for piece in work:
            index, tally = count(*piece, seed)
            tallies[index].add(tally)
            done += tally.attempts
            yield done, tallies
        return
    with ProcessPoolExecutor(processes) as pool:
        for index, tally in pool.map(count, *zip(*work, strict=True), [seed] * len(work)):
            tallies[index].add(tally)
            done += tally.attempts
            yield done, tallies
