"""The house's rules that no linter knows, as functions from a file's text to what is wrong with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

MAX_LINES = 400
MAX_DECISION_WORDS = 300
LONGEST_SLEEP_S = 0.05
BANNED_NAMES = frozenset({"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"})
"""Names that say nothing about what lives in a module."""

_LEFT_OVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|NotImplemented" r"Error")
_MACHINE_PATH = re.compile(r"(?<![\w.:])/(?:root|work|farm|home|Users)/[\w.]")
_LINK = re.compile(
    r"(?<!!)\[[^\]]*\]\(([^)\s]+)[^)]*\)|!\[[^\]]*\]\(([^)\s]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE
)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def too_long(source: str) -> Iterator[str]:
    """Modules that nobody reads to the end."""
    lines = source.count("\n")
    if lines > MAX_LINES:
        yield f"{lines} lines; split it, {MAX_LINES} is the most"


def says_nothing(path: PurePosixPath) -> Iterator[str]:
    """Files and folders named after nothing in particular."""
    for part in (*path.parts[:-1], path.stem):
        if part.lower().strip("_") in BANNED_NAMES:
            yield f"the name {part!r} does not say what lives there"


def left_over(text: str) -> Iterator[str]:
    """Marks of unfinished work."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _LEFT_OVER.search(line):
            yield f"line {number}: {found[0]}: finish it, or open an issue and take the mark out"


def machine_paths(text: str) -> Iterator[str]:
    """Paths that exist on one person's machine only."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _MACHINE_PATH.search(line):
            yield f"line {number}: {found[0]}...: a path of one machine"


def wall_sleeps(source: str) -> Iterator[str]:
    """Sleeps on wall time: a test waits for a condition, with a bounded deadline, and never for time to pass."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        seconds = node.args[0]
        if name != "sleep" or not isinstance(seconds, ast.Constant) or not isinstance(seconds.value, int | float):
            continue
        if seconds.value > LONGEST_SLEEP_S:
            yield f"line {node.lineno}: sleeps {seconds.value} s; wait for the condition instead"


def skips(source: str) -> Iterator[str]:
    """Tests that are marked as skipped, or expected to fail, for good."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in {"skip", "xfail"}
            and _dotted(node).startswith("pytest.mark.")
        ):
            yield f"line {node.lineno}: {_dotted(node)}: mend the test or delete it"


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def links(markdown: str) -> Iterator[str]:
    """Targets of all links outside of code."""
    for match in _LINK.finditer(_CODE.sub("", _FENCE.sub("", markdown))):
        yield match[1] or match[2] or match[3]


def anchors(markdown: str) -> frozenset[str]:
    """The anchors that a forge makes of a page's headings."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", markdown)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-{sum(a.startswith(slug) for a in found)}")
    return frozenset(found)


def too_many_words(markdown: str) -> Iterator[str]:
    """Decision records that are no longer short."""
    words = len(markdown.split())
    if words > MAX_DECISION_WORDS:
        yield f"{words} words; {MAX_DECISION_WORDS} is the most"
