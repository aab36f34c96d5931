"""One search with atheris, in a process of its own: `python -m tests.fuzz.drive NAME LIBFUZZER-ARGUMENTS...`.

Atheris has to see the modules under test while they are imported, and libFuzzer ends the process when it is done.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import atheris

UNDER_TEST = ["poolproof", "coordinator", "probe", "tests.fuzz"]
"""The harnesses too: what they build of the bytes, and what it came to, are what inputs should differ in."""


def main(name: str, arguments: Sequence[str]) -> None:
    """Search until libFuzzer's arguments say that it is enough, or something is found."""
    with atheris.instrument_imports(include=UNDER_TEST):
        harnesses: Any = importlib.import_module("tests.fuzz.harnesses")
    check: Callable[[bytes], str] = harnesses.HARNESSES[name].check

    def one_input(data: bytes) -> None:
        check(data)

    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
