"""Where a world's luck comes from: plain draws, or draws under a change of measure that makes rare things frequent.

Importance sampling (Bucklew, "Introduction to rare event simulation", 2004): a draw that happens with chance p is made
with chance p', and the ratio of the two is carried along. The mean of what happened, times that ratio, is what plain
draws would give, whatever p' is; a good p' makes it exact with few runs.
"""

from __future__ import annotations

import math
import random


class Chance:
    """Plain draws of one seeded run."""

    steers = False
    """Whether wishes are heard."""

    def __init__(self, entropy: random.Random) -> None:
        self._entropy = entropy
        self.log_ratio = 0.0

    def happens(self, chance: float, wish: float | None = None) -> bool:
        """Draw what happens with this chance.

        Args:
            chance: in 0..1; at the ends nothing is drawn.
            wish: with which chance a run that is steered should draw it; None: as it is.
        """
        del wish
        return chance > 0 and (chance >= 1 or self._entropy.random() < chance)


class Steered(Chance):
    """Draws with the wished chances; `log_ratio` is the logarithm of the likelihood ratio so far."""

    steers = True

    def happens(self, chance: float, wish: float | None = None) -> bool:
        if wish is None or not 0 < chance < 1:
            return super().happens(chance)
        if self._entropy.random() < wish:
            self.log_ratio += math.log(chance / wish)
            return True
        self.log_ratio += math.log((1 - chance) / (1 - wish))
        return False


def posterior(prior: float, otherwise: float) -> float:
    """Chance of a cause, given an effect that it has for certain and that comes without it with chance `otherwise`."""
    return prior / (prior + (1 - prior) * otherwise) if prior > 0 else 0.0
