"""`poolproof trace`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from coordinator.cli.options import client_options, connect, id_argument, operator_option

if TYPE_CHECKING:
    from poolproof.span import Span

_HELP = """Draw one attempt as a tree: the request, the rounds, each probe's job, and each packet with its outcome.

Spans of witnesses are left out unless --operator is given.

\b
Examples:
  poolproof trace k7d2
  poolproof trace k7d2 --attempt 1 --depth 2
  poolproof trace k7d2 --json | jq '.spans | length'
"""


@click.command(help=_HELP, short_help="One attempt as a tree, from request to packet.")
@id_argument
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Number.  [default: the latest]")
@click.option("--depth", type=click.IntRange(min=0), metavar="N", help="Levels.  [default: down to the packets]")
@operator_option
@client_options
def trace(
    verification: str, attempt: int | None, depth: int | None, operator: bool, address: str, as_json: bool
) -> None:
    """`poolproof trace`."""
    with connect(address) as coordinator:
        trace_id, spans = coordinator.trace(verification, attempt or 0, operator=operator)
    if as_json:
        from coordinator.cli.snapshot_json import pretty

        click.echo(pretty({"trace_id": trace_id or None, "spans": [_span(span) for span in spans]}))
        return
    from coordinator.cli.screen import screen
    from coordinator.trace_tree import draw, draw_text

    console = screen()
    if console.is_terminal:
        console.print(draw(spans, depth=depth))
    else:
        click.echo(draw_text(spans, depth=depth), nl=False)


def _span(span: Span) -> dict[str, Any]:
    from coordinator.cli.snapshot_json import time_json

    return {
        "trace_id": span.context.trace_id.hex(),
        "span_id": span.context.span_id.hex(),
        "parent_span_id": span.parent.hex() if span.parent is not None else None,
        "name": span.name,
        "kind": span.kind.value,
        "start": time_json(span.start_ns),
        "end": time_json(span.end_ns),
        "status": span.status.value,
        "status_detail": span.status_detail or None,
        "attributes": dict(span.attributes),
        "events": [
            {"name": event.name, "time": time_json(event.time_ns), "attributes": dict(event.attributes)}
            for event in span.events
        ],
        "links": [
            {"trace_id": link.context.trace_id.hex(), "span_id": link.context.span_id.hex()} for link in span.links
        ],
        "resource": dict(span.resource),
    }


COMMANDS = {"trace": trace}
