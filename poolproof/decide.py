"""The one engine that judges every pattern method: a matrix of expectations against what was observed.

    answers where silence was asked   -> ControlRefuted, before anything is filtered out
    packets there that nobody asked   -> ControlRefuted as well: a flood in a verifier's name silences it, too
    rounds with quorum                -> count (`matrix`)
    silence in counted rounds         -> evidence (`weigh`)
    every leased exchange accounted   -> or no proof
    evidence >= ln(1/alpha_k)         -> ControlProven, as strong as its unforgeable part allows
    anything else                     -> Inconclusive, with a reason that a person can act on

The order of observations is irrelevant, and of two observations of one cell the one worse for a proof counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from poolproof.challenge import Challenge, Observation, Round, Scope
from poolproof.fleet import Perspective, Role
from poolproof.matrix import Matrix, Refusals, RoundState, arrange
from poolproof.outcome import Outcome
from poolproof.policy import Assurance, Policy, spent
from poolproof.verdict import Ceiling, ControlProven, ControlRefuted, Inconclusive, Reason, Tally, Verdict
from poolproof.weigh import Weight, weigh


@dataclass(frozen=True, slots=True)
class Assessment:
    """A verdict and what it was made of, round by round.

    Attributes:
        verdict: as things stand.
        rounds: one state for each round.
        final: more rounds cannot make a better verdict, or none are left.
        only_reports_missing: it would be final if every leased exchange were accounted for.
    """

    verdict: Verdict
    rounds: tuple[RoundState, ...]
    final: bool
    only_reports_missing: bool = False


def decide(
    challenge: Challenge, rounds: Sequence[Round], observations: Iterable[Observation], attempt: int, policy: Policy
) -> Assessment:
    """Judge one attempt.

    Args:
        challenge: the matrix that the owner was asked to enact.
        rounds: all rounds fired so far; round `i` has number `i`.
        observations: what was seen, in any order.
        attempt: number of this attempt on the target, from 1.
        policy: the numbers.

    Raises:
        IndexError: an observation of a row or round that does not exist.
    """
    matrix = arrange(challenge, rounds, observations)
    weight = weigh(matrix, policy)
    tally = _tally(matrix, weight, policy.threshold(challenge.aim, attempt), attempt)
    if (refuting := matrix.refuting) is not None:
        reason = Reason.ANSWERED_WHERE_SILENCE_WAS_ASKED
        refuted = ControlRefuted(reason, matrix.rows[refuting.row].perspective, refuting, tally)
        return Assessment(refuted, matrix.states, final=True)
    if (sighting := matrix.backscatter) is not None:
        refuted = ControlRefuted(Reason.BACKSCATTER, matrix.rows[sighting.row].perspective, sighting, tally)
        return Assessment(refuted, matrix.states, final=True)
    exhausted = tally.counted >= policy.max_rounds
    assurance = _assurance(matrix, weight, attempt, policy)
    enough = tally.counted >= policy.min_rounds
    done = exhausted or (enough and assurance is not None and _is_best(assurance, weight, challenge, attempt, policy))
    if assurance is not None and enough and done and not matrix.missing:
        ceiling = _ceiling(assurance, matrix, weight, attempt, policy)
        proven = ControlProven(Reason.PATTERN_FOLLOWED, assurance, ceiling, Scope.SERVICE, tally)
        return Assessment(proven, matrix.states, final=True)
    reason, about = _obstacle(matrix, weight, exhausted)
    verdict = Inconclusive(reason, about, tally)
    waiting = bool(matrix.missing)
    return Assessment(verdict, matrix.states, final=done and not waiting, only_reports_missing=done and waiting)


def _assurance(matrix: Matrix, weight: Weight, attempt: int, policy: Policy) -> Assurance | None:
    """What chance and attackers allow: strong only for what cannot be forged, and seen from several regions."""
    views = [{matrix.rows[i].perspective.rir for i in rows} for rows in (weight.silent, matrix.layout.monitors)]
    regions = min(map(len, views))
    for level in _BEST_FIRST:
        if level is Assurance.STRONG and regions < policy.min_rirs:
            continue
        if weight.worth[level] >= policy.threshold(level, attempt):
            return level
    return None


_BEST_FIRST = tuple(sorted(Assurance, reverse=True))


def _is_best(assurance: Assurance, weight: Weight, challenge: Challenge, attempt: int, policy: Policy) -> bool:
    """Whether more rounds could not raise the assurance."""
    if assurance >= challenge.aim:
        return True
    # The odds are what they were meant to be, and no round to come could put them beyond an attacker's reach.
    better = [level for level in Assurance if assurance < level <= challenge.aim]
    return weight.total >= policy.threshold(challenge.aim, attempt) and all(
        weight.limit[level] < policy.threshold(level, attempt) for level in better
    )


def _ceiling(assurance: Assurance, matrix: Matrix, weight: Weight, attempt: int, policy: Policy) -> Ceiling:
    if assurance is not Assurance.STRONG:
        unwatched = bool(matrix.unwatched.intersection(weight.silent))
        if unwatched and (_assurance(matrix, weigh(matrix, policy, watched=True), attempt, policy) or 0) > assurance:
            return Ceiling.UNWATCHED
        if not weight.unforgeable < policy.threshold(Assurance.STRONG, attempt) <= weight.total:
            return Ceiling.CHANCE
        doubtful = weight.refusing and matrix.refusals is not Refusals.AS_ASKED
        return Ceiling.DOUBTFUL_REFUSALS if doubtful else Ceiling.FORGEABLE_SILENCE
    silent = [matrix.rows[i] for i in weight.silent if not matrix.layout.forgeable[i]]
    kinds = {Ceiling.WITNESSES if row.perspective.role is Role.WITNESS else Ceiling.PREFIX for row in silent}
    if weight.refusing:
        kinds.add(Ceiling.REFUSALS)
    return kinds.pop() if len(kinds) == 1 else Ceiling.MIXED


def _obstacle(matrix: Matrix, weight: Weight, exhausted: bool) -> tuple[Reason, tuple[Perspective, ...]]:
    """What stands between the evidence and a proof, most telling first, and whom it is about."""
    if matrix.missing:
        return Reason.REPORT_MISSING, matrix.missing
    if not matrix.states:
        return Reason.NOT_STARTED, ()
    latest = matrix.states[-1]
    if latest.reason is not None and not exhausted:
        return latest.reason, _unserved(matrix, latest)
    failed = tuple(
        matrix.rows[i].perspective
        for i in matrix.layout.must_be_silent
        if i not in weight.silent and Outcome.PROBE_FAILED in matrix.cells[i]
    )
    if failed:
        return Reason.PROBES_FAILED, failed
    return (Reason.TOO_LITTLE_EVIDENCE if exhausted else Reason.MORE_ROUNDS_NEEDED), ()


def _unserved(matrix: Matrix, state: RoundState) -> tuple[Perspective, ...]:
    # Monitors come first: where they were served, the reason is about the witnesses.
    wanted = matrix.layout.open_witnesses if _about_witnesses(state) else matrix.layout.asked
    return tuple(matrix.rows[i].perspective for i in wanted[state.window] if not _served(matrix.cells[i][state.number]))


def _about_witnesses(state: RoundState) -> bool:
    return state.reason is Reason.WITNESSES_NOT_SERVED or (state.reason is Reason.PROBES_FAILED and state.served > 0)


def _tally(matrix: Matrix, weight: Weight, needed: float, attempt: int) -> Tally:
    counted = [state for state in matrix.states if state.reason is None]
    monitors = served = matrix.layout.monitors
    if not any(state.served == len(monitors) for state in counted):
        served = tuple(i for i in monitors if any(_served(matrix.cells[i][state.number]) for state in counted))
    silent = weight.silent
    if matrix.refuting is not None:
        silent = tuple(i for i in silent if not any(seen is not None and seen.is_answer for seen in matrix.cells[i]))
    return Tally(
        rounds=len(matrix.states),
        counted=len(counted),
        monitors_answered=min((state.served for state in counted), default=0),
        monitors=len(monitors),
        silent=len(silent),
        must_be_silent=len(matrix.layout.must_be_silent),
        rirs=len({matrix.rows[i].perspective.rir for i in (*served, *silent)}),
        evidence=weight.total,
        unforgeable=weight.unforgeable,
        needed=needed,
        bound=min(1.0, math.exp(spent(attempt) - weight.total)),
    )


def _served(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.shows_presence
