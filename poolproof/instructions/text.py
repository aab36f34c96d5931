"""Instructions as plain text for a terminal.

Words are wrapped; lines and commands never are, and stand alone on unindented lines, so that they can be pasted. What
goes to the end of a file is shown as a here-document, which does it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from poolproof.instructions.model import Instructions, Step

_WIDTH: Final = 100


def render(instructions: Instructions) -> str:
    """The whole text, ending in a newline."""
    return "\n".join(_all(instructions)) + "\n"


def _all(instructions: Instructions) -> Iterator[str]:
    yield instructions.title
    yield "=" * min(len(instructions.title), _WIDTH)
    yield from _words(instructions.summary)
    yield from _words(f"Assurance: {instructions.assurance_note}")
    yield ""
    yield "Run the commands as root."
    yield from _steps("STEP", instructions.steps)
    yield from _steps("UNDO", instructions.undo)
    yield ""
    yield "NOTE"
    for caveat in instructions.caveats:
        yield textwrap.fill(caveat, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _steps(heading: str, steps: Sequence[Step]) -> Iterator[str]:
    for number, step in enumerate(steps, start=1):
        yield ""
        yield textwrap.fill(f"{heading} {number}. {step.text}", _WIDTH, break_on_hyphens=False)
        yield from _pasted(step)
        if step.check:
            yield ""
            yield textwrap.fill(
                f"  Check: shows {step.expect}.", _WIDTH, subsequent_indent="  ", break_on_hyphens=False
            )
            yield from step.check


def _pasted(step: Step) -> Iterator[str]:
    if step.lines:
        yield ""
        if step.file is None:
            yield from step.lines
        else:
            yield f"cat >> {step.file} <<'END'"
            yield from step.lines
            yield "END"
    if step.commands:
        yield ""
        yield from step.commands


def _words(text: str) -> Iterator[str]:
    yield ""
    yield textwrap.fill(text, _WIDTH, break_on_hyphens=False)
