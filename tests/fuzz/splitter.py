"""Cuts a fuzzer's bytes into numbers, choices and smaller bytes. Total: past the end everything is zero or empty.

Atheris brings such a class of its own; the corpus is replayed where atheris is not installed, so here is a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Splitter:
    """Takes from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were not taken yet."""
        return max(0, len(self._data) - self._at)

    def take(self, count: int) -> bytes:
        """The next bytes, padded with zeros."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken.ljust(count, b"\0")

    def number(self, octets: int) -> int:
        """An unsigned number of so many octets."""
        return int.from_bytes(self.take(octets), "big")

    def below(self, bound: int) -> int:
        """A number from 0 to bound - 1, bound at most 65,536; one octet where that is enough."""
        return self.number(1 if bound <= 256 else 2) % bound

    def flag(self) -> bool:
        return bool(self.take(1)[0] & 1)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def octets(self, most: int) -> bytes:
        """Bytes of a length that is given before them; never more than there are."""
        return self.take(min(self.below(most + 1), self.left))

    def rest(self) -> bytes:
        return self.take(self.left)

    def text(self, most: int) -> str:
        """Any text: what is no UTF-8 is replaced."""
        return self.octets(most).decode("utf-8", "replace")
