"""Verifications in a table, a line each. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from coordinator.cli.snapshot import Snapshot
from coordinator.cli.verdict_text import VERDICT_STYLES
from poolproof.utc import utc


def verification_table(snapshots: Iterable[Snapshot]) -> Table:
    """Id, target, applicant, variant, state, verdict and when it was requested."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("id", "target", "applicant", "variant", "state", "verdict", "requested"):
        table.add_column(name, no_wrap=name not in ("target", "applicant"), overflow="fold")
    for each in snapshots:
        judgement = each.judgement
        table.add_row(
            Text(each.id),
            Text(str(each.target)),
            Text(each.applicant),
            Text(each.variant.value),
            Text(each.state.value),
            # Of an open one nothing is decided yet.
            Text("-") if each.state.is_open else Text(judgement.word, style=VERDICT_STYLES[judgement.word]),
            Text(utc(each.requested_at_ns)[:19]),
        )
    return table
