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
    outputs = [f"--{kind}_out={into}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{into}" for kind in ("mypy", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *outputs, *sources]
    environment = {"PATH": f"{BIN}:/usr/bin:/bin"}
    subprocess.run(command, check=True, cwd=PROTO, env=environment)
    (package / "__init__.py").write_text(INIT)
    for path in package.glob("*_pb2_grpc.py*"):
        name = path.name.split("_pb2_grpc")[0]
        if "service " not in (PROTO / PACKAGE / f"{name}.proto").read_text():
            path.unlink()  # nothing in it but imports
    return _contents(package)


def _contents(package: Path) -> dict[Path, str]:
    return {
        path.relative_to(package): path.read_text() for path in sorted(package.glob("*.py*")) if path.suffix != ".pyc"
    }


def main(arguments: list[str]) -> int:
    """Exit code 1 if `--check` finds a difference."""
    try:
        lint()
        with tempfile.TemporaryDirectory() as scratch:
            fresh = generate(Path(scratch))
    except subprocess.CalledProcessError as error:
        print(f"gen: {Path(error.cmd[0]).name} found the faults above in proto/", file=sys.stderr)
        return 1
    kept = _contents(ROOT / PACKAGE)
    different = sorted(name for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))
    if arguments == ["--check"]:
        for name in different:
            print(f"{PACKAGE / name}: differs from what proto/ says; run `make gen` and commit it", file=sys.stderr)
        return 1 if different else 0
    (ROOT / PACKAGE).mkdir(exist_ok=True)
    for name in different:
        path = ROOT / PACKAGE / name
        if name in fresh:
            path.write_text(fresh[name])
        else:
            path.unlink()
        print(f"{PACKAGE / name}: {'written' if name in fresh else 'removed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
