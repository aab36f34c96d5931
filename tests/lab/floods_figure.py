"""The figure of docs/silence.md: share of a victim's questions answered, against the rate of a flood in its name.

Drawn as text, so that it needs no library and a test can compare it with the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tests.lab.silence import Cell

_DAEMON, _WALL = ("mode3-v4", "mode4", "mac-20"), ("mode3-v4", "short-47", "checksum")
_PANELS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "ntpsec": ("ntpsec, kod limited", _DAEMON),
    "classic": ("ntpd 4.2.8, kod limited", _DAEMON),
    "chrony-limit": ("chrony, ratelimit", _DAEMON),
    "chrony": ("chrony, no limit", _DAEMON),
    "nft-drop": ("firewall: limiter, drop", _WALL),
    "nft-reject": ("firewall: limiter, reject", _WALL),
    "nft-64-drop": ("firewall: limiter by /64", _WALL),
    "chrony-lan": ("chrony, no limit, on a LAN", ("redirect",)),
}
"""Server, title and kinds."""
_KINDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "mode3-v4": ("valid request", "#0072b2", "circle"),
    "mode4": ("answer (mode 4)", "#d55e00", "square"),
    "mac-20": ("bad MAC", "#009e73", "diamond"),
    "short-47": ("47 bytes", "#cc79a7", "square"),
    "checksum": ("wrong UDP checksum", "#7b3294", "triangle"),
    "redirect": ("ICMP redirect", "#333333", "diamond"),
}
"""Legend, colour (Okabe and Ito's, told apart without colour vision too) and shape."""
_RATES: Final = ("1/s", "2/s", "5/s", "50/s", "500/s")
_COLUMNS = 4
_WIDTH, _HEIGHT = 230, 190
_LEFT, _TOP, _GAP_X, _GAP_Y = 62, 112, 24, 66
_SIZE = (_LEFT + _COLUMNS * (_WIDTH + _GAP_X), _TOP + 2 * (_HEIGHT + _GAP_Y) + 16)
_NUDGE = 7.5
_REFUSED = "\N{MULTIPLICATION SIGN}"


def figure(cells: Mapping[tuple[str, str, str], Cell]) -> str:
    """An SVG of all panels that were measured."""
    width, height = _SIZE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">',
        "<title>Share of a victim's own questions that were answered while somebody flooded in its name</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<text x="16" y="26" font-size="15" font-weight="bold">Answered share of a victim\'s own questions, by rate of '
        "a flood in its name</text>",
        *_legend(),
    ]
    shown = [name for name in _PANELS if any(key[0] == name for key in cells)]
    for number, name in enumerate(shown):
        x = _LEFT + number % _COLUMNS * (_WIDTH + _GAP_X)
        y = _TOP + number // _COLUMNS * (_HEIGHT + _GAP_Y)
        lines.append(f'<g transform="translate({x} {y})">')
        lines += _panel(name, cells, left=number % _COLUMNS == 0)
        lines.append("</g>")
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> Iterator[str]:
    x = 16
    for label, colour, shape in _KINDS.values():
        yield _mark(shape, colour, x + 6, 50, filled=True)
        yield f'<text x="{x + 16}" y="54">{label}</text>'
        x += 40 + 7 * len(label)
    yield '<text x="16" y="76" fill="#444444">filled: the victim\'s wire saw packets that it had not asked for</text>'
    yield _mark("circle", "#444444", 452, 72, filled=False)
    yield '<text x="464" y="76" fill="#444444">hollow: nothing came; low and hollow is silence without a trace</text>'
    yield f'<text x="850" y="76" fill="#444444">{_REFUSED}  refused, not silent</text>'


def _panel(name: str, cells: Mapping[tuple[str, str, str], Cell], *, left: bool) -> Iterator[str]:
    title, kinds = _PANELS[name]
    yield f'<text x="0" y="-8" font-weight="bold">{title}</text>'
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fafafa" stroke="#bbbbbb"/>'
    for share in (0, 0.5, 1):
        y = _y(share)
        yield f'<line x1="0" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
        if left:
            yield f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'
    for place, label in enumerate(_RATES):
        yield f'<text x="{_x(place):.1f}" y="{_HEIGHT + 17}" text-anchor="middle">{label}</text>'
    yield f'<text x="{_WIDTH / 2}" y="{_HEIGHT + 34}" text-anchor="middle" fill="#444444">packets a second</text>'
    for number, kind in enumerate(kinds):
        _, colour, shape = _KINDS[kind]
        nudge = (number - (len(kinds) - 1) / 2) * _NUDGE
        points = [(_x(place) + nudge, cells[name, kind, label]) for place, label in enumerate(_RATES)]
        path = " ".join(f"{x:.1f},{_y(cell.answered / cell.asked):.1f}" for x, cell in points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-opacity="0.55"/>'
        for x, cell in points:
            y = _y(cell.answered / cell.asked)
            yield _mark(shape, colour, x, y, filled=cell.backscatter > 0)
            if cell.refused > cell.asked / 2:
                yield f'<text x="{x:.1f}" y="{y - 9:.1f}" text-anchor="middle" fill="{colour}">{_REFUSED}</text>'


def _x(place: float) -> float:
    return 26 + (_WIDTH - 52) * place / (len(_RATES) - 1)


def _y(share: float) -> float:
    return _HEIGHT - 20 - (_HEIGHT - 40) * share


def _mark(shape: str, colour: str, x: float, y: float, *, filled: bool) -> str:
    style = f'fill="{colour if filled else "#ffffff"}" stroke="{colour}" stroke-width="1.6"'
    match shape:
        case "circle":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.4" {style}/>'
        case "square":
            return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" {style}/>'
        case "diamond":
            corners = ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0))
        case _:
            corners = ((0, -5), (5, 4), (-5, 4), (0, -5))
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)}" {style}/>'
