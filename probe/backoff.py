"""How long to wait before the next attempt to connect: exponential, with full jitter, never zero. Pure.

Full jitter spreads a fleet that lost its coordinator at one moment over the whole interval; the floor keeps one agent
with a lucky draw from spinning.
"""

from __future__ import annotations

from collections.abc import Callable

Entropy = Callable[[int], int]
"""That many random bits, as `secrets.randbits`."""

_BITS = 32


class Backoff:
    """Delays in seconds: uniform between the floor and a ceiling that doubles with each one, up to the cap."""

    def __init__(self, entropy: Entropy, *, floor_s: float, first_s: float, cap_s: float) -> None:
        """Args: entropy: random bits. floor_s: least delay. first_s: first ceiling. cap_s: last ceiling.

        Raises:
            ValueError: unless 0 < floor_s <= first_s <= cap_s.
        """
        if not 0 < floor_s <= first_s <= cap_s:
            raise ValueError(f"backoff: floor {floor_s} s, first {first_s} s, cap {cap_s} s: give rising, above zero")
        self._entropy = entropy
        self._floor_s = floor_s
        self._first_s = first_s
        self._cap_s = cap_s
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """The next delay."""
        share = self._entropy(_BITS) / (1 << _BITS)
        delay_s = self._floor_s + share * (self._ceiling_s - self._floor_s)
        self._ceiling_s = min(self._cap_s, 2 * self._ceiling_s)
        return delay_s

    def reset(self) -> None:
        """A session stood: begin small again."""
        self._ceiling_s = self._first_s
