"""Debian's ntpsec, chrony and openntpd side by side, unpacked and never installed: as packages they conflict.

Each goes to `.cache/lab/<package>_<version>/` of the checkout, where a second run finds it without asking apt.
Only libraries and tools (nftables, iproute2) are installed, and only what is missing.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

LAB: Final = Path(__file__).resolve().parent
CACHE: Final = LAB.parents[1] / ".cache" / "lab"

PROGRAMS: Final = MappingProxyType(
    {
        "ntpsec": ("usr/sbin/ntpd",),
        "chrony": ("usr/sbin/chronyd", "usr/bin/chronyc"),
        "openntpd": ("usr/sbin/ntpd",),
    }
)
"""What the lab runs out of each package."""

TOOLS: Final = MappingProxyType({"ip": "iproute2", "nft": "nftables", "iptables": "iptables", "setpriv": "util-linux"})
"""Program, and the Debian package that has it."""

_APT_TIMEOUT_S = 180
_SYSTEM_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class LabUnavailableError(Exception):
    """The lab cannot run on this machine; the message says why and what to do."""


def tool(name: str) -> str:
    """Absolute path of a system program of `TOOLS`.

    Raises:
        LabUnavailableError: it is not installed.
    """
    path = shutil.which(name, path=_SYSTEM_PATH)
    if path is None:
        raise LabUnavailableError(f"{name} is missing: run `apt-get install {TOOLS.get(name, name)}`")
    return path


def missing_tools() -> tuple[str, ...]:
    """Debian packages that the lab needs on the system and that are not there."""
    return tuple(package for name, package in TOOLS.items() if shutil.which(name, path=_SYSTEM_PATH) is None)


def prepare() -> None:
    """Makes everything ready that the lab needs; quick when it already is.

    Raises:
        LabUnavailableError: not root, no right to make network namespaces, or apt could not get a package.
    """
    if os.geteuid() != 0:
        raise LabUnavailableError("the lab makes network namespaces and needs root: run the tests as root")
    try:
        _command(["unshare", "--net", "true"])
    except LabUnavailableError as error:
        raise LabUnavailableError(
            f"this root may not make network namespaces ({error}): use a machine, or a container with CAP_SYS_ADMIN"
        ) from None
    missing = missing_tools()
    if missing:
        _install(missing)
    for package in PROGRAMS:
        unpacked(package)


@cache
def unpacked(package: str) -> Path:
    """Folder with the files of a Debian package, downloaded on first use.

    Args:
        package: a key of `PROGRAMS`.

    Raises:
        LabUnavailableError: apt could not get it.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    found = _newest(package)
    if found is None:
        with _locked(CACHE / "lock"):
            found = _newest(package) or _download(package)
    return found


def program(package: str, name: str) -> str:
    """Absolute path of a program of an unpacked package, like `program("chrony", "chronyc")`."""
    for relative in PROGRAMS[package]:
        if Path(relative).name == name:
            return str(unpacked(package) / relative)
    raise LabUnavailableError(f"package {package} has no program {name!r}: it has {', '.join(PROGRAMS[package])}")


def _newest(package: str) -> Path | None:
    """The last one unpacked of the complete folders of a package: a folder gets its name only when it is complete."""
    folders = [
        path
        for path in CACHE.glob(f"{package}_*/")
        if all((path / relative).is_file() for relative in PROGRAMS[package])
    ]
    return max(folders, key=lambda path: path.stat().st_mtime, default=None)


def _download(package: str) -> Path:
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="download-") as text:
        work = Path(text)
        archive = _archive(package, work)
        root = work / "root"
        _command(["dpkg", "-x", str(archive), str(root)])
        _install_libraries(archive, [root / relative for relative in PROGRAMS[package]])
        version = _command(["dpkg-deb", "--field", str(archive), "Version"]).strip()
        folder = CACHE / f"{package}_{version.replace(':', '%3a')}"
        if folder.exists():
            shutil.rmtree(folder)
        return root.rename(folder)


def _archive(package: str, folder: Path) -> Path:
    """Downloads a package's archive; asks for new lists only when the ones at hand are of no use."""
    fetch = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package]
    try:
        _command(fetch, folder)
    except LabUnavailableError:
        _command(["apt-get", "-q", "update"])
        _command(fetch, folder)
    archives = list(folder.glob(f"{package}_*.deb"))
    if len(archives) != 1:
        raise LabUnavailableError(f"apt-get download {package} left {len(archives)} archives: look at apt's sources")
    return archives[0]


def _install_libraries(archive: Path, programs: Sequence[Path]) -> None:
    """Installs the libraries that the archive depends on if its programs miss one; nothing else it depends on."""
    if not any("not found" in _command(["ldd", str(path)]) for path in programs):
        return
    depends = _command(["dpkg-deb", "--field", str(archive), "Depends"])
    _install([name for name in re.findall(r"(?:^|,)\s*([a-z0-9.+-]+)", depends) if name.startswith("lib")])


def _install(packages: Sequence[str]) -> None:
    command = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120", "--no-install-recommends", "install", *packages]
    try:
        _command(command)
    except LabUnavailableError:
        _command(["apt-get", "-q", "update"])
        _command(command)


def _command(command: Sequence[str], folder: Path | None = None) -> str:
    environment = os.environ | {"PATH": _SYSTEM_PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabUnavailableError(f"`{' '.join(command)}`: {error}; the lab needs a Debian with working apt") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-800:]
        raise LabUnavailableError(f"`{' '.join(command)}` failed ({done.returncode}): {said}")
    return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: parallel test runs share the cache."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
