"""Golden output: texts that people read, kept beside the tests that produce them.

After a change that is meant, write them anew with `POOLPROOF_WRITE_GOLDEN=1 pytest ...` and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path


def check_golden(directory: Path, name: str, text: str) -> None:
    """Assert that `text` is what the golden file `name` holds."""
    path = directory / name
    if os.environ.get("POOLPROOF_WRITE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{name}: no golden text yet; write it with POOLPROOF_WRITE_GOLDEN=1 and read it"
    assert text == path.read_text(encoding="utf-8")
