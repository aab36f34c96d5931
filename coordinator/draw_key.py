"""The secret that roles are drawn with: made once, kept in the state directory, readable by its owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from coordinator.claims import DRAW_KEY_BYTES

FILE_NAME = "draw.key"


class DrawKeyError(ValueError):
    """The key file cannot be used; the message says why and what to do."""


def draw_key(state_dir: Path) -> bytes:
    """The key of this coordinator; made if there is none.

    Raises:
        DrawKeyError: the file cannot be read or made, is open to others, or holds something else.
    """
    path = state_dir / FILE_NAME
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise DrawKeyError(f"draw key {path}: others may read it; run chmod 600 {path}")
        key = path.read_bytes()
    except OSError as error:
        raise DrawKeyError(f"draw key {path}: {error.strerror}; see that state_dir can be written") from None
    if len(key) != DRAW_KEY_BYTES:
        raise DrawKeyError(
            f"draw key {path}: has {len(key)} bytes, not {DRAW_KEY_BYTES}; restore it from a backup, or delete it"
            " and lose the means to check earlier draws"
        )
    return key


def _make(path: Path) -> None:
    """Written whole or not at all: a crash on the way leaves no half key behind."""
    fresh = path.with_suffix(f".{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, secrets.token_bytes(DRAW_KEY_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(fresh, path)
    except FileExistsError:
        pass  # another process was quicker, and its key is as good
    finally:
        fresh.unlink(missing_ok=True)
