"""`--help` of every command, word for word; what it costs; and that the words on it are those of the code."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from typing import Any

import click
import pytest

from coordinator.cli.app import COMMANDS, FOREIGN, SECTIONS, poolproof
from coordinator.cli.exit_codes import ExitCode
from coordinator.cli.look import STATES
from coordinator.cli.options import DEFAULT_COORDINATOR, DEFAULT_PORT
from coordinator.cli.owner import SOFTWARE
from coordinator.settings import CoordinatorSettings
from poolproof.challenge import Method
from poolproof.instructions import Software
from poolproof.variant import Variant
from poolproof.verification import State
from tests.cli.running import run
from tests.cli.snapshots import golden

_CONTEXT = click.Context(poolproof, info_name="poolproof")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def command(name: str) -> click.Command:
    found = poolproof.get_command(_CONTEXT, name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help(name: str) -> None:
    result = run(*([name] if name else []), "--help")
    assert (result.code, result.err) == (0, "")
    assert "xample" in result.out or not name
    golden(f"help/{name or 'poolproof'}.txt", result.out)


@pytest.mark.parametrize(("name", "line"), [*((n, line) for n, (_, line) in COMMANDS.items()), *FOREIGN.items()])
def test_the_line_about_a_command_is_its_own(name: str, line: str) -> None:
    assert command(name).get_short_help_str(100) == line


def test_every_command_is_listed_once() -> None:
    listed = [name for _, names in SECTIONS for name in names]
    assert sorted(listed) == sorted(poolproof.list_commands(_CONTEXT)) == sorted({*COMMANDS, *FOREIGN})


def test_every_exit_code_is_in_the_help() -> None:
    lines = [line.split(None, 1) for line in run("--help").out.partition("Exit codes:")[2].splitlines() if line]
    assert [(int(number), meaning) for number, meaning in lines] == [(code.value, code.meaning) for code in ExitCode]
    assert len({code.word for code in ExitCode}) == len(ExitCode)


def test_the_default_coordinator_is_where_one_listens() -> None:
    assert CoordinatorSettings.__dataclass_fields__["listen"].default == DEFAULT_COORDINATOR
    assert DEFAULT_COORDINATOR.endswith(f":{DEFAULT_PORT}")


def choices(name: str, option: str) -> list[Any]:
    kind = next(parameter.type for parameter in command(name).params if option in parameter.opts)
    assert isinstance(kind, click.Choice)
    return list(kind.choices)


def test_choices_are_those_of_the_kernel() -> None:
    assert list(SOFTWARE) == [software.value for software in Software]
    assert list(STATES) == [state.value for state in State]
    assert choices("request", "--method") == [method.value for method in Method]
    assert choices("request", "--variant") == [variant.value for variant in Variant]


@pytest.mark.parametrize(
    "arguments", [("--help",), ("watch", "--help"), ("coordinator", "--help"), ("completion", "zsh")]
)
def test_help_and_completion_wait_for_no_slow_import(arguments: tuple[str, ...]) -> None:
    slow = ("grpc", "google", "rich", "opentelemetry", "sqlite3", "asyncio")
    program = (
        "import sys\nfrom coordinator.cli import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {slow!r} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr.strip() == "[]"
    assert ended.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_asks_poolproof(shell: str) -> None:
    result = run("completion", shell)
    assert result.code == 0
    assert f"_POOLPROOF_COMPLETE={shell}_complete" in result.out


def test_the_version() -> None:
    assert run("--version").out == f"poolproof {version('poolproof')}\n"


def test_a_command_that_is_none_is_a_usage_error() -> None:
    result = run("wach")
    assert (result.code, result.out) == (ExitCode.USAGE, "")
    assert "No such command 'wach'" in result.err
