"""The fewest packets with which any sequential test could prove an honest owner: Wald's bound.

Whatever a test looks at and whenever it stops, if it proves an honest owner for certain and an unconfigured server with
chance alpha at most, then E[N] * I >= ln(1/alpha), N being the number of packets under H1 and I what one of them tells
against H0, in nats: the Kullback-Leibler divergence (Wald, "Sequential tests of statistical hypotheses", Annals of
Mathematical Statistics, 1945; Siegmund, "Sequential analysis", 1985). It holds for every H0 that the rule defends
against, so the least favourable counts: "all at once", in which the target answers each exchange with the probability q
that looks most like the owner.
"""

from __future__ import annotations

import math

from poolproof.policy import POLICY_2026_11, Assurance, Policy


def information(silent: float, answering: float, loss: float, shown: float = 1.0) -> float:
    """Nats that one round tells against the least favourable q.

    Args:
        silent: exchanges that the honest owner leaves unanswered.
        answering: exchanges that are answered, up to loss.
        loss: of an answering exchange, 0 <= loss < 1.
        shown: share of the silent ones that count; the others an attacker could have brought about (refusals of which
            the kernel sends only some).
    """
    unanswered, answered = silent * shown + answering * loss, answering * (1 - loss)
    q = answered / (answered + unanswered)
    entropy = _xlogx(loss) + _xlogx(1 - loss)
    return -unanswered * math.log1p(-q) - answered * math.log(q) + answering * entropy


def _xlogx(x: float) -> float:
    return x * math.log(x) if x > 0 else 0.0


def fewest_packets(loss: float, shown: float = 1.0, attempt: int = 1, policy: Policy = POLICY_2026_11) -> float:
    """The bound for a strong proof, with the best split between exchanges that are answered and those that are not."""
    best = max(information(share, 1 - share, loss, shown) for share in (i / 500 for i in range(1, 500)))
    return policy.threshold(Assurance.STRONG, attempt) / best
