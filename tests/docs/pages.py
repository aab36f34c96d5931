"""The pages of the documentation, as the tests of this folder read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    """A page by its path below the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its rank or above."""
    level = heading.split(" ")[0]
    _, found, rest = page.partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def fences(page: str, language: str) -> Iterator[str]:
    """Blocks of code in one language."""
    return (body for kind, body in _FENCE.findall(page) if kind == language)


def rows(markdown: str) -> list[list[str]]:
    """Cells of all table rows, without headings and rulers."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    tables = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    rulers = {i for i, line in enumerate(lines) if set(line) <= set("|- :")}
    return [cells for i, cells in enumerate(tables) if i not in rulers and i + 1 not in rulers]


def word(cell: str) -> str:
    """The first word of a cell that is set as code; empty if there is none."""
    found = re.match(r"`([^`]+)`", cell)
    return found[1] if found else ""
