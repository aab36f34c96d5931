"""Keys of JSON as docs/command.md writes them, read from the page and from what is printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.docs.pages import rows, section, text

_OPEN = ("attributes", "resource")
"""Objects whose keys are data."""


def documented(heading: str) -> frozenset[str]:
    """Keys of the table below a heading."""
    return frozenset(row[0].strip("`") for row in rows(section(text("docs/command.md"), f"## {heading}")))


def keys(value: Any, at: str = "") -> Iterator[str]:
    """Paths of all leaves: `rows[].vantage`; of an empty or missing part the path of the part itself."""
    if isinstance(value, dict) and at.rpartition(".")[2] not in _OPEN:
        for name, each in value.items():
            yield from keys(each, f"{at}.{name}" if at else name)
    elif isinstance(value, list) and value:
        for each in value:
            yield from keys(each, f"{at}[]")
    else:
        yield f"{at}[]" if isinstance(value, list) else at


def undocumented(value: Any, heading: str) -> set[str]:
    """Printed paths that the page does not have; a part that is missing or empty needs only keys below it."""
    known = documented(heading)
    return {
        path
        for path in keys(value)
        if path not in known and not any(one.startswith((f"{path}.", f"{path.removesuffix('[]')}[]")) for one in known)
    }
