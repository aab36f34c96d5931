"""A small corpus out of a large one: `python -m tests.fuzz.distil NAME FOLDER...`.

Which lines of ours run after which, and what the harness says that an input came to, is what inputs differ in. Of all
inputs the one that adds most is kept, again and again, until none adds anything or there are enough.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.harness import MAX_BYTES
from tests.fuzz.harnesses import CORPUS, HARNESSES

MOST_FILES = 50
TIMES = 4
"""Inputs that reach the same line in the same order still differ in what they say there."""
ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(str(ROOT / each) + "/" for each in ("poolproof", "coordinator", "probe", "tests/fuzz"))
_GENERATED = str(ROOT / "poolproof" / "v1") + "/"
Mark = tuple[str, int, int]
"""A module, and two lines of it that ran one after the other."""


def marks_of(check: Callable[[bytes], str], data: bytes) -> frozenset[Mark]:
    """What one input reaches."""
    found: set[Mark] = set()
    last: dict[int, int] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        path = frame.f_code.co_filename
        if not path.startswith(_OURS) or path.startswith(_GENERATED):
            return None
        if event == "line":
            before = last.get(id(frame), 0)
            found.add((path, before, frame.f_lineno))
            last[id(frame)] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        end = check(data)
    finally:
        sys.settrace(None)
    return frozenset(found | {(end, 0, 0)})


def distilled(reached: Mapping[bytes, frozenset[Mark]], most: int = MOST_FILES, times: int = TIMES) -> list[bytes]:
    """The inputs to keep, those that add most first; of equals the shortest. Each mark is wanted so many times."""
    left = dict(sorted(reached.items(), key=lambda item: (len(item[0]), item[0])))
    kept: list[bytes] = []
    for _ in range(times):
        known: set[Mark] = set()
        while left and len(kept) < most:
            best = max(left, key=lambda data: len(left[data] - known))
            gain = left[best] - known
            if not gain:
                break
            del left[best]
            kept.append(best)
            known |= gain
    return kept


def main(name: str, folders: Iterable[Path]) -> None:
    """Distil the folders and the committed corpus into the committed corpus; print the counts as JSON."""
    harness, target = HARNESSES[name], CORPUS / name
    inputs = {path.read_bytes() for folder in (*folders, target) for path in folder.glob("*") if path.is_file()}
    inputs |= set(harness.seeds)
    reached = {data: marks_of(harness.check, data) for data in sorted(inputs) if len(data) <= MAX_BYTES}
    kept = distilled(reached)
    target.mkdir(parents=True, exist_ok=True)
    names = {hashlib.sha256(data).hexdigest()[:16]: data for data in kept}
    for path in target.glob("*"):
        if path.name not in names:
            path.unlink()
    for file_name, data in names.items():
        (target / file_name).write_bytes(data)
    all_marks = frozenset[Mark]().union(*reached.values())
    kept_marks = frozenset[Mark]().union(*(reached[data] for data in kept))
    lines = {(path, line) for path, _, line in kept_marks if line and not path.startswith(_OURS[-1])}
    print(
        json.dumps(
            {
                "of": len(inputs),
                "files": len(kept),
                "marks": len(kept_marks),
                "all": len(all_marks),
                "lines": len(lines),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], [Path(each) for each in sys.argv[2:]])
