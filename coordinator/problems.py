"""Why the coordinator does not do what somebody asked. Each message names the field, the value and the remedy.

Events that come at the wrong time are the kernel's `NotNowError`, reports of something else its `ForeignReportError`.
"""

from __future__ import annotations

from poolproof.ids import VerificationId


class CoordinatorError(Exception):
    """Any of these."""


class UnknownVerificationError(CoordinatorError):
    """There is no such verification."""

    def __init__(self, verification: VerificationId) -> None:
        super().__init__(f"id: there is no verification {verification[:80]!r}; `poolproof list` shows those there are")


class DuplicateClaimError(CoordinatorError):
    """The applicant has an open verification of this target."""


class NoVantagesError(CoordinatorError):
    """No vantage can work for this target now."""


class NotQuarantinedError(CoordinatorError):
    """There is no such vantage, or nothing to release it from, or no reason was given."""


class BusyError(CoordinatorError):
    """Too much is under way at once; the caller may try again."""


class ForbiddenTargetError(CoordinatorError):
    """The operator's rules do not allow this target."""


class UnresolvableTargetError(CoordinatorError):
    """A host name has no address."""


class ResolverTimeoutError(CoordinatorError):
    """The name servers did not answer in time, or said to try again."""
