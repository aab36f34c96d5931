"""What can go wrong with a store, each as a type: nobody has to read a message to decide what to do."""

from __future__ import annotations


class StoreError(Exception):
    """Any failure of a store."""


class InvalidRequestError(StoreError, ValueError):
    """The caller asked for something that no adapter takes (a malformed key, a duplicate, a limit out of range)."""


class ValueTooLargeError(InvalidRequestError):
    """One value is larger than `MAX_VALUE_BYTES`."""


class TransactionTooLargeError(InvalidRequestError):
    """A transaction has more operations or bytes than the production store takes in one request."""


class CompactedError(StoreError):
    """The history that a watch asked for is gone: scan again and watch from there.

    Attributes:
        oldest_revision: the oldest revision that a watch can still start from.
    """

    def __init__(self, asked_revision: int, oldest_revision: int) -> None:
        super().__init__(
            f"watch from revision {asked_revision}: history begins at revision {oldest_revision}; "
            "scan again and watch from the page's revision + 1"
        )
        self.oldest_revision = oldest_revision


class StoreUnavailableError(StoreError):
    """The store could not serve a request, now or until it is opened again; the message says which and why.

    Everything that was acknowledged is kept. A *commit* that ends like this may or may not have taken effect: read the
    keys again, or repeat it if its compares make that harmless.
    """


class StoreClosedError(StoreUnavailableError):
    """The store was closed by its own process."""


class StoreLockedError(StoreUnavailableError):
    """Another process has the store open."""


class StoreIncompatibleError(StoreUnavailableError):
    """The file is no store of ours, or a newer version of poolproof wrote it."""
