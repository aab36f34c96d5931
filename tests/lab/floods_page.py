"""Tables and figure of docs/silence.md from what `tests.lab.silence` measured: `python -m tests.lab.floods_page`.

Writes the tables between their marks on the page, and the figure beside the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.lab.floods import KINDS
from tests.lab.floods_figure import figure
from tests.lab.floods_servers import SERVERS
from tests.lab.silence import RHYTHMS, Cell, load

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "silence.md"
MEASURED: Final = ROOT / "docs" / "figures" / "silence.json"
FIGURE: Final = ROOT / "docs" / "figures" / "silence.svg"

_DAEMONS = ("ntpsec", "ntpsec-no-kod", "classic", "chrony-limit", "chrony", "openntpd")
_SHORT = {
    "ntpsec": "ntpsec `kod limited`",
    "ntpsec-no-kod": "without `kod`",
    "classic": "ntpd 4.2.8",
    "chrony-limit": "chrony `ratelimit`",
    "chrony": "chrony",
    "openntpd": "openntpd",
}
_QUIET = {"ntpsec": "mode4", "ntpsec-6": "mode4", "ntpsec-no-kod": "mode4", "classic": "mode4"}
"""A kind that is counted and not answered; elsewhere a bad MAC."""
_STEADY = ("1/s", "2/s", "5/s", "50/s", "500/s", "pulses")

Table = dict[tuple[str, str, str], Cell]


def by_kind(cells: Table) -> str:
    """Every kind at 50 a second, by daemon."""
    names = [name for name in _DAEMONS if any(key[0] == name for key in cells)]
    return _markdown(
        ["kind of packet", *(_SHORT[name] for name in names)],
        [
            [kind.what, *(_text(cells[name, key, "50/s"]) for name in names)]
            for key, kind in KINDS.items()
            if (names[0], key, "50/s") in cells
        ],
    )


def by_rhythm(cells: Table) -> str:
    """A kind that is answered and one that is not, by rhythm."""
    rows = []
    for name, server in SERVERS.items():
        if server.limiter:
            continue
        for kind in ("mode3-v4", _QUIET.get(name, "mac-20"), "redirect"):
            if (name, kind, "50/s") in cells:
                what = f"{server.what}, {KINDS[kind].what}"
                rows.append([what, *(_text(cells[name, kind, rhythm]) for rhythm in _STEADY)])
    return _markdown(["server and kind", *_STEADY], rows)


def by_firewall(cells: Table) -> str:
    """Limiters before a daemon that has none."""
    rows = [
        [f"{SERVERS[name].what}, {KINDS[kind].what}", *(_text(cells[name, kind, rhythm]) for rhythm in RHYTHMS)]
        for name, server in SERVERS.items()
        if server.limiter
        for kind in server.kinds
        if (name, kind, "50/s") in cells
    ]
    return _markdown(["limiter and kind", *RHYTHMS], rows)


TABLES: Final[Mapping[str, Callable[[Table], str]]] = {
    "kinds": by_kind,
    "rhythms": by_rhythm,
    "firewalls": by_firewall,
}
"""By the mark that stands before and after each on the page."""


def table(cells: Iterable[Cell]) -> Table:
    """Cells by server, kind and rhythm."""
    return {(cell.server, cell.kind, cell.rhythm): cell for cell in cells}


def _text(cell: Cell) -> str:
    """`answered/asked`, refusals, and backscatter in the first second and later; bold: silenced without a trace."""
    words = [f"{cell.answered}/{cell.asked}"]
    if cell.refused:
        words.append(f"{cell.refused} refused")
    at_once, later = cell.udp_at_once + cell.icmp_at_once, cell.udp_later + cell.icmp_later
    if cell.backscatter:
        words.append(f"{at_once}+{later}")
    said = ", ".join(words)
    return f"**{said}**" if cell.answered < cell.asked and not cell.backscatter else said


def _markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(page: str, cells: Table) -> str:
    """The page with its tables as measured.

    Raises:
        ValueError: a table's marks are missing.
    """
    for name, render in TABLES.items():
        mark = f"<!-- {name} -->\n"
        parts = page.split(mark)
        if len(parts) != 3:
            raise ValueError(f"{PAGE.name}: put {mark.strip()!r} before and after the table, once")
        page = f"{parts[0]}{mark}{render(cells)}{mark}{parts[2]}"
    return page


def main() -> None:
    """Write both."""
    cells = table(load(MEASURED))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), cells), encoding="utf-8")
    FIGURE.write_text(figure(cells), encoding="utf-8")


if __name__ == "__main__":
    main()
