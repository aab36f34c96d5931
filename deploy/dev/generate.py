"""Generates poolproof/v1 from proto/, or with `--check` fails where what is committed differs.

protoc writes absolute imports from its proto path, so `proto/poolproof/v1/x.proto` becomes `poolproof.v1.x_pb2`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
BIN = Path(sys.executable).parent
PACKAGE = Path("poolproof") / "v1"
INIT = '"""Generated from proto/poolproof/v1 by `make gen`; imported only by `poolproof.wire` and the gRPC edges."""\n'


def lint() -> None:
    """Holds the contract to buf's standard rules (proto/buf.yaml)."""
    subprocess.run([BIN / "buf", "lint", PROTO], check=True)


def generate(into: Path) -> dict[Path, str]:
    """Writes the generated package below `into` and returns what each file holds."""
    package = into / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path.relative_to(PROTO)) for path in (PROTO / PACKAGE).glob("*.proto"))
    # mypy-protobuf, because protoc's own stubs leave the gRPC half untyped.
    outputs = [f"--{kind}_out={into}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *outputs, *sources]
    environment = {"PATH": f"{BIN}:/usr/bin:/bin"}
    subprocess.run(command, check=True, cwd=PROTO, env=environment, stderr=subprocess.DEVNULL)
    (package / "__init__.py").write_text(INIT)
    for path in package.glob("*_pb2_grpc.py*"):
        name = path.name.split("_pb2_grpc")[0]
        if "service " not in (PROTO / PACKAGE / f"{name}.proto").read_text():
            path.unlink()  # nothing in it but imports
    return _contents(package)


def _contents(package: Path) -> dict[Path, str]:
    return {path.relative_to(package): path.read_text() for path in sorted(package.glob("*.py*")) if path.suffix != ".pyc"}


def main(arguments: list[str]) -> int:
    """Exit code 1 if `--check` finds a difference."""
    lint()
    if arguments != ["--check"]:
        committed = ROOT / PACKAGE
        stale = set(_contents(committed)) - set(generate(ROOT)) if committed.is_dir() else set()
        with tempfile.TemporaryDirectory() as scratch:
            stale = set(_contents(committed)) - set(generate(Path(scratch)))
        for name in stale:
            (committed / name).unlink()
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        fresh = generate(Path(scratch))
    committed_files = _contents(ROOT / PACKAGE)
    different = sorted(name for name in fresh.keys() | committed_files.keys() if fresh.get(name) != committed_files.get(name))
    for name in different:
        print(f"{PACKAGE / name}: differs from what proto/ says; run `make gen` and commit it", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
