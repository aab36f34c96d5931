"""How long one judgement takes: 10 perspectives, 12 rounds, every cell observed."""

from __future__ import annotations

import timeit

from poolproof.decide import decide
from poolproof.policy import POLICY_2026_11
from tests.kernel.situations import challenge, enacted, rounds

_CALLS, _REPEATS = 50, 100


def measure() -> dict[str, float]:
    """Microseconds per call, best of many: what the code costs when nothing else takes the processor."""
    asked = challenge(monitors=5, silent=5)
    fired, seen = rounds(asked, 12), enacted(asked, 12)
    times = timeit.repeat(lambda: decide(asked, fired, seen, 1, POLICY_2026_11), number=_CALLS, repeat=_REPEATS)
    return {"decide_10x12_us": min(times) / _CALLS * 1e6, "decide_10x12_goal_us": 100.0}
