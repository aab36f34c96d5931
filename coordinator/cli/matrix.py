"""The matrix: perspectives by rounds, as a terminal shows it. Pure: a snapshot in, something for rich out.

Every outcome has a sign of its own and a colour; the mark `*` says that it is not what was asked for. Nothing is lost
where there are no colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from coordinator.cli.snapshot import Line, RoundLine, Snapshot
from poolproof.challenge import Expectation
from poolproof.fleet import Role
from poolproof.outcome import Outcome
from poolproof.utc import utc
from poolproof.verdict import Reason

ROLE_WORDS: Final = {
    Role.ALLOWED_MONITOR: "monitor",
    Role.MUST_BE_BLOCKED: "verifier",
    Role.WITNESS: "witness",
}
_SIGNS: Final[dict[Outcome | None, tuple[str, str, str]]] = {
    Outcome.REPLIED: ("●", "A", "answered"),
    Outcome.UNSYNCHRONISED: ("◐", "U", "answered, not synchronised"),
    Outcome.RATE_LIMITED: ("R", "R", "rate-limited (an answer)"),
    Outcome.LATE: ("L", "L", "answered late"),
    Outcome.REFUSED: ("×", "x", "refused"),  # noqa: RUF001 - a cross is meant
    Outcome.SILENT: ("○", "-", "silent"),
    Outcome.MALFORMED: ("?", "?", "something that answers nothing of ours"),
    Outcome.PROBE_FAILED: ("!", "!", "probe failed: says nothing"),
    None: ("·", ".", "not known yet"),
}
_MARK: Final = "*"
_HIDDEN: Final = "hidden"
_ROUND: Final = 3
"""Letters that one round takes, with the gap before it."""
_FEWEST_ROUNDS: Final = 3
"""So many rounds are shown even where there is no room."""


def sign(outcome: Outcome | None, *, unicode: bool = True) -> str:
    """The sign of an outcome, one column wide."""
    return _SIGNS[outcome][0 if unicode else 1]


def is_as_asked(expected: Expectation, outcome: Outcome) -> bool | None:
    """Whether an outcome is what a cell asks for; None: it says nothing."""
    if outcome in (Outcome.PROBE_FAILED, Outcome.MALFORMED):
        return None
    if expected is Expectation.ANSWER:
        return outcome.shows_presence
    return not outcome.is_answer


def cell(expected: Expectation, outcome: Outcome | None, *, unicode: bool = True) -> Text:
    """One cell: sign, mark and colour."""
    shown = sign(outcome, unicode=unicode)
    if outcome is None:
        return Text(shown, style="dim")
    right = is_as_asked(expected, outcome)
    if right is None:
        return Text(shown, style="magenta")
    if right:
        return Text(shown, style="green" if expected is Expectation.ANSWER else "cyan")
    # An answer where silence was asked refutes; a lost answer only weakens.
    return Text(shown + _MARK, style="bold white on red" if expected is Expectation.SILENCE else "yellow")


def matrix_table(snapshot: Snapshot, *, width: int = 120, unicode: bool = True) -> Table:
    """The matrix of the current attempt.

    Args:
        snapshot: with rows and rounds.
        width: of the terminal; the oldest rounds are left out where there is no room for them.
        unicode: whether the terminal can show more than ASCII.
    """
    several_kinds = len({line.kind for line in snapshot.lines}) > 1
    lines = sorted(snapshot.lines, key=lambda each: list(Role).index(each.view.role))
    names = ("role", "vantage", "source", "ASN", "RIR", *(["asks"] if several_kinds else []), "expected", "base")
    heads = [_head(line, several_kinds) for line in lines]
    widths = [max(map(len, column)) for column in zip(names, *heads, strict=True)]
    shown = snapshot.rounds[-max(_FEWEST_ROUNDS, (width - sum(widths) - len(widths)) // _ROUND) :]
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for name in names:
        # Addresses fold where there is too little room; everything else is short.
        table.add_column(name, no_wrap=name not in ("vantage", "source"), overflow="fold")
    for fired in shown:
        table.add_column(str(fired.number + 1), width=_ROUND - 1, no_wrap=True)
    before: Role | None = None
    for line, head in zip(lines, heads, strict=True):
        if before not in (None, line.view.role):
            table.add_section()
        before = line.view.role
        table.add_row(
            *(Text(word, style="dim" if word == _HIDDEN else "") for word in head), *_row(line, shown, unicode)
        )
    if shown and lines:
        table.add_section()
        table.add_row("counts", *[""] * (len(names) - 1), *(_counts(fired) for fired in shown))
    return table


def _head(line: Line, several_kinds: bool) -> tuple[str, ...]:
    view = line.view
    untold = view.role is Role.WITNESS and not view.source
    return (
        ROLE_WORDS[view.role],
        view.vantage,
        _HIDDEN if untold else view.source,
        _HIDDEN if untold else f"AS{view.asn}",
        _HIDDEN if view.rir is None else view.rir.name,
        *((line.kind.value,) if several_kinds else ()),
        "/".join(dict.fromkeys(expected.value for expected in line.expected)),
        f"{line.answered}/{line.asked}",
    )


def _row(line: Line, shown: Sequence[RoundLine], unicode: bool) -> Iterator[Text]:
    for fired in shown:
        outcome = line.outcomes[fired.number] if fired.number < len(line.outcomes) else None
        yield cell(line.expected[fired.window], outcome, unicode=unicode)


def _counts(fired: RoundLine) -> Text:
    if fired.reason is None:
        return Text("y", style="green")
    waiting = fired.reason is Reason.REPORT_MISSING
    return Text("." if waiting else "n", style="dim" if waiting else "yellow")


def legend(snapshot: Snapshot, *, unicode: bool = True) -> Text:
    """What the signs mean that occur in the matrix."""
    present = {outcome for line in snapshot.lines for outcome in line.outcomes}
    parts = [f"{sign(outcome, unicode=unicode)} {_SIGNS[outcome][2]}" for outcome in _SIGNS if outcome in present]
    wrong = any(
        outcome is not None and is_as_asked(line.expected[fired.window], outcome) is False
        for line in snapshot.lines
        for fired, outcome in zip(snapshot.rounds, line.outcomes, strict=False)
    )
    if wrong:
        parts.append(f"{_MARK} not what was asked")
    return Text("   ".join(parts), style="dim")


def rounds_not_counted(snapshot: Snapshot) -> tuple[str, ...]:
    """A line for each round that does not count, with the reason."""
    lines = []
    for fired in snapshot.rounds:
        if fired.reason is not None:
            served = f"{fired.monitors_served}/{fired.monitors_asked} monitors answered"
            if fired.witnesses_asked:
                served += f", {fired.witnesses_served}/{fired.witnesses_asked} witnesses"
            waiting = fired.reason is Reason.REPORT_MISSING
            verb = "has not been reported whole" if waiting else f"does not count: {fired.reason.value}"
            lines.append(f"round {fired.number + 1} of {utc(fired.start_at_ns)} {verb} ({served})")
    return tuple(lines)
