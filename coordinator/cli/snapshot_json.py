"""`--json`: what scripts get. docs/command.md lists the keys; none is ever taken away or given another meaning.

Times are RFC 3339 text in UTC with nanoseconds, or null where there is none yet; closed words are those of the design.
"""

from __future__ import annotations

import json
from typing import Any

from coordinator.cli.snapshot import AttemptLine, Judgement, Line, RoundLine, Snapshot, Viewpoint
from poolproof.fleet import Role
from poolproof.utc import utc
from poolproof.verdict import Tally

Object = dict[str, Any]


def one_line(value: object) -> str:
    """A value as JSON on one line, in ASCII."""
    return json.dumps(value)


def pretty(value: object) -> str:
    """A value as JSON, indented."""
    return json.dumps(value, indent=2)


def time_json(unix_ns: int) -> str | None:
    """`2026-11-23T09:41:07.250000000Z`; null for 0."""
    if not unix_ns:
        return None
    return f"{utc(unix_ns)[:19].replace(' ', 'T')}.{unix_ns % 1_000_000_000:09}Z"


def snapshot_json(snapshot: Snapshot, *, with_matrix: bool = True) -> Object:
    """A verification; `with_matrix` for rows and rounds as well."""
    shown: Object = {
        "id": snapshot.id,
        "target": {
            "address": snapshot.target.address,
            "port": snapshot.target.port,
            "family": snapshot.target.family.name.lower(),
        },
        "requested": snapshot.requested,
        "applicant": snapshot.applicant,
        "method": snapshot.method.value,
        "variant": snapshot.variant.value,
        "policy": snapshot.policy,
        "requested_at": time_json(snapshot.requested_at_ns),
        "state": snapshot.state.value,
        "open": snapshot.state.is_open,
        "revision": snapshot.revision,
        "verdict": judgement_json(snapshot.judgement),
        "attempts": [_attempt(attempt) for attempt in snapshot.attempts],
        "baseline": {"asked": snapshot.baseline_asked, "known": snapshot.baseline_known},
        "aim": snapshot.aim.name.lower() if snapshot.aim is not None else None,
        "challenged_at": time_json(snapshot.challenged_at_ns),
        "ready_at": time_json(snapshot.ready_at_ns),
        "next_at": time_json(snapshot.next_at_ns),
        "retry_not_before": time_json(snapshot.retry_not_before_ns),
    }
    if with_matrix:
        shown["rows"] = [_line(line) for line in snapshot.lines]
        shown["rounds"] = [_round(fired) for fired in snapshot.rounds]
    return shown


def judgement_json(judgement: Judgement) -> Object:
    """A verdict. What only one kind of verdict has is null in the others."""
    proof, seen = judgement.proof, judgement.sighting
    return {
        "verdict": judgement.word,
        "reason": judgement.reason.value,
        "assurance": proof.assurance.name.lower() if proof else None,
        "ceiling": proof.ceiling.value if proof else None,
        "scope": proof.scope.value if proof else None,
        "refuted_by": _view(judgement.refuted_by) if judgement.refuted_by else None,
        "sighting": None
        if seen is None
        else {
            "round": seen.round + 1,
            "outcome": seen.outcome.value,
            "source": seen.source or None,
            "sent_at": time_json(seen.sent_at_ns),
            "received_at": time_json(seen.received_at_ns),
            "packet": seen.packet.hex(),
        },
        "about": [_view(view) for view in judgement.about],
        "tally": _tally(judgement.tally),
    }


def _tally(tally: Tally) -> Object:
    return {
        "rounds": tally.rounds,
        "counted": tally.counted,
        "monitors_answered": tally.monitors_answered,
        "monitors": tally.monitors,
        "silent": tally.silent,
        "must_be_silent": tally.must_be_silent,
        "rirs": tally.rirs,
        # Digits beyond these differ from one machine's logarithm to the next.
        "evidence_nats": round(tally.evidence, 6),
        "unforgeable_nats": round(tally.unforgeable, 6),
        "needed_nats": round(tally.needed, 6),
        "bound": float(f"{tally.bound:.6g}"),
    }


def _attempt(attempt: AttemptLine) -> Object:
    return {
        "number": attempt.number,
        "started_at": time_json(attempt.started_at_ns),
        "concluded_at": time_json(attempt.concluded_at_ns),
        "verdict": attempt.judgement.word,
        "reason": attempt.judgement.reason.value,
        "trace_id": attempt.trace_id or None,
    }


def _view(view: Viewpoint) -> Object:
    masked = view.role is Role.WITNESS and not view.source
    return {
        "vantage": view.vantage,
        "role": view.role.value,
        "source": None if masked else view.source,
        "asn": None if masked else view.asn,
        "rir": view.rir.value if view.rir is not None else None,
    }


def _line(line: Line) -> Object:
    return {
        **_view(line.view),
        "kind": line.kind.value,
        "expected": [expected.value for expected in line.expected],
        "baseline": {"asked": line.asked, "answered": line.answered},
        "outcomes": [outcome.value if outcome is not None else None for outcome in line.outcomes],
    }


def _round(fired: RoundLine) -> Object:
    return {
        "round": fired.number + 1,
        "window": fired.window,
        "start_at": time_json(fired.start_at_ns),
        "counted": fired.reason is None,
        "reason": fired.reason.value if fired.reason is not None else None,
        "monitors": {"answered": fired.monitors_served, "asked": fired.monitors_asked},
        "witnesses": {"answered": fired.witnesses_served, "asked": fired.witnesses_asked},
    }
