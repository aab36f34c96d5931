"""How much silence is worth: evidence in nats against H0, "nobody enacted the challenge".

Three ways in which the network could make the asked pattern by itself are weighed. Their chances add up (`jointly`):

- **path by path**: each must-be-silent path lost every packet, or went dark. A failure domain v with n counted silent
  exchanges is worth ln((1-e)^n / (p + (1-p) prod l_i)), at most ln(1/p). The l_i are upper confidence bounds from the
  baseline, so paths that lose much are worth little.
- **all at once**: since the baseline the target answers any exchange with one probability q, whatever its source (a
  congested uplink, a flood at the target, a leaky rate limiter), and luck made the pattern. A round with `a` answered
  and `s` silent exchanges is worth -ln max_q q^a (1-q)^s at most, q being the worst possible. Rounds that are worth
  nothing are repeated, which H0 may use as well: each round is weighed given that it is worth something or refutes.
- **one event**: since the baseline something cut the target off from many vantages together and for good: an upstream
  that failed, a region or an anycast site that went dark, a load balancer with a dead half. How it chose whom it cuts
  is left open. It did not know the roles, which are drawn by a keyed hash: of n failure domains, s of them asked to be
  silent, it cut just those with chance 1/C(n, s) at most (Fisher, "The Design of Experiments", 1935: the randomisation
  test). Rounds cannot raise this value; only more domains can.

The first two are likelihood ratios with the denominator maximised over H0, so exp(-evidence) bounds the chance of ever
reaching that evidence when nobody did anything (Ville's inequality; Wasserman, Ramdas and Balakrishnan, "Universal
inference", PNAS 2020), whenever one stops looking. The third happens once, and its chance is what it is.

A refusal that quotes our packet is no loss: path by path it takes something that refuses, so one refusing domain is
worth ln(1/p_r), and its silences nothing more, because kernels limit the ICMP that they send. All at once it is one
more exchange that was not answered: something before the target may reject a random share of everything. One event is
then a filter that began to reject, which is rarer than a path that went dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

_GRID = 400
"""Points on which the worst q is sought; the golden-section step afterwards makes it exact to 1e-9."""


@lru_cache(maxsize=4096)
def loss_bound(asked: int, answered: int, confidence: float, floor: float) -> float:
    """Upper confidence bound on a path's loss (Clopper and Pearson, Biometrika 1934), not under `floor`.

    Args:
        asked: exchanges of the baseline.
        answered: how many were answered, 0..asked.
        confidence: that the true loss is not above, 0..1.
        floor: no path is believed to be better.

    Raises:
        ValueError: more answers than questions, or no question.
    """
    if not 0 <= answered <= asked or asked == 0:
        raise ValueError(f"baseline: {answered} of {asked} answered; both must be counted from the same exchanges")
    lost = asked - answered
    if answered == 0:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        at_most_lost = math.fsum(math.comb(asked, k) * middle**k * (1 - middle) ** (asked - k) for k in range(lost + 1))
        if at_most_lost > 1 - confidence:
            low = middle
        else:
            high = middle
    return max(floor, high)


@lru_cache(maxsize=65536)
def domain_evidence(dark_path: float, enacted_error: float, silences: tuple[tuple[float, int], ...]) -> float:
    """Nats that the silence of one failure domain is worth.

    Args:
        dark_path: chance that the domain's paths went dark by themselves (`p`).
        enacted_error: chance that an exchange with a blocking server does not look blocked (`e`).
        silences: (loss bound, counted silent exchanges) of each perspective in the domain.

    Only as many exchanges are weighed as raise the sum: past that point each would cost ln(1-e) and say nothing, and
    an exchange more could undo a proof. Which ones is known from the baseline, so the bound holds all the same.
    """
    weighed, lost = 0, 1.0
    best = 0.0
    for loss, count in sorted(silences):
        for _ in range(count):
            weighed += 1
            lost *= loss
            nats = weighed * math.log1p(-enacted_error) - math.log(dark_path + (1 - dark_path) * lost)
            if nats <= best:
                return best
            best = nats
    return best


@lru_cache(maxsize=65536)
def round_evidence(
    monitors: int, answered: int, witnesses: int, witnessed: int, silent: int, expected_loss: float
) -> float:
    """Nats that one counted round is worth against "the target answers everything with probability q".

    Args:
        monitors: monitors asked in the round.
        answered: how many of them were answered.
        witnesses: witnesses asked that expect an answer.
        witnessed: how many were.
        silent: must-be-silent exchanges of the round, all silent.
        expected_loss: loss that H1 expects of the answering ones.
    """
    if silent == 0:
        return 0.0
    good = answered + witnessed
    lost = monitors + witnesses - good

    def under_h0(q: float) -> float:
        # Given that the round refutes or is worth something. At the least the perfect round is; fewer such rounds make
        # H0 look more likely, so this errs on the safe side.
        decided = 1 - (1 - q) ** silent * (1 - q ** (monitors + witnesses))
        return good * math.log(q) + (lost + silent) * math.log1p(-q) - math.log(decided)

    under_h1 = good * math.log1p(-expected_loss) + lost * math.log(expected_loss)
    peak = max(range(1, _GRID), key=lambda i: under_h0(i / _GRID))
    worst = _maximum(under_h0, (peak - 1) / _GRID, (peak + 1) / _GRID)
    return max(0.0, under_h1 - worst)


@lru_cache(maxsize=65536)
def event_evidence(event: float, domains: int, asked_silent: int, unanswered: int, worths: tuple[float, ...]) -> float:
    """Nats that a pattern of silent and answered failure domains is worth against "one event cut them off".

    Args:
        event: chance that one event since the baseline cut just so many domains; for any number of them.
        domains: failure domains with a role (n).
        asked_silent: how many of them were to be silent (s).
        unanswered: how many of the others were answered in no counted round: the event may have cut them as well.
        worths: of each silent domain that counts, what it is worth path by path; smallest first. The event need not
            have cut them all: the cheapest may be silent by themselves.

    Only as many silent domains are weighed as raise the sum, those worth most. Domains asked to be silent that do not
    count (their probes failed, or an attacker can forge them) need not have been cut and are no evidence. The bound is
    over the draw of the roles, whatever the event did.
    """
    chance = least = 1.0
    for silent, nats in enumerate(reversed(worths), start=1):
        # Either it cut them all, or it cut others and this one is silent by itself.
        chance = _matches(domains, asked_silent, silent, unanswered) + math.exp(-nats) * chance
        least = min(least, chance)
    return -math.log(event * least)


@lru_cache(maxsize=4096)
def _matches(domains: int, asked_silent: int, cut_silent: int, cut_others: int) -> float:
    """Chance that of `cut_silent + cut_others` domains that an event cut, no more than `cut_others` had to answer.

    The upper tail of the hypergeometric distribution. An event that cut fewer or more of them matches more rarely.
    """
    cut = cut_silent + cut_others
    ways = sum(
        math.comb(asked_silent, k) * math.comb(domains - asked_silent, cut - k)
        for k in range(cut_silent, min(asked_silent, cut) + 1)
    )
    return ways / math.comb(domains, cut)


def jointly(*explanations: float) -> float:
    """Nats against "one of these explanations": their chances add up, so the result is at most the smallest."""
    return max(0.0, -math.log(math.fsum(math.exp(-nats) for nats in explanations)))


def _maximum(f: Callable[[float], float], low: float, high: float) -> float:
    """The largest value of a function with one peak in an open interval, by golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(45):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if f(left) < f(right):
            low = left
        else:
            high = right
    return f((low + high) / 2)
