"""Options and arguments that commands share, and what becomes of them. Imports nothing slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from coordinator.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from coordinator.cli.connection import Coordinator
    from coordinator.cli.snapshot import Snapshot

VARIABLE: Final = "POOLPROOF_COORDINATOR"
DEFAULT_COORDINATOR: Final = "127.0.0.1:8443"
"""Where a coordinator listens unless it is told otherwise."""
DEFAULT_PORT: Final = 8443
_COMPLETION_S: Final = 1.0
_F = TypeVar("_F", bound=Callable[..., Any])


def _address(_: click.Context, __: click.Parameter, given: str) -> str:
    """HOST:PORT of what was given; the port may be left out.

    Raises:
        click.BadParameter: neither.
    """
    bracketed = given.startswith("[") and "]" in given
    host, colon, port = given[given.index("]") + 1 :].partition(":") if bracketed else given.partition(":")
    host = given[: given.index("]") + 1] if bracketed else host
    right = host and not (colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536))
    if not right or any(letter.isspace() or letter == "/" for letter in host):
        raise click.BadParameter(f"{given!r}: give HOST:PORT, like {DEFAULT_COORDINATOR} or [2001:db8::7]:8443")
    return given if colon else f"{host}:{DEFAULT_PORT}"


def client_options(command: _F) -> _F:
    """Adds `--coordinator` and `--json` to a command that asks the coordinator."""
    return coordinator_option(json_option(command))


coordinator_option: Final = click.option(
    "--coordinator",
    "address",
    metavar="HOST:PORT",
    envvar=VARIABLE,
    default=DEFAULT_COORDINATOR,
    show_default=True,
    show_envvar=True,
    callback=_address,
    help="Which coordinator to ask.",
)
json_option: Final = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
operator_option: Final = click.option("--operator", is_flag=True, help="Name the witnesses; not for the owner's eyes.")


def connect(address: str) -> Coordinator:
    """A connection to the coordinator at an address."""
    from coordinator.cli.connection import Coordinator  # gRPC takes its time to import; --help need not wait

    ctx = click.get_current_context()
    origin = ctx.get_parameter_source("address")
    named = {"COMMANDLINE": "from --coordinator", "ENVIRONMENT": f"from {VARIABLE}"}
    return Coordinator(address, named.get(origin.name if origin is not None else "", "the default"))


def _complete_id(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the newest verifications; nothing where no coordinator answers quickly."""
    from click.shell_completion import CompletionItem

    from coordinator.cli.connection import Coordinator
    from coordinator.cli.failure import Failure

    address = ctx.params.get("address") or DEFAULT_COORDINATOR
    try:
        with Coordinator(address, "", connect_s=_COMPLETION_S, call_s=_COMPLETION_S) as coordinator:
            newest = coordinator.page((), "", 100, "").snapshots
    except Failure:
        return []
    return [
        CompletionItem(each.id, help=f"{each.target} {each.state.value}")
        for each in newest
        if each.id.startswith(incomplete)
    ]


id_argument: Final = click.argument("verification", metavar="ID", shell_complete=_complete_id)


def verdict_code(snapshot: Snapshot) -> ExitCode:
    """The exit code for where a verification stands."""
    if snapshot.state.is_open:
        return ExitCode.INCONCLUSIVE
    if snapshot.judgement.proof is not None:
        return ExitCode.OK
    return ExitCode.INCONCLUSIVE if snapshot.judgement.refuted_by is None else ExitCode.REFUTED


def leave(code: ExitCode) -> NoReturn:
    """Ends the command with an exit code."""
    click.get_current_context().exit(code.value)
