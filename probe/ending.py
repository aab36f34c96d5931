"""How a session ends, as a value; and what a coordinator says of it, in bounds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

LONGEST_RETRY_S: Final = 3600.0
"""A coordinator that was wrong once must not keep a probe away for years."""
MOST_TEXT: Final = 1000
"""Characters of a coordinator's text that are logged."""


class EndKind(Enum):
    """How a session ended; the values are those of `semconv.SESSION_ENDS`."""

    DRAINED = "drained"
    """The agent is going away and owes nothing."""
    MOVED = "moved"
    """The coordinator is going away and the agent owes it nothing."""
    LOST = "lost"
    """The stream broke or was closed."""
    HUNG = "hung"
    """The coordinator was not heard from."""
    UNREACHABLE = "unreachable"
    """There never was a session."""
    INVALID = "invalid"
    """The coordinator sent what means nothing."""
    REJECTED = "rejected"
    """The coordinator wants no session."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a session.

    Attributes:
        kind: how.
        detail: for people.
        stood: whether there was a welcome.
        retry_after_s: REJECTED: when to try again; 0: not by itself.
        is_final: REJECTED: no later attempt can do better by itself.
    """

    kind: EndKind
    detail: str
    stood: bool = False
    retry_after_s: float = 0.0
    is_final: bool = False


class EndedError(Exception):
    """Ends the session from within; see `End` for the rest."""

    def __init__(self, kind: EndKind, detail: str, *, retry_after_s: float = 0.0, is_final: bool = False) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.retry_after_s, self.is_final = kind, detail, retry_after_s, is_final


def cut(text: str) -> str:
    """A coordinator's text, in bounds."""
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}..."
