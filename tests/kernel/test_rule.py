"""The properties of design section 3, by search: what must hold for every evidence, not for an example."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolproof.challenge import Challenge, Expectation, Observation, Round
from poolproof.decide import Assessment, decide
from poolproof.fleet import Role
from poolproof.outcome import Outcome
from poolproof.policy import POLICY_2026_11, Assurance
from poolproof.variant import Variant
from poolproof.verdict import Ceiling, ControlProven, ControlRefuted, Inconclusive, Reason
from tests.kernel.situations import challenge, enacted, evidence, observed, rounds, strong_cohort

POLICY = POLICY_2026_11
Evidence = tuple[Challenge, tuple[Round, ...], tuple[Observation, ...]]


def judge(given: Evidence, attempt: int = 1) -> Assessment:
    return decide(given[0], given[1], given[2], attempt, POLICY)


def grade(assessment: Assessment) -> int:
    """What a verdict gives away, as a number that may never rise when evidence is lost."""
    return int(assessment.verdict.assurance) if isinstance(assessment.verdict, ControlProven) else 0


def worth(given: Evidence) -> int:
    """What the evidence would give away if no further round came: a verdict may wait for a better assurance."""
    return grade(decide(given[0], given[1], given[2], 1, replace(POLICY, max_rounds=1)))


def wants_silence(asked: Challenge, seen: Observation) -> bool:
    return asked.rows[seen.row].expected[0] is Expectation.SILENCE


@given(evidence(), st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_order_of_observations_changes_nothing(given: Evidence, random, attempt: int) -> None:  # type: ignore[no-untyped-def]
    asked, fired, seen = given
    shuffled = list(seen)
    random.shuffle(shuffled)
    assert judge((asked, fired, tuple(shuffled)), attempt) == judge(given, attempt)


@given(evidence(), st.lists(st.tuples(st.integers(0, 500), st.sampled_from(Outcome)), max_size=4), st.booleans())
def test_two_observations_of_one_cell_never_say_more_than_the_worse_one(given: Evidence, extra, reverse) -> None:  # type: ignore[no-untyped-def]
    asked, fired, seen = given
    more = tuple(Observation(seen[i % len(seen)].row, seen[i % len(seen)].round, outcome) for i, outcome in extra)
    both = judge((asked, fired, more + seen if reverse else seen + more))
    assert grade(both) <= worth(given)
    assert both == judge((asked, fired, seen + more))


@given(evidence())
def test_removing_probe_failures_changes_nothing(given: Evidence) -> None:
    """With the lease that they account for: a probe that failed and one that was never asked weigh the same."""
    asked, fired, seen = given
    failed = {(o.round, o.row) for o in seen if o.outcome is Outcome.PROBE_FAILED}
    without = tuple(o for o in seen if o.outcome is not Outcome.PROBE_FAILED)
    unasked = tuple(
        Round(r.number, r.window, r.start_at_ns, tuple(row for row in r.leased if (r.number, row) not in failed))
        for r in fired
    )
    one, other = judge(given), judge((asked, unasked, without))
    assert one.rounds == other.rounds
    assert one.final == other.final
    assert one.verdict.tally == other.verdict.tally
    assert type(one.verdict) is type(other.verdict)
    assert grade(one) == grade(other)


@given(evidence(), st.data())
def test_an_answer_where_silence_was_asked_always_refutes(given: Evidence, data: st.DataObject) -> None:
    asked, fired, seen = given
    quiet = [o for o in seen if wants_silence(asked, o)]
    where = data.draw(st.sampled_from(quiet))
    how = data.draw(st.sampled_from([outcome for outcome in Outcome if outcome.is_answer]))
    answer = Observation(where.row, where.round, how)
    verdict = judge((asked, fired, (*seen, answer))).verdict
    assert isinstance(verdict, ControlRefuted)
    assert verdict.sighting.round <= where.round


@given(evidence(), st.data())
def test_losing_observations_never_creates_a_proof(given: Evidence, data: st.DataObject) -> None:
    asked, fired, seen = given
    lost = set(data.draw(st.lists(st.integers(0, len(seen) - 1), min_size=1, max_size=6)))
    fewer = tuple(o for i, o in enumerate(seen) if i not in lost)
    assert grade(judge((asked, fired, fewer))) == 0 or isinstance(judge(given).verdict, ControlProven)
    assert not isinstance(judge((asked, fired, fewer)).verdict, ControlProven), "an unaccounted lease allows no proof"


def otherwise(asked: Challenge, seen: Observation) -> bool:
    """A refusal in another way than it was asked for."""
    way = asked.rows[seen.row].refusal
    return seen.outcome is Outcome.REFUSED and way is not None and seen.refusal is not way


@settings(max_examples=300)
@given(evidence(), st.data())
def test_a_probe_that_fails_instead_of_seeing_silence_never_creates_evidence(
    given: Evidence, data: st.DataObject
) -> None:
    """But what speaks against a proof by itself: an answer where silence was asked, a refusal of another way."""
    asked, fired, seen = given
    failing = set(data.draw(st.lists(st.integers(0, len(seen) - 1), min_size=1, max_size=6)))
    against = [o.outcome.is_answer or otherwise(asked, o) for o in seen]
    blind = tuple(
        Observation(o.row, o.round, Outcome.PROBE_FAILED) if i in failing and not against[i] else o
        for i, o in enumerate(seen)
    )
    before, after = judge(given).verdict.tally, judge((asked, fired, blind)).verdict.tally
    assert after.evidence <= before.evidence + 1e-9
    assert after.unforgeable <= before.unforgeable + 1e-9


@given(evidence(), st.data())
def test_a_monitor_that_is_not_answered_never_adds_evidence(given: Evidence, data: st.DataObject) -> None:
    asked, fired, seen = given
    monitors = [i for i, o in enumerate(seen) if asked.rows[o.row].perspective.role is Role.ALLOWED_MONITOR]
    i = data.draw(st.sampled_from(monitors))
    worse = (*seen[:i], Observation(seen[i].row, seen[i].round, Outcome.SILENT), *seen[i + 1 :])
    assert judge((asked, fired, worse)).verdict.tally.evidence <= judge(given).verdict.tally.evidence + 1e-9


@given(evidence(), st.integers(1, 50))
def test_a_later_attempt_never_needs_less(given: Evidence, attempt: int) -> None:
    assert grade(judge(given, attempt + 1)) <= max(grade(judge(given, attempt)), 0)
    assert judge(given, attempt + 1).verdict.tally.bound >= judge(given, attempt).verdict.tally.bound


@given(evidence())
def test_a_strong_proof_rests_on_what_nobody_off_the_path_can_forge(given: Evidence) -> None:
    asked, _, seen = given
    verdict = judge(given).verdict
    if isinstance(verdict, ControlProven) and verdict.assurance is Assurance.STRONG:
        assert verdict.tally.unforgeable >= POLICY.threshold(Assurance.STRONG, 1)
        hidden = any(not asked.rows[o.row].forgeable and wants_silence(asked, o) for o in seen)
        assert hidden or any(o.outcome is Outcome.REFUSED for o in seen)


@given(st.integers(1, 200))
def test_all_attempts_together_stay_under_alpha(attempts: int) -> None:
    for assurance in Assurance:
        spent = math.fsum(math.exp(-POLICY.threshold(assurance, k)) for k in range(1, attempts + 1))
        assert spent < POLICY.alpha(assurance)


def test_many_verifiers_of_one_domain_are_worth_one() -> None:
    asked = challenge(silent=7, asns=[64600] * 7)
    tally = judge((asked, rounds(asked, 12), enacted(asked, 12))).verdict.tally
    assert tally.evidence <= math.log(1 / POLICY.dark_path)


@pytest.mark.parametrize(
    ("variant", "prefix", "silence", "assurance", "ceiling"),
    [
        (Variant.BLOCK, False, Outcome.SILENT, Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
        (Variant.BLOCK, False, Outcome.REFUSED, Assurance.STRONG, Ceiling.REFUSALS),
        (Variant.BLOCK, True, Outcome.SILENT, Assurance.STRONG, Ceiling.PREFIX),
        (Variant.ALLOW_ONLY, False, Outcome.SILENT, Assurance.STRONG, Ceiling.WITNESSES),
    ],
    ids=["drop at disclosed addresses", "reject", "prefix", "witnesses"],
)
def test_assurance_is_what_an_attacker_allows(variant, prefix, silence, assurance, ceiling) -> None:  # type: ignore[no-untyped-def]
    asked = strong_cohort(variant, prefix=prefix)
    verdict = judge((asked, rounds(asked, 4), enacted(asked, 4, silence))).verdict
    assert isinstance(verdict, ControlProven)
    assert (verdict.assurance, verdict.ceiling) == (assurance, ceiling)
    assert verdict.tally.bound <= POLICY.alpha_strong


def test_a_prefix_that_the_target_limits_as_a_whole_is_forgeable() -> None:
    asked = challenge(prefix=True)
    limited = Challenge(
        asked.method,
        asked.variant,
        tuple(
            type(row)(row.perspective, row.kind, row.expected, type(row.path)(8, 4, prefix_limited=True))
            for row in asked.rows
        ),
        asked.aim,
    )
    verdict = judge((limited, rounds(limited, 12), enacted(limited, 12))).verdict
    assert isinstance(verdict, ControlProven)
    assert verdict.assurance is Assurance.MEDIUM


@pytest.mark.parametrize("role", [Role.ALLOWED_MONITOR, Role.WITNESS])
def test_probes_that_fail_all_together_say_nothing_of_the_target(role: Role) -> None:
    asked = challenge(witnesses=2)
    failing = observed(
        asked,
        1,
        lambda row, n: (
            Outcome.PROBE_FAILED
            if row.perspective.role is role
            else (Outcome.REPLIED if row.expected[0] is Expectation.ANSWER else Outcome.SILENT)
        ),
    )
    verdict = judge((asked, rounds(asked, 1), failing)).verdict
    assert isinstance(verdict, Inconclusive)
    assert verdict.reason is Reason.PROBES_FAILED
    assert {view.role for view in verdict.perspectives} == {role}


def test_monitors_of_one_registry_allow_no_strong_proof() -> None:
    asked = challenge(monitors=1, silent=7, variant=Variant.ALLOW_ONLY)
    verdict = judge((asked, rounds(asked, 12), enacted(asked, 12))).verdict
    assert isinstance(verdict, ControlProven)
    assert verdict.assurance is Assurance.MEDIUM


def test_a_perspective_that_was_answered_is_not_counted_as_silent() -> None:
    asked = challenge()
    quiet = (o for o in enacted(asked, 2) if (o.row, o.round) != (5, 1))
    verdict = judge((asked, rounds(asked, 2), (*quiet, Observation(5, 1, Outcome.REPLIED)))).verdict
    assert isinstance(verdict, ControlRefuted)
    assert (verdict.tally.silent, verdict.tally.must_be_silent) == (4, 5)


def test_one_round_is_never_enough_even_if_everybody_is_refused() -> None:
    """A server that stops in the middle of a round refuses whoever comes late."""
    asked = challenge()
    assert not judge((asked, rounds(asked, 1), enacted(asked, 1, Outcome.REFUSED))).final


@pytest.mark.parametrize(
    ("see", "reason"),
    [
        (lambda row, n: Outcome.SILENT, Reason.TARGET_DOWN),
        (
            lambda row, n: Outcome.REPLIED if row.perspective.vantage == "v00" else Outcome.SILENT,
            Reason.MONITORS_BELOW_QUORUM,
        ),
        (
            lambda row, n: Outcome.REPLIED if row.perspective.role is Role.ALLOWED_MONITOR else Outcome.SILENT,
            Reason.WITNESSES_NOT_SERVED,
        ),
    ],
)
def test_rounds_in_which_the_target_serves_too_few_do_not_count(see, reason: Reason) -> None:  # type: ignore[no-untyped-def]
    asked = challenge(witnesses=2)
    assessment = judge((asked, rounds(asked, 5), observed(asked, 5, see)))
    assert isinstance(assessment.verdict, Inconclusive)
    assert assessment.verdict.reason is reason
    assert assessment.verdict.perspectives
    assert assessment.verdict.tally.evidence == 0


def test_monitors_of_one_registry_are_no_quorum_if_the_cohort_has_more() -> None:
    asked = challenge(monitors=2)
    one = observed(asked, 5, lambda row, n: Outcome.REPLIED if row.perspective.vantage == "v00" else Outcome.SILENT)
    verdict = judge((asked, rounds(asked, 5), one)).verdict
    assert isinstance(verdict, Inconclusive)
    assert verdict.reason is Reason.MONITORS_BELOW_QUORUM


def test_dead_verifiers_are_named() -> None:
    asked = challenge(silent=3)
    dead = observed(
        asked,
        12,
        lambda row, n: (
            Outcome.REPLIED
            if row.expected[0] is Expectation.ANSWER
            else (Outcome.PROBE_FAILED if row.perspective.vantage != "v05" else Outcome.SILENT)
        ),
    )
    assessment = judge((asked, rounds(asked, 12), dead))
    assert assessment.final
    assert isinstance(assessment.verdict, Inconclusive)
    assert assessment.verdict.reason is Reason.PROBES_FAILED
    assert [view.vantage for view in assessment.verdict.perspectives] == ["v06", "v07"]
