"""Style rules as tests: each is shown to catch its sample, and then holds for every file of the repository."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

from tests.tidy import rules

ROOT = Path(__file__).resolve().parents[2]
GENERATED = "poolproof/v1/"
SLEEPS_ALLOWED: dict[str, str] = {}
"""Test modules that may sleep on wall time, with the reason why nothing else will do."""


@cache
def files() -> tuple[PurePosixPath, ...]:
    """Everything that is committed or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = sorted({PurePosixPath(path) for path in listed.stdout.split("\0") if path})
    return tuple(path for path in paths if (ROOT / path).is_file() and not str(path).startswith(GENERATED))


def texts(*suffixes: str, under: str = "") -> Iterator[tuple[PurePosixPath, str]]:
    for path in files():
        if str(path).startswith(under) and (not suffixes or path.suffix in suffixes):
            try:
                yield path, (ROOT / path).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # not text


def faults(
    rule: Callable[[str], Iterator[str]], *suffixes: str, under: str = "", leave_out: tuple[str, ...] = ()
) -> list[str]:
    return [
        f"{path}: {fault}"
        for path, text in texts(*suffixes, under=under)
        if not str(path).startswith(leave_out or ("\0",))
        for fault in rule(text)
    ]


def test_modules_are_short() -> None:
    assert list(rules.too_long("x = 1\n" * 401))
    assert not list(rules.too_long("x = 1\n" * 400))
    assert faults(rules.too_long, ".py", ".sh") == []


@pytest.mark.parametrize("name", ["coordinator/utils.py", "tests/helpers/x.py", "probe/_common.py", "probe/manager.py"])
def test_a_name_that_says_nothing_is_found(name: str) -> None:
    assert list(rules.says_nothing(PurePosixPath(name)))


def test_names_say_what_lives_there() -> None:
    named = [path for path in files() if path.suffix in {".py", ".sh", ".proto"}]
    assert [f"{path}: {fault}" for path in named for fault in rules.says_nothing(path)] == []


def test_nothing_is_left_over() -> None:
    assert list(rules.left_over("# TO" + "DO: later"))
    assert list(rules.left_over("raise NotImplemented" + "Error"))
    assert not list(rules.left_over("mktemp -d /tmp/a.XXXXXX"))
    assert faults(rules.left_over) == []


def test_no_path_of_one_machine() -> None:
    assert list(rules.machine_paths("see /" + "root/x"))
    assert list(rules.machine_paths('"/' + 'home/someone/y"'))
    assert not list(rules.machine_paths("https://example.org/" + "home/x and network/" + "work/x"))
    assert faults(rules.machine_paths) == []


@pytest.mark.parametrize("call", ["time.sleep(1)", "await asyncio.sleep(0.2)", "sleep(3)"])
def test_a_sleep_is_found(call: str) -> None:
    assert list(rules.wall_sleeps(f"async def f():\n    {call}\n"))


@pytest.mark.parametrize("call", ["await asyncio.sleep(0)", "time.sleep(0.01)", "clock.sleep(step)"])
def test_a_yield_or_a_short_poll_is_no_sleep(call: str) -> None:
    assert not list(rules.wall_sleeps(f"async def f():\n    {call}\n"))


def test_tests_do_not_sleep() -> None:
    assert faults(rules.wall_sleeps, ".py", under="tests/", leave_out=tuple(SLEEPS_ALLOWED)) == []


def test_no_test_is_switched_off() -> None:
    assert list(rules.skips("import pytest\n@pytest.mark.skip(reason='later')\ndef test_x(): ...\n"))
    assert list(rules.skips("import pytest\n@pytest.mark.xfail\ndef test_x(): ...\n"))
    assert not list(rules.skips("import pytest\n@pytest.mark.skipif(True, reason='no root')\ndef test_x(): ...\n"))
    assert faults(rules.skips, ".py", under="tests/") == []


def test_links_and_anchors_are_read_from_markdown() -> None:
    page = "# A b, c!\n[x](y.md#z) ![p](q.png)\n```\n[no](code.md)\n```\n`[no](code.md)`\n[r]: ref.md\n## A b, c!\n"
    assert list(rules.links(page)) == ["y.md#z", "q.png", "ref.md"]
    assert rules.anchors(page) == {"a-b-c", "a-b-c-1"}


def test_relative_links_of_the_docs_resolve() -> None:
    dead = []
    for path, text in texts(".md"):
        for link in rules.links(text):
            if "://" in link or link.startswith("mailto:"):
                continue
            target, _, anchor = link.partition("#")
            page = (ROOT / path).parent / target if target else ROOT / path
            if not page.exists():
                dead.append(f"{path}: {link}: no such file")
            elif anchor and page.suffix == ".md" and anchor not in rules.anchors(page.read_text(encoding="utf-8")):
                dead.append(f"{path}: {link}: no such heading")
    assert dead == []


def test_decisions_are_short() -> None:
    assert list(rules.too_many_words("word " * 301))
    assert faults(rules.too_many_words, ".md", under="docs/decisions/") == []
