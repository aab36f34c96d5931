"""The build frame: what it says on a machine that lacks something, and that CI lets no test be skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_ENSUREPIP = 'case "$*" in *ensurepip*) exit 1;; esac\nexec {python} "$@"\n'


class Machine:
    """A machine that has next to nothing, with its own copy of the repository's frame."""

    def __init__(self, root: Path) -> None:
        self.repository, self.bin = root / "repository", root / "bin"
        self.bin.mkdir(parents=True)
        shutil.copytree(ROOT / "deploy" / "dev", self.repository / "deploy" / "dev")
        for name in ("bash", "cat", "dirname", "flock", "mkdir"):
            (self.bin / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is not on PATH"))

    def has(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!{self.bin}/bash\n{script}")
        path.chmod(0o755)

    def setup(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / "bash", self.repository / "deploy/dev/setup.sh", "test"],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_root_the_remedy_is_printed(machine: Machine) -> None:
    machine.has("id", "echo 1000")
    result = machine.setup()
    assert result.returncode != 0
    assert "no Python 3.11 or newer on PATH" in result.stderr
    assert "sudo apt-get update && sudo apt-get install python3 python3-venv" in result.stderr


def test_a_python_without_venv_gets_the_package_of_its_version(machine: Machine) -> None:
    machine.has("id", "echo 1000")
    machine.has("python3", NO_ENSUREPIP.format(python=sys.executable))
    result = machine.setup()
    assert result.returncode != 0
    assert f"apt-get install python3.{sys.version_info[1]}-venv;" in result.stderr


def test_root_has_the_package_installed_after_an_update(machine: Machine) -> None:
    machine.has("id", "echo 0")
    machine.has("apt-get", f'echo "$@" >> {machine.bin}/asked\n')
    result = machine.setup()
    asked = (machine.bin / "asked").read_text().splitlines()
    assert asked == ["update -qq", "install -y -qq --no-install-recommends python3 python3-venv"]
    # This apt-get installs nothing, and setup says so rather than to go on.
    assert result.returncode != 0
    assert "did not help" in result.stderr


def test_ci_counts_a_skipped_test_as_failed(tmp_path: Path) -> None:
    sample = tmp_path / "test_sample.py"
    sample.write_text("import pytest\ndef test_a(): pytest.skip('no root')\ndef test_b(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(sample)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    codes = [
        subprocess.run([*command, *plugin], cwd=tmp_path, env=environment, capture_output=True, check=False).returncode
        for plugin in ([], ["-p", "tests.tidy.no_skips"])
    ]
    assert codes == [0, 1]
