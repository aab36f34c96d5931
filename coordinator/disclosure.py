"""What of a trace the applicant may see: the vantages that they were told, and nothing from which others follow.

Witnesses are told to nobody. Vantages of the baseline that got no role stay hidden as well: whoever knew all candidates
would know the witnesses by taking away the rest.
"""

from __future__ import annotations

from collections.abc import Iterable

from poolproof.fleet import Role
from poolproof.ids import VantageId
from poolproof.semconv import VANTAGE
from poolproof.span import Span
from poolproof.verification import Attempt


def told(attempt: Attempt) -> frozenset[VantageId]:
    """Vantages whose part in the attempt the owner was told."""
    if attempt.challenge is None:
        return frozenset()
    views = [row.perspective for row in attempt.challenge.rows]
    return frozenset(view.vantage for view in views if view.role is not Role.WITNESS)


def disclosed(spans: Iterable[Span], attempt: Attempt) -> tuple[Span, ...]:
    """The spans without those of other vantages, and without all that lies below these."""
    known, kept = told(attempt), tuple(spans)
    hidden = {
        span.context.span_id for span in kept if VANTAGE in span.attributes and span.attributes[VANTAGE] not in known
    }
    while below := {span.context.span_id for span in kept if span.parent in hidden} - hidden:
        hidden |= below
    return tuple(span for span in kept if span.context.span_id not in hidden)
