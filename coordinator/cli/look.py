"""Looking without changing anything: `poolproof show`, `list`, `explain`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from coordinator.cli.options import client_options, connect, id_argument, leave, operator_option, verdict_code

if TYPE_CHECKING:
    from coordinator.cli.connection import Coordinator
    from coordinator.cli.snapshot import Snapshot

STATES: Final = ("requested", "baseline", "challenged", "measuring", "concluded", "expired", "withdrawn")

_SHOW = """Show a verification as it is now: matrix, verdict, assurance and why, scope, evidence and bound.

The exit code is the verdict: 0 proven, 1 refuted, 3 neither or still open.

\b
Examples:
  poolproof show k7d2
  poolproof show k7d2 --json | jq '.verdict.assurance'
"""
_LIST = """List verifications, newest first.

\b
Examples:
  poolproof list
  poolproof list --state challenged --state measuring
  poolproof list --applicant alice --all --json | jq -r '.verifications[] | [.id, .verdict.verdict] | @tsv'
"""
_EXPLAIN = """Say in words where a verification stands: what was seen, what counted, what did not and why, what to do.

\b
Examples:
  poolproof explain k7d2
  poolproof explain k7d2 --json | jq -r '.not_counted[]'
"""


@click.command(help=_SHOW, short_help="One verification as it is now.")
@id_argument
@operator_option
@client_options
def show(verification: str, operator: bool, address: str, as_json: bool) -> None:
    """`poolproof show`."""
    with connect(address) as coordinator:
        snapshot = coordinator.get(verification, operator=operator)
    if as_json:
        from coordinator.cli.snapshot_json import pretty, snapshot_json

        click.echo(pretty(snapshot_json(snapshot)))
    else:
        from coordinator.cli import screen
        from coordinator.cli.verdict_text import page

        console = screen.screen()
        shown = page(snapshot, time.time_ns(), width=console.width, unicode=screen.has_unicode(console))
        screen.show(shown, console)
    leave(verdict_code(snapshot))


@click.command(name="list", help=_LIST, short_help="All verifications, newest first.")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only these; may be repeated.")
@click.option("--applicant", metavar="NAME", default="", help="Only this one's.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="All of them, however many.")
@client_options
def list_(states: tuple[str, ...], applicant: str, limit: int, everything: bool, address: str, as_json: bool) -> None:
    """`poolproof list`."""
    with connect(address) as coordinator:
        found, more = _found(coordinator, states, applicant, None if everything else limit)
    if as_json:
        from coordinator.cli.snapshot_json import pretty, snapshot_json

        listed = [snapshot_json(each, with_matrix=False) for each in found]
        click.echo(pretty({"verifications": listed, "more": more}))
        return
    if not found:
        click.echo("no verifications")
        return
    from coordinator.cli import screen
    from coordinator.cli.verification_table import verification_table

    screen.show(verification_table(found))
    if more:
        click.echo(f"\nthere are more: --limit {2 * limit}, or --all")


def _found(
    coordinator: Coordinator, states: tuple[str, ...], applicant: str, limit: int | None
) -> tuple[list[Snapshot], bool]:
    """Verifications up to a limit, and whether there are more."""
    from poolproof.verification import State

    wanted = tuple(State(word) for word in states)
    found: list[Snapshot] = []
    token = ""
    while True:
        page = coordinator.page(wanted, applicant, 500 if limit is None else limit - len(found), token)
        found += page.snapshots
        token = page.next_token
        if not token or (limit is not None and len(found) >= limit):
            return found, bool(token)


@click.command(help=_EXPLAIN, short_help="What counted, what did not, and why.")
@id_argument
@operator_option
@client_options
def explain(verification: str, operator: bool, address: str, as_json: bool) -> None:
    """`poolproof explain`."""
    with connect(address) as coordinator:
        said = coordinator.explain(verification, operator=operator)
    if as_json:
        from coordinator.cli.snapshot_json import pretty

        lists = {"counted": list(said.counted), "not_counted": list(said.not_counted)}
        click.echo(pretty({"id": said.verification.id, "headline": said.headline, "advice": said.advice, **lists}))
        return
    from coordinator.cli import screen
    from coordinator.cli.verdict_text import explanation

    screen.show(explanation(said.headline, said.advice, said.counted, said.not_counted))


COMMANDS = {"show": show, "list": list_, "explain": explain}
