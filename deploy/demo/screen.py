"""What the demo shows: progress while it runs, and at the end the verdicts, what they rest on, and one trace."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from coordinator.cli.matrix import legend, matrix_table
from coordinator.cli.verdict_table import VerdictRow, verdict_table
from coordinator.cli.verdict_text import VERDICT_STYLES
from coordinator.trace_tree import draw
from deploy.demo.coordination import Coordination
from deploy.demo.owners import Story
from poolproof import semconv
from poolproof.span import Span
from poolproof.wire.trace import span_from_wire


class Progress:
    """A table of the stories that follows them; a line for each change where there is no terminal."""

    def __init__(self, console: Console, stories: Sequence[Story]) -> None:
        self._console, self._stories = console, stories
        self._began_s = time.monotonic()
        self._told: dict[str, int] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self) -> None:
        """Draw what there is."""
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            return
        for story in self._stories:
            for line in story.lived[self._told.get(story.owner, 0) :]:
                self._console.print(f"{story.owner:<6} {line}", highlight=False)
            self._told[story.owner] = len(story.lived)

    def _table(self) -> Table:
        table = Table(title=f"{time.monotonic() - self._began_s:.0f} s", title_justify="left", box=None)
        for heading in ("owner", "server", "asked for", "baseline", "rounds", "now"):
            table.add_column(heading, no_wrap=heading != "now")
        for story in self._stories:
            seen = story.snapshot
            baseline = f"{seen.baseline_known}/{seen.baseline_asked}" if seen else "-"
            rounds = "".join("●" if line.reason is None else "○" for line in seen.rounds) if seen else ""
            table.add_row(story.owner, story.server.label, story.variant.value, baseline, rounds or "-", story.said)
        return table


async def finale(console: Console, stories: Sequence[Story], world: Coordination) -> None:
    """The verdicts one by one, the table of all, a matrix, and a trace as a tree."""
    for story in stories:
        await _ending(console, story, world)
    shown = next((story for story in stories if story.verdict.startswith("proven")), stories[0])
    if shown.snapshot is not None:
        console.rule(f"The matrix of {shown.owner}: who asked, and what came back", align="left")
        console.print(matrix_table(shown.snapshot, width=console.width), legend(shown.snapshot))
        console.print()
    refuted = next((story for story in stories if story.verdict == "refuted"), shown)
    if refuted.snapshot is not None:
        console.rule(f"The trace of {refuted.owner}: from the request to each packet", align="left")
        answer = await world.trace(refuted.snapshot.id)
        spans = tuple(map(span_from_wire, answer.spans))
        by = refuted.snapshot.judgement.refuted_by
        shown_spans = _few_jobs(spans, by.vantage if by else "")
        console.print(draw(shown_spans))
        console.print(
            f"{len(spans) - len(shown_spans)} more spans of the other probes: `poolproof trace` draws them all"
        )
        console.print()
    console.rule("Verdicts", align="left")
    rows = [
        VerdictRow(story.owner, story.server.label, story.snapshot, seconds=story.seconds)
        for story in stories
        if story.snapshot is not None
    ]
    console.print(verdict_table(rows))


async def _ending(console: Console, story: Story, world: Coordination) -> None:
    if story.snapshot is None:
        return
    told = await world.explain(story.snapshot.id)
    word = story.snapshot.judgement.word
    lines = [Text(f"{story.owner} {story.plot}."), *(Text(line, style="dim") for line in story.lived)]
    lines += [Text(), Text(told.headline), Text(told.advice, style="italic")]
    title = Text.assemble(f"{story.owner}, {story.server.label}, {story.variant.value}: ", (word, VERDICT_STYLES[word]))
    console.print(Panel(Group(*lines), title=title, title_align="left"))


def _few_jobs(spans: Sequence[Span], vantage: str) -> tuple[Span, ...]:
    """The spans of an attempt, but of each baseline and round only one dispatch with all that is below it.

    That of `vantage` where there is one, else the first.
    """
    children: dict[bytes | None, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start_ns):
        children.setdefault(span.parent, []).append(span)
    kept: list[Span] = []
    waiting = [*children.get(None, ())]
    while waiting:
        span = waiting.pop()
        kept.append(span)
        below = children.get(span.context.span_id, [])
        jobs = [child for child in below if child.name == semconv.DISPATCH]
        jobs.sort(key=lambda job: vantage not in job.attributes.values())
        waiting += [child for child in below if child.name != semconv.DISPATCH] + jobs[:1]
    return tuple(kept)
