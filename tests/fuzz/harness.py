"""What a harness is: one decoder, and what must hold for any bytes; a function that atheris and pytest both drive."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

MAX_BYTES = 600
"""Longest input; the corpus is to stay small enough to be read and committed."""
NOISE = tuple(random.Random(seed).randbytes(length) for seed, length in enumerate((16, 48, 120, 250, 400)))
"""Where a search may start if nothing better is known."""


@dataclass(frozen=True, slots=True)
class Harness:
    """One decoder under search.

    Attributes:
        name: also the folder of its corpus.
        decoders: what is under test, for people.
        check: takes any bytes; raises AssertionError where a property does not hold, and whatever a decoder raises that
            it does not document. Returns what the bytes came to.
        ends: what the committed corpus must come to, each at least once: a search that is refused at the door every
            time shows nothing.
        seeds: where the search starts.
    """

    name: str
    decoders: str
    check: Callable[[bytes], str]
    ends: frozenset[str]
    seeds: tuple[bytes, ...] = NOISE
