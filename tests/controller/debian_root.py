"""Roots of Debian releases for test machines, and the packages of this checkout built in them.

A root takes a minute to make (debootstrap), so it is kept in ``/var/cache`` for all checkouts. It has what a
controller has before sysreg comes: systemd, docker, containerd. Machines have no network: apt finds what the
packages depend on in its cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path("/var/cache/sysreg-tests")
RELEASES = ("bookworm", "trixie")

_BASE = [
    *("bash-completion", "ca-certificates", "containerd", "curl", "dbus", "docker.io", "iproute2"),
    *("man-db", "openssl", "procps", "systemd", "systemd-sysv"),
]
_ALSO = {"bookworm": (), "trixie": ("docker-cli",)}
#: what the packages are built from
_SOURCES = ("LICENSE", "MANIFEST.in", "README.rst", "pyproject.toml", "setup.cfg", "setup.py")
_TREES = ("debian", "etc", "man", "sysreg_cli")


def machine_root(release: str) -> Path:
    """The root of a machine of ``release`` without sysreg."""
    wanted = sorted((*_BASE, *_ALSO[release]))
    root = CACHE / f"{release}-{_digest(*wanted)}"
    with _locked(release):
        if not root.exists():
            for old in CACHE.glob(f"{release}-*"):
                shutil.rmtree(old)
            building = Path(tempfile.mkdtemp(prefix=f"{release}-new-", dir=CACHE))
            building.chmod(0o755)
            include = f"--include={','.join(wanted)}"
            _run("debootstrap", "--variant=minbase", include, release, str(building), _mirror())
            _chroot(building, None, "apt-get", "-q", "update")
            building.rename(root)
    return root


def packages(release: str) -> Path:
    """A directory with the packages of this checkout, built in ``release`` by ``make deb``'s command."""
    root = machine_root(release)
    done = root / "srv" / f"sysreg-{_digest_of_sources()}"
    with _locked(release):
        if not done.exists():
            upper = root.with_name(f"{root.name}-build")
            lines = (CHECKOUT / "packages/deb.txt").read_text().splitlines()
            names = [line for line in lines if not line.startswith("#")]
            source = upper / "upper/build/sysreg"
            shutil.rmtree(source.parent, ignore_errors=True)
            source.mkdir(parents=True)
            for name in _SOURCES:
                shutil.copy2(CHECKOUT / name, source / name)
            for name in _TREES:
                leftovers = shutil.ignore_patterns("__pycache__", "*.debhelper*", "*.substvars", "files")
                shutil.copytree(CHECKOUT / name, source / name, ignore=leftovers)
            install = "apt-get -q -y --no-install-recommends"
            tools = f"{install} install {' '.join(names)} && cd /build/sysreg && {install} build-dep ./"
            _chroot(root, upper, "sh", "-c", tools)
            build = (
                "cd /build/sysreg && dpkg-buildpackage --no-sign --build=binary >&2 && lintian ../*.changes"
            )
            lint = _chroot(root, upper, "sh", "-c", build)
            building = done.with_name(f"{done.name}.new")
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            for package in source.parent.glob("*.deb"):
                shutil.copy2(package, building)
            (building / "lintian").write_text(lint)
            download = "apt-get -q -y --no-install-recommends --download-only install /srv/*.new/*.deb"
            _chroot(root, None, "sh", "-c", download)
            building.rename(done)
    return Path("/srv") / done.name


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


def _chroot(root: Path, upper: Path | None, *command: str) -> str:
    script = Path(__file__).with_name("chroot.sh")
    return _run(str(script), str(root), str(upper or "-"), *command)


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
