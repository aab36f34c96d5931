"""The command tree. A command's module is imported when the command is called, so that every start is quick.

Commands of other packages come from the entry points of the group `poolproof.commands`: the coordinator must not
import the probe.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from coordinator.cli.exit_codes import ExitCode
from coordinator.cli.failure import Failure, code_of, report

ENTRY_POINTS: Final = "poolproof.commands"
PROGRAM: Final = "poolproof"

COMMANDS: Final = {
    "coordinator": ("serve", "Start a coordinator."),
    "request": ("request", "Claim a server: ask for a verification."),
    "instructions": ("owner", "What to configure, to the letter."),
    "ready": ("owner", "Say that the challenge is enacted."),
    "retry": ("owner", "Try again, with new roles."),
    "withdraw": ("owner", "Take a request back."),
    "watch": ("watch", "Follow a verification to its verdict."),
    "show": ("look", "One verification as it is now."),
    "list": ("look", "All verifications, newest first."),
    "explain": ("look", "What counted, what did not, and why."),
    "trace": ("trace", "One attempt as a tree, from request to packet."),
    "fleet": ("fleet", "The vantages and their probes."),
    "calibration": ("calibration", "Whether the probes tell the truth."),
    "release": ("calibration", "Let a quarantined vantage work again."),
    "completion": ("completion", "Print shell completion."),
}
"""Name -> module in this package and the line that `poolproof --help` shows, so that it need not import anything."""
FOREIGN: Final = {
    "probe": "Be a probe at a vantage.",
    "responder": "A small NTP server for demos.",
}
"""The same line for commands of other packages of this project; others are imported to learn theirs."""
SECTIONS: Final = (
    ("Prove control of a server", ("request", "instructions", "ready", "watch", "retry", "withdraw")),
    ("Look", ("show", "list", "explain", "trace", "fleet", "calibration")),
    ("Run", ("coordinator", "probe", "responder", "release", "completion")),
)

_EXAMPLES: Final = """\b
From claim to proof:
  poolproof request 192.0.2.7
  poolproof instructions k7d2 --for chrony --wait
  poolproof ready k7d2
  poolproof watch k7d2

An ID may be cut as long as it stays unique. Commands find the coordinator by --coordinator or the variable
POOLPROOF_COORDINATOR, else at 127.0.0.1:8443. With --json they print JSON, errors too (on stderr).
"""


class LazyGroup(click.Group):
    """Finds its commands by name and imports them only then."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, those of other packages too."""
        return sorted({*COMMANDS, *_entry_points()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now; None if there is none."""
        if cmd_name in COMMANDS:
            module = importlib.import_module(f"coordinator.cli.{COMMANDS[cmd_name][0]}")
            found = module.COMMANDS[cmd_name]
        elif cmd_name in (others := _entry_points()):
            found = others[cmd_name].load()
        else:
            return None
        if not isinstance(found, click.Command):
            raise Failure(ExitCode.INTERNAL, f"{cmd_name}: what is installed under this name is no command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """All commands by what one wants to do, then the exit codes."""
        names = self.list_commands(ctx)
        shown = {name for _, listed in SECTIONS for name in listed}
        others = ("Others", tuple(name for name in names if name not in shown))
        for title, listed in (*SECTIONS, others):
            rows = [(name, self._line(ctx, name)) for name in listed if name in names]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), code.meaning) for code in ExitCode])

    def _line(self, ctx: click.Context, name: str) -> str:
        if name in COMMANDS:
            return COMMANDS[name][1]
        if name in FOREIGN:
            return FOREIGN[name]
        command = self.get_command(ctx, name)
        return command.get_short_help_str(80) if command is not None else ""


def _entry_points() -> dict[str, Any]:
    from importlib.metadata import entry_points  # not needed for our own commands

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"{PROGRAM} {version(PROGRAM)}")
        ctx.exit()


@click.command(
    cls=LazyGroup,
    name=PROGRAM,
    epilog=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help=f"Proves that the person who adds an NTP server to a pool really runs it.\n\n{_EXAMPLES}",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show it.")
def poolproof() -> None:
    """`poolproof`."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and ends the process with its exit code.

    Args:
        arguments: without the program's name; those of the process unless given.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a letter shows a question mark, and the command goes on.
            stream.reconfigure(errors="replace")
    out = sys.stdout
    try:
        result = poolproof.main(given, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        report(error, as_json="--json" in given)
        sys.exit(code_of(error))
    except click.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    except SystemExit:
        # When a pipe is closed click puts its own stream in the place of stdout and ends with 1: a verdict, here.
        if sys.stdout is not out:
            sys.exit(ExitCode.UNREAD)
        raise
    sys.exit(result if isinstance(result, int) else ExitCode.OK)
