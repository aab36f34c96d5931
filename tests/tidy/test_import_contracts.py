"""The import contracts of pyproject.toml catch what they are there to catch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("contracts")
    shutil.copy(ROOT / "pyproject.toml", into)
    for package in ("poolproof", "coordinator", "probe"):
        shutil.copytree(ROOT / package, into / package, ignore=shutil.ignore_patterns("__pycache__"))
    return into


def lint(copy: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINT_IMPORTS, "--no-cache"], cwd=copy, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("poolproof/outcome.py", "import time", "the kernel is pure"),
        ("poolproof/job.py", "from datetime import datetime", "the kernel is pure"),
        ("poolproof/decide.py", "import random", "the kernel is pure"),
        ("poolproof/fresh_rule.py", "import socket", "the kernel is pure"),
        ("poolproof/fresh_rule.py", "from google.protobuf import message", "the kernel is pure"),
        ("poolproof/job.py", "import poolproof.wire", "pure modules do not import its edge"),
        ("poolproof/job.py", "from poolproof.tracing import current_ids", "pure modules do not import its edge"),
        ("poolproof/job.py", "import poolproof.v1.agent_pb2", "generated protobuf types stop"),
        ("coordinator/scheduling.py", "from poolproof.v1 import agent_pb2", "generated protobuf types stop"),
        ("probe/fresh.py", "from poolproof.v1 import agent_pb2", "generated protobuf types stop"),
        ("probe/fresh.py", "import coordinator", "never each other"),
        ("poolproof/wire/evidence.py", "import coordinator", "the kernel imports neither side"),
        ("probe/fresh.py", "import scapy.all", "stay in the lab"),
    ],
)
def test_a_forbidden_import_is_found(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / module
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        result = lint(copy)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
    broken = [out for out in result.stdout.splitlines() if out.endswith("BROKEN") or " BROKEN" in out]
    assert result.returncode == 1
    assert any(contract in out for out in broken), result.stdout


def test_the_edges_may_use_generated_types(copy: Path) -> None:
    allowed = ["coordinator/rpc.py", "coordinator/cli/fresh.py", "probe/session.py"]
    made = [copy / name for name in allowed if not (copy / name).exists()]
    for path in made:
        path.parent.mkdir(exist_ok=True)
        path.write_text("from poolproof.v1 import agent_pb2\n")
    (copy / "coordinator/cli/__init__.py").touch()
    try:
        result = lint(copy)
    finally:
        for path in made:
            path.unlink()
    assert result.returncode == 0, result.stdout
