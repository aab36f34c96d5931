"""A verification followed to its end, across coordinators that stop and start: they carry it on, and so do we."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from coordinator.cli.connection import Coordinator
from coordinator.cli.exit_codes import ExitCode
from coordinator.cli.failure import Failure
from coordinator.cli.snapshot import Snapshot

PATIENCE_S: Final = 60.0
"""So long is a coordinator that is gone waited for."""
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 2.0


def followed(
    coordinator: Coordinator,
    verification: str,
    *,
    operator: bool = False,
    lost: Callable[[Failure], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Snapshot]:
    """Each state from now on, once each; ends after one that is not open.

    Args:
        coordinator: whom to ask.
        verification: id, or its beginning.
        operator: witnesses by name.
        lost: is told when the connection breaks, and each time that it cannot be had again.
        sleep, clock: in seconds; the time that passes without a word.

    Raises:
        Failure: the verification cannot be had, or the coordinator is gone for `PATIENCE_S`.
    """
    shown: int | None = None
    heard_s, pause_s = clock(), _FIRST_PAUSE_S
    while True:
        try:
            for snapshot in coordinator.watch(verification, operator=operator):
                heard_s, pause_s, verification = clock(), _FIRST_PAUSE_S, snapshot.id
                if snapshot.revision != shown:
                    shown = snapshot.revision
                    yield snapshot
                if not snapshot.state.is_open:
                    return
        except Failure as failure:
            passing = failure.code in (ExitCode.UNREACHABLE, ExitCode.TRY_AGAIN)
            if shown is None or not passing or clock() - heard_s > PATIENCE_S:
                raise
            lost(failure)
        sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
