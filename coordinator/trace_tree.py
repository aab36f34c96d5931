"""A trace drawn as a tree, from the request to each packet. Pure: spans in, lines out.

Whatever comes is drawn: spans whose parent never arrived hang below a line that says so, circles are cut, and texts
from elsewhere can neither colour nor move anything on the terminal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Final

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from poolproof import semconv
from poolproof.span import Span, SpanEvent, SpanStatus

_WIDE: Final = 100_000
_DEEPEST: Final = 64
"""Ours are six levels deep. What somebody nested deeper than this is drawn beside the tree."""
_LONGEST_NS: Final = 1 << 62
"""A number that a probe says may be longer than any that can be divided as a float."""
_OUTCOME_STYLES: Final = {
    "replied": "green",
    "unsynchronised": "green",
    "rate-limited": "yellow",
    "late": "yellow",
    "refused": "cyan",
    "silent": "cyan",
    "malformed": "magenta",
    "probe-failed": "red",
}
_VERDICT_STYLES: Final = {"proven": "bold green", "refuted": "bold red", "inconclusive": "bold yellow"}


def once_each(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans without repetition, by start; a job that was dispatched again shows the first dispatch that worked."""
    found: dict[bytes, Span] = {}
    for span in sorted(spans, key=_preference):
        found.setdefault(span.context.span_id, span)
    return tuple(sorted(found.values(), key=_when))


def draw(spans: Iterable[Span], *, depth: int | None = None) -> Tree:
    """A tree for the terminal.

    Args:
        spans: of one attempt, in any order.
        depth: levels below the root that are shown; None: down to the packets.
    """
    known = once_each(spans)
    if not known:
        return Tree(Text("no spans have arrived for this attempt"))
    children: dict[bytes | None, list[Span]] = defaultdict(list)
    ids = {span.context.span_id for span in known}
    roots = [span for span in known if span.parent is None]
    for span in known:
        if span.parent in ids:
            children[span.parent].append(span)
    began_ns = (roots or known)[0].start_ns
    drawn: set[bytes] = set()
    tops = [_branch(root, children, began_ns, depth, drawn) for root in roots]
    top = tops[0] if len(tops) == 1 else Tree(Text(f"{len(known)} spans"), guide_style="dim")
    for other in tops if len(tops) > 1 else ():
        top.add(other)
    _add_lost(top, known, children, began_ns, depth, drawn)
    return top


def draw_text(spans: Iterable[Span], *, depth: int | None = None) -> str:
    """The same tree as plain text, one line each, without colours."""
    out = StringIO()
    Console(file=out, width=_WIDE, color_system=None, legacy_windows=False).print(draw(spans, depth=depth))
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _add_lost(
    top: Tree,
    known: Sequence[Span],
    children: Mapping[bytes | None, list[Span]],
    began_ns: int,
    depth: int | None,
    drawn: set[bytes],
) -> None:
    ids = {span.context.span_id for span in known}
    orphans: dict[bytes, list[Span]] = defaultdict(list)
    for span in known:
        if span.parent is not None and span.parent not in ids:
            orphans[span.parent].append(span)
    for parent, theirs in orphans.items():
        branch = top.add(Text(f"(span {parent.hex()} has not arrived; below it:)", style="dim"))
        for span in theirs:
            branch.add(_branch(span, children, began_ns, depth, drawn))
    for span in known:
        # Only a circle of parents leaves something over.
        if span.context.span_id not in drawn:
            top.add(_branch(span, children, began_ns, depth, drawn))


def _branch(
    span: Span,
    children: Mapping[bytes | None, list[Span]],
    began_ns: int,
    depth: int | None,
    drawn: set[bytes],
    level: int = 0,
) -> Tree:
    drawn.add(span.context.span_id)
    branch = Tree(_line(span, began_ns), guide_style="dim")
    if level == _DEEPEST:
        return branch
    for child in children.get(span.context.span_id, ()):
        if child.context.span_id in drawn:
            continue
        deeper = _branch(child, children, began_ns, depth, drawn, level + 1)
        if depth is None or level < depth:
            branch.add(deeper)
    return branch


def _line(span: Span, began_ns: int) -> Text:
    line = Text(_clean(span.name), style="bold" if span.parent is None else "")
    what, style = _what(span)
    if what:
        line.append("  ").append(_clean(what), style=style)
    offset = f"+{(span.start_ns - began_ns) / 1e9:.3f} s" if span.start_ns >= began_ns else _before(span, began_ns)
    line.append(f"  {offset}  {_duration(span.end_ns - span.start_ns)}", style="dim")
    if span.status is SpanStatus.ERROR and span.status_detail:
        line.append("  ! ").append(_clean(span.status_detail), style="red")
    for link in span.links:
        line.append(f"  (follows trace {link.context.trace_id.hex()})", style="dim")
    return line


def _before(span: Span, began_ns: int) -> str:
    """A probe's clock may be behind the coordinator's."""
    return f"-{(began_ns - span.start_ns) / 1e9:.3f} s"


def _what(span: Span) -> tuple[str, str]:
    """What one kind of span is about, and its colour; a kind that is not known shows nothing of its own."""
    has = span.attributes
    match span.name:
        case semconv.ATTEMPT:
            words = [
                f"{has.get(semconv.VERIFICATION_ID, '?')} attempt {has.get(semconv.ATTEMPT_NUMBER, '?')}",
                f"{has.get(semconv.METHOD, '?')}/{has.get(semconv.VARIANT, '?')} of {has.get(semconv.TARGET, '?')}:",
                has.get(semconv.VERDICT, "?"),
                f"({', '.join(filter(None, (has.get(semconv.REASON), has.get(semconv.ASSURANCE))))})",
            ]
            return " ".join(words), _VERDICT_STYLES.get(has.get(semconv.VERDICT, ""), "")
        case semconv.BASELINE:
            return _reported(has), ""
        case semconv.ROUND:
            skew = has.get(semconv.START_SKEW_NS)
            number = has.get(semconv.ROUND_NUMBER, "?")
            # People count from one, as everywhere that a round is shown.
            words = [str(int(number) + 1) if number.isdecimal() else number, _reported(has)]
            if skew is not None and skew.isdecimal():
                words.append(f"skew {_duration(int(skew))}")
            return ", ".join(words), ""
        case semconv.DISPATCH:
            missed = "" if has.get(semconv.DELIVERED) == "true" else " (not delivered)"
            return has.get(semconv.VANTAGE, "?") + missed, ""
        case semconv.JOB:
            return f"{has.get(semconv.VANTAGE, '?')}{_clock(has)}", ""
        case semconv.CONTROL:
            return has.get(semconv.SIDE, "?"), ""
        case semconv.EXCHANGE:
            return _exchange(span), _OUTCOME_STYLES.get(has.get(semconv.OUTCOME, ""), "")
        case _:
            return "", ""


def _reported(has: Mapping[str, str]) -> str:
    return f"{has.get(semconv.REPORTED, '?')} of {has.get(semconv.PERSPECTIVES, '?')} reported"


def _clock(has: Mapping[str, str]) -> str:
    try:
        offset_ns, error_ns = int(has[semconv.CLOCK_OFFSET_NS]), int(has[semconv.CLOCK_ERROR_NS])
    except (KeyError, ValueError):
        return ", clock not checked"
    return f", clock off by {'-' if offset_ns < 0 else ''}{_duration(abs(offset_ns))} (±{_duration(error_ns)})"


def _exchange(span: Span) -> str:
    has = span.attributes
    server, port = has.get(semconv.SERVER_ADDRESS, "?"), has.get(semconv.SERVER_PORT, "?")
    words = [
        f"{has.get(semconv.KIND, '?')} {has.get(semconv.SOURCE_ADDRESS, '?')} ->",
        f"[{server}]:{port}" if ":" in server else f"{server}:{port}",
        has.get(semconv.OUTCOME, "?"),
    ]
    replies = [event for event in span.events if event.name == semconv.REPLY_EVENT]
    if len(replies) > 1:
        words.append(f"({len(replies)} replies)")
    words += [_icmp(event) for event in span.events if event.name == semconv.ICMP_EVENT][:1]
    if semconv.FAULT in has:
        words.append(f"[{has.get(semconv.FAULT_DETAIL) or 'no detail'}]")
    return " ".join(words)


def _icmp(event: SpanEvent) -> str:
    has = event.attributes
    kind, code = has.get(semconv.ICMP_TYPE, "?"), has.get(semconv.ICMP_CODE, "?")
    return f"(ICMP {kind}/{code} from {has.get(semconv.ICMP_OFFENDER, '?')})"


def _duration(ns: int) -> str:
    if ns > _LONGEST_NS:
        return "more than a century"
    if ns < 1_000_000:
        return f"{ns / 1e3:.0f} µs"
    return f"{ns / 1e6:.1f} ms" if ns < 1_000_000_000 else f"{ns / 1e9:.3f} s"


def _clean(text: str) -> str:
    """Without anything that a terminal obeys."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def _preference(span: Span) -> tuple[bool, int, int, bytes]:
    return (span.status is SpanStatus.ERROR, *_when(span))


def _when(span: Span) -> tuple[int, int, bytes]:
    return (span.start_ns, span.end_ns, span.context.span_id)
