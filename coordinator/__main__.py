"""`python -m coordinator`: a coordinator from its settings file and environment, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import sys

from coordinator.conductor import UnknownPolicyError
from coordinator.draw_key import DrawKeyError
from coordinator.fleet import FleetError
from coordinator.policy_file import PolicyFileError
from coordinator.server import ListenError, serve
from coordinator.settings import CoordinatorSettings, SettingsError, load
from coordinator.store.errors import StoreError
from poolproof.logs import LogFormat, configure

UNUSABLE = 2
"""Exit code: somebody has to change something before it can start."""


def run(settings: CoordinatorSettings) -> int:
    """Runs a coordinator; the process's exit code. What keeps it from starting is said on stderr."""
    try:
        asyncio.run(serve(settings))
    except (
        DrawKeyError,
        FleetError,
        ListenError,
        PolicyFileError,
        SettingsError,
        StoreError,
        UnknownPolicyError,
    ) as error:
        print(f"poolproof coordinator: {error}", file=sys.stderr)
        return UNUSABLE
    return 0


def main() -> int:
    """Settings, logs, and then `run`."""
    configure(LogFormat.JSON)
    try:
        settings = load()
    except SettingsError as error:
        print(f"poolproof coordinator: {error}", file=sys.stderr)
        return UNUSABLE
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
