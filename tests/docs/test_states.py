"""The state diagram shows every transition that a search through the state machine finds, and no other."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from poolproof.challenge import Method
from poolproof.fleet import Rir, Vantage
from poolproof.ids import VantageId, VerificationId
from poolproof.lifecycle import handle, next_wake_ns, outstanding
from poolproof.policy import POLICY_2026_11, SECOND_NS
from poolproof.target import Target
from poolproof.variant import Variant
from poolproof.verdict import ControlProven
from poolproof.verification import (
    Begin,
    Distrusted,
    Event,
    NotNowError,
    OwnerReady,
    Reported,
    State,
    Unreachable,
    Verification,
    Wake,
    Withdraw,
)
from tests.docs.pages import fences, rows, section, text, word
from tests.simulation.network import Network
from tests.simulation.worlds import Owner, World

POLICY = replace(
    POLICY_2026_11,
    monitors=2,
    must_be_silent=3,
    witnesses=0,
    spares=0,
    baseline_exchanges=4,
    max_rounds=2,
    measuring_window_ns=30 * SECOND_NS,
)
"""A small cohort and little time, so that the search is quick."""
PAGE = section(text("docs/architecture.md"), "## The state machine")
OBEDIENT, DEAD = World("obedient", Owner.HONEST), World("dead", Owner.ABSENT, loss=1.0)
LATER_NS = 1 << 61
Transition = tuple[State, State, str]


def _fleet(size: int) -> tuple[Vantage, ...]:
    rirs = tuple(Rir)
    return tuple(
        Vantage(VantageId(f"v{i:02}"), f"192.0.2.{i + 1}", None, None, 64500 + i, rirs[i % len(rirs)])
        for i in range(size)
    )


def _batches(verification: Verification) -> Iterator[list[tuple[Event, int]]]:
    """What may happen next: each a few events and their times, of which the last one is looked at."""
    attempt = verification.attempt
    now_ns = 1 if attempt is None else LATER_NS if attempt.concluded_at_ns else attempt.started_at_ns
    if len(verification.attempts) < 2:
        number = len(verification.attempts) + 1
        yield [(Begin(number, b"s" * 32, _fleet(5)), now_ns)]
        yield [(Begin(number, b"s" * 32, ()), now_ns)]
    yield [(OwnerReady(), now_ns)]
    yield [(Withdraw(), now_ns)]
    if (due_ns := next_wake_ns(verification, POLICY)) is not None:
        yield [(Wake(), due_ns)]
        yield [(Wake(), due_ns - 1)]
    jobs = outstanding(verification, POLICY)
    for world in (OBEDIENT, DEAD):
        network = Network(world, random.Random(1))
        if attempt is not None and attempt.challenge is not None:
            network.owner_ready(attempt.ready_at_ns, attempt.challenge.rows)
        reports: list[tuple[Event, int]] = [(Reported(network.report(job)), job.start_at_ns) for job in jobs]
        for batch in (reports[:-1], reports):
            if batch:
                yield batch
    if attempt is not None:
        yield [(Distrusted(candidate.vantage.id), now_ns) for candidate in attempt.candidates]
    if len(jobs) == 1:
        yield [(Distrusted(jobs[-1].vantage), now_ns)]
    if jobs:
        yield [(Unreachable(tuple(job.id for job in jobs)), jobs[-1].start_at_ns)]


@cache
def found() -> frozenset[Transition]:
    """All transitions of a verification within two attempts."""
    seen: set[Transition] = set()
    for before, event, after in _steps():
        if (before.state, len(before.attempts)) != (after.state, len(after.attempts)):
            seen.add((before.state, after.state, type(event).__name__))
    return frozenset(seen)


@cache
def _steps() -> tuple[tuple[Verification, Event, Verification], ...]:
    """Every step that an event led to, by a search that leaves out what looks alike."""
    target = Target("203.0.113.7")
    fresh = Verification(
        VerificationId("x"), target, str(target), "somebody", Method.DIFFERENTIAL, Variant.BLOCK, POLICY.id, 1
    )
    taken: list[tuple[Verification, Event, Verification]] = []
    known: set[object] = set()
    agenda = [fresh]
    while agenda:
        origin = agenda.pop()
        if (shape := _shape(origin)) in known:
            continue
        known.add(shape)
        for batch in _batches(origin):
            verification = origin
            for event, now_ns in batch:
                before = verification
                try:
                    verification = handle(before, event, now_ns, POLICY).verification
                except NotNowError:
                    continue
                taken.append((before, event, verification))
            agenda.append(verification)
    return tuple(taken)


def _shape(verification: Verification) -> object:
    attempt = verification.attempt
    if attempt is None:
        return verification.state
    paths = tuple(entry.path for entry in attempt.paths)
    outcomes = tuple(sorted(observation.outcome.value for observation in attempt.observations))
    return (verification.state, len(verification.attempts), paths, len(attempt.rounds), outcomes)


def drawn() -> Iterator[Transition]:
    (diagram,) = fences(PAGE, "mermaid")
    for before, after, events in re.findall(r"^\s+(\w+) --> (\w+): (.+)$", diagram, re.MULTILINE):
        for event in events.split(", "):
            yield State(before), State(after), event


def test_the_diagram_shows_the_transitions_that_there_are() -> None:
    assert sorted(drawn(), key=str) == sorted(found(), key=str)


def test_the_table_describes_each_state_once() -> None:
    assert [word(cells[0]) for cells in rows(PAGE)] == [state.value for state in State]


def test_only_what_the_page_says_ends_a_verification_for_good() -> None:
    assert {state for state in State if not any(before is state for before, _, _ in found())} == {State.WITHDRAWN}


def test_a_proof_is_a_latch() -> None:
    proven = [step for step in _steps() if isinstance(step[0].verdict, ControlProven) and not step[0].state.is_open]
    proofs = [step for step in _steps() if isinstance(step[2].verdict, ControlProven)]
    assert proofs
    assert all(after == before for before, _, after in proven)
    begun = Begin(2, b"s" * 32, _fleet(5))
    with pytest.raises(NotNowError, match="proven already"):
        handle(proofs[-1][2], begun, LATER_NS, POLICY)
