"""The table of verdicts that a demo or a report ends with. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from coordinator.cli.snapshot import Snapshot
from coordinator.cli.verdict_text import VERDICT_STYLES
from poolproof.outcome import Outcome


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One owner's verification in the table.

    Attributes:
        owner: who, or what they did.
        daemon: on which software.
        snapshot: as it is now.
        packets: requests that probes sent to the target; those that the matrix shows unless given.
        seconds: how long it took; from the attempt's begin to its end unless given.
    """

    owner: str
    daemon: str
    snapshot: Snapshot
    packets: int | None = None
    seconds: float | None = None


def verdict_table(rows: Iterable[VerdictRow]) -> Table:
    """Owner and daemon, verdict, assurance, allowed n/n, blocked n/n, RIRs, bound, rounds, packets and seconds."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for name in ("owner", "daemon", "verdict", "assurance"):
        table.add_column(name, no_wrap=name != "owner")
    for name in ("allowed", "blocked", "RIRs", "false accept <=", "rounds", "packets", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in _cells(row)))
    return table


def _cells(row: VerdictRow) -> list[str | Text]:
    judgement = row.snapshot.judgement
    tally = judgement.tally
    packets = _sent(row.snapshot) if row.packets is None else row.packets
    seconds = _took(row.snapshot) if row.seconds is None else row.seconds
    return [
        row.owner,
        row.daemon,
        Text(judgement.word, style=VERDICT_STYLES[judgement.word]),
        judgement.proof.assurance.name.lower() if judgement.proof is not None else "-",
        # Where no round counted, nobody has said how many are answered.
        f"{tally.monitors_answered}/{tally.monitors}" if tally.counted else "-",
        f"{tally.silent}/{tally.must_be_silent}" if tally.counted else "-",
        str(tally.rirs) if tally.counted else "-",
        f"{tally.bound:.0e}" if judgement.proof is not None else "-",
        str(tally.rounds),
        str(packets),
        "-" if seconds is None else f"{seconds:.0f}",
    ]


def _sent(snapshot: Snapshot) -> int:
    """Requests that the matrix shows: those of spare vantages in the baseline are not among them."""
    in_rounds = sum(outcome not in (None, Outcome.PROBE_FAILED) for line in snapshot.lines for outcome in line.outcomes)
    return in_rounds + sum(line.asked for line in snapshot.lines)


def _took(snapshot: Snapshot) -> float | None:
    if not snapshot.attempts or not snapshot.attempts[-1].concluded_at_ns:
        return None
    attempt = snapshot.attempts[-1]
    return (attempt.concluded_at_ns - attempt.started_at_ns) / 1e9
