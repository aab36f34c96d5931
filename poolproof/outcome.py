"""A classified exchange. The vocabulary is closed: a new outcome must light up every place that matters."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """What one exchange amounts to.

    Attributes:
        is_answer: the target answered our packet, in time or late. It refutes where silence was asked for.
        shows_presence: the target answered in time, so it serves whoever asked.
    """

    is_answer: bool
    shows_presence: bool

    def __new__(cls, word: str, is_answer: bool = False, shows_presence: bool = False) -> Outcome:
        """A member whose value is its word; the flags are plain attributes because `decide` reads them in its loops."""
        member = object.__new__(cls)
        member._value_ = word
        member.is_answer = is_answer
        member.shows_presence = shows_presence
        return member

    REPLIED = ("replied", True, True)
    """A reply in time that echoes our random origin, from a synchronised server."""
    UNSYNCHRONISED = ("unsynchronised", True, True)
    """The same from a server that says it is not synchronised: an answer too."""
    RATE_LIMITED = ("rate-limited", True, True)
    """A kiss code RATE with our origin: the server is there and sees us."""
    LATE = ("late", True)
    """Answers with our origin, but only after the timeout: no sign that a monitor is served, and an answer all
    the same."""
    REFUSED = ("refused",)
    """A kiss code DENY or RSTR with our origin, or an ICMP refusal that quotes our packet."""
    SILENT = ("silent",)
    """Nothing came, and the probe's control servers answered before and after."""
    MALFORMED = ("malformed",)
    """Something came that does not answer our packet: wrong origin, too short, our own bytes sent back."""
    PROBE_FAILED = ("probe-failed",)
    """The probe, its clock or its path failed: the exchange says nothing about the target."""
