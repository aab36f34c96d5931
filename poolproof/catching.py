"""How soon calibrations catch a probe that lies, computed exactly from the policy and the test of `calibration`.

A liar of rate p lies in each of its exchanges with chance p, and is honest else; its path loses l of what is answered.
Hidden answers are caught by the test, an invented answer by one look at what the target sent. "n jobs" are all that a
probe is asked to do, for applicants and for calibrations, which it cannot tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from poolproof.calibration import Stratum, evidence, needed
from poolproof.cohort import sizes
from poolproof.enactment import MODES, UNREACHED, Mode
from poolproof.policy import Policy
from poolproof.variant import Variant

_NEGLIGIBLE = 1e-12
"""Of a distribution, what is left out at the end of its tail."""


class Lie(Enum):
    """Ways to lie."""

    HIDES_ANSWERS = "hides-answers"
    """Says that nothing came, in all work."""
    HIDES_WHERE_IT_PAYS = "hides-where-it-pays"
    """The same, only in rounds in which nothing shall come."""
    INVENTS_ANSWERS = "invents-answers"
    """Says that an answer came where there was none."""


def boundary(trials: int, loss: float, nats: float) -> tuple[int, ...]:
    """For n = 0 .. `trials` the fewest failures that quarantine; n + 1 where even n do not."""
    fewest: list[int] = []
    k = 0
    for n in range(trials + 1):
        # One more success never adds evidence, so the boundary never falls.
        while k <= n and evidence(n, k, loss) < nats:
            k += 1
        fewest.append(k)
    return tuple(fewest)


def crossing(fewest: Sequence[int], failing: float) -> tuple[float, ...]:
    """Chance to be quarantined within n trials, for n = 0 .. the boundary's last, if each fails with one chance.

    Exact: the distribution over (n, k) of all that have not yet reached the boundary (dynamic programming).
    """
    alive = [1.0]
    caught = [1.0 if fewest[0] <= 0 else 0.0]
    for n in range(1, len(fewest)):
        following = [0.0] * (n + 1)
        for k, mass in enumerate(alive):
            following[k] += mass * (1 - failing)
            following[k + 1] += mass * failing
        absorbed = math.fsum(following[fewest[n] :])
        alive = following[: fewest[n]]
        caught.append(min(1.0, caught[-1] + absorbed))
    return tuple(caught)


@dataclass(frozen=True, slots=True)
class Shares:
    """How often a job of one probe is a trial, or a chance to invent; per attempt that the probe takes part in.

    Attributes:
        calibrations: share of calibrations among all attempts.
        jobs: jobs of one attempt: a baseline, and a round or more.
        trials: chance that a calibration gives a trial, by stratum.
    """

    calibrations: float
    jobs: int
    trials: dict[Stratum, float]


def shares(policy: Policy) -> Shares:
    """The shares that follow from a policy: first attempts of `block`, a full cohort, `min_rounds` rounds."""
    wanted = sizes(Variant.BLOCK, 1, policy)
    reached = float(1 - UNREACHED)
    drawn = wanted.total / (wanted.total + policy.spares) * reached
    quiet = drawn * wanted.silent / wanted.total
    return Shares(
        calibrations=policy.calibration_rate / (1 + policy.calibration_rate),
        jobs=1 + policy.min_rounds,
        trials={
            Stratum.BASELINE: reached * float(1 - MODES[Mode.DARK]),
            Stratum.SERVED: (drawn - quiet) * float(1 - MODES[Mode.DARK] - MODES[Mode.DOWN]),
            Stratum.UNSERVED: quiet * float(MODES[Mode.NOTHING] + MODES[Mode.PART] / 2),
        },
    )


def caught_within(lie: Lie, rate: float, jobs: int, policy: Policy, loss: float = 0.02) -> float:
    """Chance that a liar is quarantined within so many jobs.

    Args:
        lie: how it lies.
        rate: p: it lies in each exchange where it could with this chance.
        jobs: all that it is asked to do, calibrations or not.
        policy: the test, and how often calibrations are mixed in.
        loss: what its path really loses.
    """
    known = shares(policy)
    attempts = jobs // known.jobs
    failing = rate + (1 - rate) * loss
    match lie:
        case Lie.HIDES_ANSWERS:
            # Hidden answers of a baseline alone: every attempt has one, and one lie there is as good as another.
            return _hidden(known.calibrations * known.trials[Stratum.BASELINE], failing, attempts, policy)
        case Lie.HIDES_WHERE_IT_PAYS:
            return _hidden(known.calibrations * known.trials[Stratum.UNSERVED], failing, attempts, policy)
        case Lie.INVENTS_ANSWERS:
            return 1 - (1 - known.calibrations * _invents(rate, policy)) ** attempts


RATES = (1.0, 0.5, 0.25, 0.1, 0.05)
JOBS = (10, 100, 1_000, 10_000)


@dataclass(frozen=True, slots=True)
class Chance:
    """One cell of the table that people are shown."""

    lie: Lie
    rate: float
    jobs: int
    chance: float


@lru_cache(maxsize=4)
def table(policy: Policy) -> tuple[Chance, ...]:
    """`caught_within` for each kind of lie, each of `RATES` and each of `JOBS`."""
    return tuple(
        Chance(lie, rate, jobs, caught_within(lie, rate, jobs, policy))
        for lie in Lie
        for rate in RATES
        for jobs in JOBS
    )


def falsely_within(trials: int, policy: Policy) -> float:
    """Chance that an honest probe whose path loses all that the policy allows is quarantined by one stratum's test."""
    fewest = boundary(trials, policy.calibration_loss, needed(policy))
    return crossing(fewest, policy.calibration_loss)[-1]


def _hidden(share: float, failing: float, attempts: int, policy: Policy) -> float:
    numbers = _binomial(attempts, share)
    fewest = boundary(len(numbers) - 1, policy.calibration_loss, needed(policy))
    return math.fsum(chance * hit for chance, hit in zip(numbers, crossing(fewest, failing), strict=True))


def _invents(rate: float, policy: Policy) -> float:
    """Chance that a calibration shows an invented answer: where the target answers nobody, or not this vantage."""
    some_of_a_baseline = 1 - (1 - rate) ** policy.baseline_exchanges
    dark = float(MODES[Mode.DARK])
    unreached = (1 - dark) * float(UNREACHED)
    wanted = sizes(Variant.BLOCK, 1, policy)
    quiet = (1 - float(UNREACHED)) * wanted.silent / (wanted.total + policy.spares)
    # In WHOLE there are more rounds; where only a part is blocked, the first one refutes.
    in_rounds = float(MODES[Mode.WHOLE]) * (1 - (1 - rate) ** policy.min_rounds) + float(MODES[Mode.PART]) / 2 * rate
    return (dark + unreached) * some_of_a_baseline + quiet * in_rounds


def _binomial(trials: int, chance: float) -> list[float]:
    """P(X = n) for n = 0, 1, ... as far as it matters."""
    found: list[float] = []
    for n in range(trials + 1):
        logarithm = (
            math.lgamma(trials + 1)
            - math.lgamma(n + 1)
            - math.lgamma(trials - n + 1)
            + n * math.log(chance)
            + (trials - n) * math.log1p(-chance)
        )
        found.append(math.exp(logarithm))
        if n > trials * chance and found[-1] < _NEGLIGIBLE:
            break
    return found
