"""How the lab gets its daemons, with an apt of its own that only plays."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import packages

APT = """#!/bin/sh
cd "{shop}" || exit 1
echo "apt-get $*" >> calls
case "$*" in
  *update*) touch lists ;;
  *download*) [ -e lists ] || {{ echo "E: no candidate" >&2; exit 100; }}; cp "{shop}"/chrony_*.deb "$OLDPWD" ;;
esac
"""
LDD = """#!/bin/sh
echo "libmissing.so.1 => {answer}"
"""


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a chrony package of an epoch version, and an apt that serves it once its lists are updated."""
    shop, tree, programs = tmp_path / "shop", tmp_path / "tree", tmp_path / "bin"
    for folder in (shop, tree / "DEBIAN", tree / "usr/sbin", tree / "usr/bin", programs):
        folder.mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: chrony\nVersion: 1:9.9-1\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\n"
        "Description: none\nDepends: adduser, libfirst1 (>= 2.0) | libother, zlib, libsecond2:any\n"
    )
    for relative in packages.PROGRAMS["chrony"]:
        (tree / relative).write_text("program")
    subprocess.run(
        ["dpkg-deb", "--build", str(tree), str(shop / "chrony_1%3a9.9-1_all.deb")], check=True, capture_output=True
    )
    _script(programs / "apt-get", APT.format(shop=shop))
    _script(programs / "ldd", LDD.format(answer="/lib/libmissing.so.1"))
    monkeypatch.setattr(packages, "_SYSTEM_PATH", f"{programs}:{packages._SYSTEM_PATH}")
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    packages.unpacked.cache_clear()
    yield shop
    packages.unpacked.cache_clear()


def _calls(shop: Path) -> list[str]:
    """The last word but the options of what apt was told: the command, or the command and its packages."""
    lines = (shop / "calls").read_text().splitlines()
    return [line.partition("download ")[2] or line.partition("install ")[2] or line.split()[-1] for line in lines]


def test_a_package_is_unpacked_after_an_update_where_apts_lists_are_of_no_use(shop: Path) -> None:
    folder = packages.unpacked("chrony")
    assert folder == packages.CACHE / "chrony_1%3a9.9-1"
    assert Path(packages.program("chrony", "chronyc")).read_text() == "program"
    assert _calls(shop) == ["chrony", "update", "chrony"]


def test_a_second_run_asks_apt_nothing(shop: Path) -> None:
    first = packages.unpacked("chrony")
    packages.unpacked.cache_clear()  # as in a new process
    (shop / "calls").unlink()
    assert packages.unpacked("chrony") == first
    assert not (shop / "calls").exists()


def test_a_folder_that_lacks_a_program_is_unpacked_anew(shop: Path) -> None:
    (packages.unpacked("chrony") / "usr/bin/chronyc").unlink()
    packages.unpacked.cache_clear()
    assert (packages.unpacked("chrony") / "usr/bin/chronyc").is_file()


def test_only_libraries_are_installed_and_only_when_one_is_missing(shop: Path, tmp_path: Path) -> None:
    _script(tmp_path / "bin/ldd", LDD.format(answer="not found"))
    packages.unpacked("chrony")
    assert _calls(shop)[-1] == "libfirst1 libsecond2"


def test_a_failure_of_apt_is_told_with_its_words_and_leaves_nothing_half_done(shop: Path) -> None:
    next(shop.glob("*.deb")).unlink()
    with pytest.raises(packages.LabUnavailableError, match=r"apt-get .* download chrony` failed .*No such file"):
        packages.unpacked("chrony")
    assert [path.name for path in packages.CACHE.iterdir()] == ["lock"]


def test_missing_tools_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "_SYSTEM_PATH", str(tmp_path))
    assert packages.missing_tools() == ("iproute2", "nftables", "iptables", "util-linux")
    with pytest.raises(packages.LabUnavailableError, match="apt-get install nftables"):
        packages.tool("nft")
    _script(tmp_path / "ip", "#!/bin/sh\n")
    assert packages.missing_tools() == ("nftables", "iptables", "util-linux")
