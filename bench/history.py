"""What `make bench` measured, one line of JSON a run, kept in the repository.

Figures of two machines, or of one machine on two days, are not to be compared; ratios within a line are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = Path(__file__).with_name("history.jsonl")


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        date: when it began, ISO 8601, UTC.
        commit: what was measured; ends with `+` if the work tree had changes.
        cores: processors of the machine.
        figures: what was measured.
    """

    date: str
    commit: str
    cores: int
    figures: Mapping[str, float]


def append(run: Run, file: Path = FILE) -> None:
    """Adds a run at the end, figures to four significant digits."""
    rounded = {name: float(f"{value:.4g}") for name, value in run.figures.items()}
    line = json.dumps({**asdict(run), "figures": rounded}, sort_keys=False)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def runs(file: Path = FILE) -> tuple[Run, ...]:
    """All runs, oldest first.

    Raises:
        ValueError: a line is not a run; the message names file and line.
    """
    found: list[Run] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(Run(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file.name}, line {number}: {error}; remove the line or mend it") from None
    return tuple(found)
