"""The terminal that commands draw on."""

from __future__ import annotations

import sys
from typing import Final

import click
from rich.console import Console, RenderableType

PIPE_WIDTH: Final = 120
"""Columns where there is no terminal to ask."""


def screen() -> Console:
    """A console on stdout that takes nothing for markup and colours no words by itself."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def has_unicode(console: Console) -> bool:
    """Whether the console can show more than ASCII."""
    return console.encoding.lower().startswith("utf")


def show(drawn: RenderableType, console: Console | None = None) -> None:
    """Draws something; to a pipe without blanks at the ends of lines."""
    console = console or screen()
    if console.is_terminal:
        console.print(drawn)
        return
    with console.capture() as captured:
        console.print(drawn)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
