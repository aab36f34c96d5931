"""A classified exchange. The vocabulary is closed: a new outcome must light up every place that matters."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """What one exchange amounts to."""

    REPLIED = "replied"
    """A reply in time that echoes our random origin, from a synchronised server."""
    UNSYNCHRONISED = "unsynchronised"
    """The same from a server that says it is not synchronised: an answer too."""
    RATE_LIMITED = "rate-limited"
    """A kiss code RATE with our origin: the server is there and sees us."""
    REFUSED = "refused"
    """A kiss code DENY or RSTR with our origin, or an ICMP refusal that quotes our packet."""
    SILENT = "silent"
    """Nothing came, and the probe's control servers answered before and after."""
    LATE = "late"
    """Only answers after the timeout: no sign that a monitor is served, yet an answer to whoever must be blocked."""
    MALFORMED = "malformed"
    """Something came that does not answer our packet: wrong origin, too short, our own bytes sent back."""
    PROBE_FAILED = "probe-failed"
    """The probe, its clock or its path to its control servers failed: the exchange says nothing about the target."""
