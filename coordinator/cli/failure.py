"""Why a command could not do what it was told, with the exit code for it; as text or, with `--json`, as an object."""

from __future__ import annotations

import json

import click

from coordinator.cli.exit_codes import ExitCode

_WORDS = {code.value: code.word for code in ExitCode}


class Failure(click.ClickException):
    """Ends a command with a message on stderr and an exit code."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: click.ClickException) -> int:
    """The exit code for an error; click's own are about usage."""
    return error.code.value if isinstance(error, Failure) else error.exit_code


def report(error: click.ClickException, *, as_json: bool) -> None:
    """Says on stderr what went wrong.

    With `as_json` it is `{"error": {"code": WORD, "exit_code": NUMBER, "message": TEXT}}` on one line.
    """
    if not as_json:
        error.show()
        return
    code = code_of(error)
    said = {
        "code": _WORDS.get(code, ExitCode.INTERNAL.word),
        "exit_code": code,
        "message": error.format_message(),
    }
    click.echo(json.dumps({"error": said}), err=True)
