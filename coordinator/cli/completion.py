"""`poolproof completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from coordinator.cli.exit_codes import ExitCode
from coordinator.cli.failure import Failure

_HELP = """Print the script that makes SHELL complete commands, options and verification ids.

\b
Examples:
  eval "$(poolproof completion bash)"                                        (in ~/.bashrc)
  eval "$(poolproof completion zsh)"                                         (in ~/.zshrc)
  poolproof completion fish > ~/.config/fish/completions/poolproof.fish
"""


@click.command(help=_HELP, short_help="Print shell completion.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """`poolproof completion`."""
    root = ctx.find_root()
    found = get_completion_class(shell)
    if found is None:
        raise Failure(ExitCode.INTERNAL, f"shell: {shell}: this version of click cannot complete for it")
    made = found(root.command, {}, root.info_name or "poolproof", "_POOLPROOF_COMPLETE")
    click.echo(found.source_template % made.source_vars())


COMMANDS = {"completion": completion}
