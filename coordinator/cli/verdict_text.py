"""Verdict, assurance, scope, evidence and what comes next, in lines for the terminal. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coordinator.cli.matrix import legend, matrix_table, rounds_not_counted
from coordinator.cli.snapshot import INCONCLUSIVE, PROVEN, REFUTED, Snapshot, Viewpoint
from poolproof.challenge import Scope
from poolproof.fleet import Role
from poolproof.proof_words import assurance_note
from poolproof.utc import utc
from poolproof.verification import State

VERDICT_STYLES: Final = {PROVEN: "bold green", REFUTED: "bold red", INCONCLUSIVE: "bold yellow"}
_SCOPES: Final = {
    Scope.SERVICE: "service: whoever controls the NTP service at this address",
    Scope.ADDRESS: "address: whoever controls the address, or something behind it",
}
_SECOND_NS: Final = 1_000_000_000
_BAR: Final = 30


def title(snapshot: Snapshot) -> Text:
    """Which verification this is, in one line."""
    named = f" ({snapshot.requested})" if snapshot.requested not in (str(snapshot.target), "") else ""
    attempt = f", attempt {snapshot.attempts[-1].number}" if snapshot.attempts else ""
    return Text.assemble(
        (snapshot.id, "bold"),
        f"  {snapshot.target}{named}  {snapshot.method.value}/{snapshot.variant.value}",
        f"  for {snapshot.applicant}{attempt}",
    )


def facts(snapshot: Snapshot, now_ns: int) -> Table:
    """State and verdict; for a proof assurance and why, scope and bound; for a refutation the packet; what is next."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, said in (*_verdict(snapshot), *_evidence(snapshot), ("next", next_words(snapshot, now_ns))):
        # Never as markup: brackets are ours, and texts come from elsewhere.
        table.add_row(name, Text(said) if isinstance(said, str) else said)
    return table


def _verdict(snapshot: Snapshot) -> Iterator[tuple[str, str | Text]]:
    judgement = snapshot.judgement
    so_far = " so far" if snapshot.state.is_open else ""
    yield "state", snapshot.state.value
    word = (judgement.word + so_far, VERDICT_STYLES[judgement.word])
    yield "verdict", Text.assemble(word, f" ({judgement.reason.value})")
    if judgement.proof is not None:
        yield "assurance", assurance_note(judgement.proof)
        yield "scope", _SCOPES[judgement.proof.scope]
    if judgement.sighting is not None and judgement.refuted_by is not None:
        seen, view = judgement.sighting, judgement.refuted_by
        source = f" from {seen.source}" if seen.source and seen.source != view.source else ""
        yield "seen by", f"{view_words(view)} in round {seen.round + 1}"
        yield "asked", f"{utc(seen.sent_at_ns)}{source}"
        yield "answered", f"{utc(seen.received_at_ns)} ({seen.outcome.value})"
        if seen.packet:
            yield "packet", seen.packet.hex(" ", 4)
    if judgement.about:
        yield "about", ", ".join(dict.fromkeys(map(view_words, judgement.about)))


def _evidence(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    judgement = snapshot.judgement
    tally = judgement.tally
    if tally.rounds:
        yield (
            "seen",
            f"allowed {tally.monitors_answered}/{tally.monitors}, blocked {tally.silent}/{tally.must_be_silent}, "
            f"{tally.rirs} RIRs, {tally.counted} of {tally.rounds} rounds count",
        )
        if judgement.refuted_by is None:
            yield "evidence", evidence_bar(tally.evidence, tally.needed)
            yield "bound", bound_words(tally.bound)
    elif snapshot.aim is not None:
        yield "aim", f"{snapshot.aim.name.lower()} is the best assurance that this cohort can reach"
    for line in rounds_not_counted(snapshot):
        yield "note", line


def bound_words(bound: float) -> str:
    """The chance that a verdict on this evidence is wrong, in words."""
    if bound >= 1:
        return "none: there is no evidence yet"
    return f"{bound:.1g}: the chance that luck looks like this, over all attempts on the target"


def evidence_bar(evidence: float, needed: float) -> str:
    """`[######......] 9.2 of 14.3 nats (64 %)`."""
    share = evidence / needed if needed > 0 and math.isfinite(evidence) else 0.0
    full = min(_BAR, max(0, int(share * _BAR)))
    return f"[{'#' * full}{'.' * (_BAR - full)}] {evidence:.1f} of {needed:.1f} nats ({max(0.0, share):.0%})"


def view_words(view: Viewpoint) -> str:
    """A perspective in a sentence."""
    if view.role is Role.WITNESS and not view.source:
        return f"{view.vantage} (undisclosed)"
    rir = f", {view.rir.name}" if view.rir is not None else ""
    return f"{view.vantage} ({view.source}, AS{view.asn}{rir})"


def next_words(snapshot: Snapshot, now_ns: int) -> str:
    """What happens next, or what somebody has to do.

    Args:
        snapshot: of the verification.
        now_ns: Unix time.
    """
    match snapshot.state:
        case State.REQUESTED:
            return "waiting for vantages to begin the baseline"
        case State.BASELINE:
            known = f"{snapshot.baseline_known} of {snapshot.baseline_asked} vantages have reported"
            return f"baseline under way: {known}; the instructions come after it"
        case State.CHALLENGED:
            until = f" until {utc(snapshot.next_at_ns)}" if snapshot.next_at_ns else ""
            return (
                f"waiting for the owner{until}: poolproof instructions {snapshot.id} --for SOFTWARE,"
                f" then poolproof ready {snapshot.id}"
            )
        case State.MEASURING:
            number, when = len(snapshot.rounds), _in(snapshot.next_at_ns - now_ns)
            if any(None in line.outcomes[-1:] for line in snapshot.lines):
                return f"reports of round {number} are awaited; the coordinator looks again {when}"
            return f"round {number + 1} {when}"
        case State.CONCLUDED | State.EXPIRED | State.WITHDRAWN:
            if snapshot.judgement.proof is not None:
                return f"remove the configuration: poolproof instructions {snapshot.id} --for SOFTWARE shows how"
            if snapshot.retry_not_before_ns > now_ns:
                wait = _in(snapshot.retry_not_before_ns - now_ns)
                return f"poolproof explain {snapshot.id}; poolproof retry {snapshot.id} {wait}"
            if snapshot.retry_not_before_ns:
                return f"poolproof explain {snapshot.id}; poolproof retry {snapshot.id}"
            return f"poolproof explain {snapshot.id}"


def _in(ns: int) -> str:
    seconds = math.ceil(ns / _SECOND_NS)
    if seconds <= 0:
        return "now"
    if seconds < 120:
        return f"in {seconds} s"
    return f"in {seconds // 60} min" if seconds < 7200 else f"in {seconds // 3600} h"


def page(snapshot: Snapshot, now_ns: int, *, width: int = 120, unicode: bool = True) -> RenderableType:
    """Everything about a verification on one page: title, matrix, legend, verdict, what is next."""
    parts: list[RenderableType] = [title(snapshot), Text()]
    if snapshot.lines:
        parts += [matrix_table(snapshot, width=width, unicode=unicode), Text()]
        signs = legend(snapshot, unicode=unicode)
        if signs.plain:
            parts += [signs, Text()]
    parts.append(facts(snapshot, now_ns))
    return Group(*parts)


def progress_line(snapshot: Snapshot, now_ns: int) -> str:
    """One line for each change, for logs and pipes."""
    tally = snapshot.judgement.tally
    parts = [utc(now_ns), snapshot.id, snapshot.state.value]
    if snapshot.state is State.BASELINE:
        parts.append(f"baseline {snapshot.baseline_known}/{snapshot.baseline_asked}")
    if snapshot.rounds:
        parts.append(f"round {len(snapshot.rounds)}")
        parts.append(f"evidence {tally.evidence:.1f}/{tally.needed:.1f}")
    so_far = " so far" if snapshot.state.is_open else ""
    parts.append(f"{snapshot.judgement.word}{so_far} ({snapshot.judgement.reason.value})")
    return "  ".join(parts)


def explanation(headline: str, advice: str, counted: Sequence[str], not_counted: Sequence[str]) -> RenderableType:
    """Where a verification stands in words; arguments as in `poolproof.explain`."""
    parts: list[RenderableType] = [Text(headline), Text(), Text(advice, style="bold")]
    for name, lines in (("What counted", counted), ("What did not count, and why", not_counted)):
        if lines:
            table = Table.grid(padding=(0, 1, 0, 0))
            for line in lines:
                table.add_row(Text("-"), Text(line))
            parts += [Text(), Text(f"{name}:"), table]
    return Group(*parts)
