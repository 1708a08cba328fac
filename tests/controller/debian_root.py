"""Debian 12 and 13 for test machines, and the packages of this checkout, built there.

A root takes a minute to make (debootstrap), and the packages take one more. Both are kept in ``/var/cache``
for all checkouts. A root has what a controller has before sysreg comes: systemd, docker, containerd, clients.
Machines have no network: a layer above the root has the packages, and all those that they depend on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path("/var/cache/sysreg-tests")
RELEASES = ("bookworm", "trixie")
#: this host's release; machines start from the host's own files if they are to have it
HOST = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
OTHER = next(release for release in reversed(RELEASES) if release != HOST)
#: for modules of which each test runs on both: the wheel on this host's release, the packages on the other
ON_BOTH = pytest.mark.parametrize("release", [HOST, OTHER], indirect=True)
#: where a machine has the packages
PACKAGES = "/srv/sysreg"

_DAY = 86400.0
_BASE = [
    *("bash-completion", "ca-certificates", "containerd", "curl", "dbus", "docker.io", "iproute2"),
    *("kubernetes-client", "man-db", "openssl", "procps", "python3-venv", "skopeo", "systemd"),
    "systemd-sysv",
]
_ALSO = {"bookworm": (), "trixie": ("docker-cli",)}
#: what an operator may install later; a machine has the packages as files
_LATER = ("etcd-client", "etcd-server")
_APT = "apt-get -q -y --no-install-recommends"
#: what the packages are built from
_SOURCES = (
    *("LICENSE", "MANIFEST.in", "README.rst", "constraints.txt"),
    *("pyproject.toml", "setup.cfg", "setup.py"),
)
_TREES = ("debian", "etc", "man", "sysreg_cli")


@cache
def layers(release: str) -> tuple[Path, ...]:
    """The directories that a machine of ``release`` starts from: what the packages need, above a root."""
    with _locked(release):
        root = _root(release)
        made = CACHE / f"{release}-packages-{_digest(root.name, _digest_of_sources())}"
        if not made.exists():
            _remove_unused(f"{release}-packages-*", _DAY / 12)
            with _building(release) as building:
                debs = building / "upper" / PACKAGES.lstrip("/")
                debs.mkdir(parents=True)
                _build(root, debs)
                wanted = f"{PACKAGES}/*.deb {' '.join(_LATER)}"
                download = f"apt-get -q update && {_APT} --download-only install {wanted}"
                _chroot(root, building, "sh", "-c", download)
                _keep(building / "upper", PACKAGES, "/var/cache/apt/archives", "/var/lib/apt/lists")
                (building / "upper").rename(made)
        os.utime(made)
    return made, root


def _root(release: str) -> Path:
    wanted = sorted((*_BASE, *_ALSO[release]))
    root = CACHE / f"{release}-root-{_digest(*wanted)}"
    if not root.exists():
        _remove_unused(f"{release}-*", _DAY)
        with _building(release) as building:
            bootstrap = ("debootstrap", "--variant=minbase", "--include=ca-certificates")
            _run(*bootstrap, release, str(building), _mirror())
            # by apt, since debootstrap does not choose among alternatives
            _chroot(building, None, "sh", "-c", f"apt-get -q update && {_APT} install {' '.join(wanted)}")
            _chroot(building, None, "apt-get", "clean")
            building.rename(root)
    os.utime(root)
    return root


def _build(root: Path, debs: Path) -> None:
    """Build the packages as ``make deb`` does, and put them into ``debs`` with what lintian says."""
    upper = root.with_name(f"{root.name}-build")  # it keeps the tools for the next build
    lines = (CHECKOUT / "packages/deb.txt").read_text().splitlines()
    tools = " ".join(line for line in lines if not line.startswith("#"))
    source = upper / "upper/build/sysreg"
    shutil.rmtree(source.parent, ignore_errors=True)
    source.mkdir(parents=True)
    for name in _SOURCES:
        shutil.copy2(CHECKOUT / name, source / name)
    for name in _TREES:
        leftovers = shutil.ignore_patterns("__pycache__", "*.debhelper*", "*.substvars", "files")
        shutil.copytree(CHECKOUT / name, source / name, ignore=leftovers)
    script = (
        f"apt-get -q update && {_APT} install {tools} && cd /build/sysreg && {_APT} build-dep ./\n"
        "dpkg-buildpackage --no-sign --build=binary && lintian ../*.changes >../lintian"
    )
    _chroot(root, upper, "sh", "-ec", script)
    os.utime(upper)
    for made in (*source.parent.glob("*.deb"), source.parent / "lintian"):
        shutil.copy2(made, debs)


@contextmanager
def _building(release: str) -> Iterator[Path]:
    """A new directory, which the caller may rename when it is complete."""
    building = Path(tempfile.mkdtemp(prefix=f"{release}-new-", dir=CACHE))
    building.chmod(0o755)
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _keep(root: Path, *names: str) -> None:
    """Remove everything below ``root`` but the directories ``names``."""
    for name in names:
        target = root / "kept" / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / name.lstrip("/")).rename(target)
    for path in root.iterdir():
        if path.name != "kept":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in (root / "kept").iterdir():
        path.rename(root / path.name)
    (root / "kept").rmdir()


def _remove_unused(pattern: str, seconds: float) -> None:
    """Remove what no run has used for so long. A younger one may be the disk of a machine that runs."""
    for path in CACHE.glob(pattern):
        if path.is_dir() and time.time() - path.stat().st_mtime > seconds:
            shutil.rmtree(path)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((CHECKOUT / name).read_bytes())
    for path in sorted(path for tree in _TREES for path in (CHECKOUT / tree).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(CHECKOUT)} {path.stat().st_mode}".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _mirror() -> str:
    """The mirror that this machine takes its packages from."""
    for line in _run("apt-get", "indextargets", "--format", "$(REPO_URI)").splitlines():
        if "security" not in line:
            return line
    raise AssertionError("apt knows no source of packages: run apt-get update")


def _chroot(root: Path, upper: Path | None, *command: str) -> None:
    _run(str(Path(__file__).with_name("chroot.sh")), str(root), str(upper or "-"), *command)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@contextmanager
def _locked(release: str) -> Iterator[None]:
    CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (CACHE / f"{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes, and checkouts, start at once
        yield
