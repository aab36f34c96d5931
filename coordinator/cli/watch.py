"""`poolproof watch`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from coordinator.cli.options import client_options, connect, id_argument, leave, operator_option, verdict_code

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from coordinator.cli.connection import Coordinator
    from coordinator.cli.failure import Failure
    from coordinator.cli.snapshot import Snapshot

_HELP = """Follow a verification until it is closed: the matrix of perspectives and rounds as it fills.

Rows are perspectives by role; columns are the baseline (answered/asked) and the rounds. In a terminal the matrix is
drawn anew with each change; elsewhere there is one line for each change, and the matrix at the end. With --json each
change is one object on a line of its own. A coordinator that stops is waited for, for a minute.

The exit code is the verdict: 0 proven, 1 refuted, 3 neither.

\b
Examples:
  poolproof watch k7d2
  poolproof watch k7d2 --json | jq -c '[.state, .verdict.tally.evidence_nats]'
"""


@click.command(help=_HELP, short_help="Follow a verification to its verdict.")
@id_argument
@operator_option
@client_options
def watch(verification: str, operator: bool, address: str, as_json: bool) -> None:
    """`poolproof watch`."""
    with connect(address) as coordinator:
        last = _json(coordinator, verification, operator) if as_json else _text(coordinator, verification, operator)
    leave(verdict_code(last))


def _json(coordinator: Coordinator, verification: str, operator: bool) -> Snapshot:
    from coordinator.cli.following import followed
    from coordinator.cli.snapshot_json import one_line, snapshot_json

    for snapshot in followed(coordinator, verification, operator=operator):
        click.echo(one_line(snapshot_json(snapshot)))
    return snapshot


def _text(coordinator: Coordinator, verification: str, operator: bool) -> Snapshot:
    from coordinator.cli.screen import screen

    console = screen()
    if console.is_terminal:
        return _live(coordinator, verification, operator, console)
    return _lines(coordinator, verification, operator, console)


def _lines(coordinator: Coordinator, verification: str, operator: bool, console: Console) -> Snapshot:
    from coordinator.cli.following import followed
    from coordinator.cli.screen import show
    from coordinator.cli.verdict_text import page, progress_line

    def lost(failure: Failure) -> None:
        click.echo(f"{failure.format_message()}; trying again", err=True)

    for snapshot in followed(coordinator, verification, operator=operator, lost=lost):
        click.echo(progress_line(snapshot, time.time_ns()))
    click.echo()
    show(page(snapshot, time.time_ns(), width=console.width), console)
    return snapshot


def _live(coordinator: Coordinator, verification: str, operator: bool, console: Console) -> Snapshot:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from coordinator.cli.following import followed
    from coordinator.cli.screen import has_unicode
    from coordinator.cli.verdict_text import page

    latest: list[Snapshot] = []
    trouble: list[Failure] = []
    unicode = has_unicode(console)

    def drawn() -> RenderableType:
        if not latest:
            return Text("connecting")
        shown = page(latest[-1], time.time_ns(), width=console.width, unicode=unicode)
        if trouble:
            return Group(shown, Text(f"no connection, trying again: {trouble[-1].format_message()}", style="yellow"))
        return shown

    # Drawn anew by time as well: the line "next" counts down.
    with Live(get_renderable=drawn, console=console, refresh_per_second=2) as live:
        for snapshot in followed(coordinator, verification, operator=operator, lost=trouble.append):
            latest[:] = [snapshot]
            trouble.clear()
            live.refresh()
    return latest[-1]


COMMANDS = {"watch": watch}
