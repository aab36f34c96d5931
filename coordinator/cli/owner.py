"""What an owner does with a verification: `poolproof instructions`, `ready`, `retry`, `withdraw`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from coordinator.cli.options import client_options, connect, id_argument

if TYPE_CHECKING:
    from coordinator.cli.connection import Coordinator
    from coordinator.cli.snapshot import Snapshot
    from poolproof.v1 import verification_pb2 as pb

SOFTWARE: Final = ("ntpsec", "ntpd", "chrony", "ntpd-rs", "openntpd", "nftables", "iptables", "generic")

_INSTRUCTIONS = """Print what the owner has to configure, to the letter: addresses, file, reload, check and undo.

\b
Examples:
  poolproof instructions k7d2 --for chrony
  poolproof instructions k7d2 --for nftables --wait
  poolproof instructions k7d2 --for ntpsec --json | jq -r '.steps[].lines[]'
"""
_READY = """Say that the challenge is enacted: measuring begins after a few seconds. Saying it twice is harmless.

\b
Examples:
  poolproof ready k7d2 && poolproof watch k7d2
"""
_RETRY = """Begin a new attempt, with new roles and a smaller share of the error budget.

There is a pause between attempts, which doubles; the message says how long.

\b
Examples:
  poolproof retry k7d2
"""
_WITHDRAW = """Take a request back. Nothing more is asked of the target for it.

\b
Examples:
  poolproof withdraw k7d2
"""


@click.command(help=_INSTRUCTIONS, short_help="What to configure, to the letter.")
@id_argument
@click.option("--for", "software", type=click.Choice(SOFTWARE), required=True, help="What you run or can configure.")
@click.option("--wait", is_flag=True, help="Wait until the challenge is set.")
@client_options
def instructions(verification: str, software: str, wait: bool, address: str, as_json: bool) -> None:
    """`poolproof instructions`."""
    with connect(address) as coordinator:
        if wait:
            verification = _challenged(coordinator, verification)
        written = coordinator.instructions(verification, software)
    if as_json:
        from coordinator.cli.snapshot_json import pretty

        click.echo(pretty(_written(written)))
    else:
        # As it is, never folded: lines are to be copied.
        click.echo(written.rendered.rstrip("\n"))


@click.command(help=_READY, short_help="Say that the challenge is enacted.")
@id_argument
@client_options
def ready(verification: str, address: str, as_json: bool) -> None:
    """`poolproof ready`."""
    with connect(address) as coordinator:
        _tell(coordinator.ready(verification), as_json)


@click.command(help=_RETRY, short_help="Try again, with new roles.")
@id_argument
@client_options
def retry(verification: str, address: str, as_json: bool) -> None:
    """`poolproof retry`."""
    with connect(address) as coordinator:
        _tell(coordinator.retry(verification), as_json)


@click.command(help=_WITHDRAW, short_help="Take a request back.")
@id_argument
@client_options
def withdraw(verification: str, address: str, as_json: bool) -> None:
    """`poolproof withdraw`."""
    with connect(address) as coordinator:
        _tell(coordinator.withdraw(verification), as_json)


def _challenged(coordinator: Coordinator, verification: str) -> str:
    """Waits until the baseline is over; the whole id."""
    from coordinator.cli.following import followed
    from poolproof.verification import State

    for snapshot in followed(coordinator, verification):
        verification = snapshot.id
        if snapshot.state not in (State.REQUESTED, State.BASELINE):
            break
    return verification


def _tell(snapshot: Snapshot, as_json: bool) -> None:
    import time

    if as_json:
        from coordinator.cli.snapshot_json import pretty, snapshot_json

        click.echo(pretty(snapshot_json(snapshot)))
        return
    from coordinator.cli.verdict_text import next_words

    click.echo(f"{snapshot.id}  {snapshot.target}  {snapshot.state.value}")
    click.echo(f"next: {next_words(snapshot, time.time_ns())}")


def _written(written: pb.GetInstructionsResponse) -> dict[str, Any]:
    return {
        "title": written.title,
        "summary": written.summary,
        "steps": [_step(step) for step in written.steps],
        "undo": [_step(step) for step in written.undo],
        "assurance_note": written.assurance_note,
        "caveats": list(written.caveats),
        "rendered": written.rendered,
    }


def _step(step: pb.InstructionStep) -> dict[str, Any]:
    return {
        "text": step.text,
        "file": step.file or None,
        "lines": list(step.lines),
        "commands": list(step.commands),
        "check": list(step.check),
        "expect": step.expect or None,
    }


COMMANDS = {"instructions": instructions, "ready": ready, "retry": retry, "withdraw": withdraw}
