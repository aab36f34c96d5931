"""Commands that the documentation names exist: targets of the Makefile, and sub-commands and options of `poolproof`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from coordinator.cli.app import poolproof
from tests.docs.pages import PAGES, ROOT, text

_CODE = re.compile(r"^    [^\n]*$|`[^`\n]+`|^```.*?^```", re.MULTILINE | re.DOTALL)
_TARGETS = frozenset(re.findall(r"^([a-z]+): .*## ", text("Makefile"), re.MULTILINE))
_GROUP = click.Context(poolproof, info_name="poolproof")
_PLACEHOLDER = "COMMAND"


def code() -> Iterator[tuple[str, str]]:
    """Lines of code of all pages, without comments: (page, line)."""
    for page in PAGES:
        for block in _CODE.findall(page.read_text(encoding="utf-8")):
            for line in block.strip("`").splitlines():
                yield str(page.relative_to(ROOT)), line.split(" #")[0].strip("` ")


def named(program: str) -> list[tuple[str, list[str]]]:
    """Uses of a program: (page, words after it)."""
    lines = ((page, line.removeprefix("$ ").split()) for page, line in code())
    return [(page, words[1:]) for page, words in lines if words[:1] == [program] and len(words) > 1]


def test_targets_that_are_named_exist() -> None:
    used = {(page, words[0]) for page, words in named("make")}
    assert {target for _, target in used} >= {"demo", "test", "sim"}
    assert {(page, target) for page, target in used if target not in _TARGETS} == set()


def test_contributing_lists_every_target() -> None:
    listed = set(re.findall(r"^    make ([a-z]+)", text("docs/contributing.md"), re.MULTILINE))
    assert listed == _TARGETS - {"help"}


def test_subcommands_that_are_named_exist() -> None:
    used = {(page, words[0]) for page, words in named("poolproof")} - {("README.md", _PLACEHOLDER)}
    known = poolproof.list_commands(_GROUP)
    assert {(page, name) for page, name in used if name not in known} == set()
    assert {name for _, name in used} >= {"coordinator", "probe", "request", "ready", "watch", "show"}


@pytest.mark.parametrize(
    ("page", "words"),
    [
        pytest.param(page, words, id=f"{page}: {' '.join(words)}")
        for page, words in named("poolproof")
        if words[0] != _PLACEHOLDER and any(word.startswith("--") for word in words)
    ],
)
def test_options_that_are_named_exist(page: str, words: list[str]) -> None:
    command = poolproof.get_command(_GROUP, words[0])
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= known, page
