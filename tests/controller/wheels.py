"""The wheels for the machines, which have no network. They are built and fetched once, on the host."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from zipfile import ZipFile

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".run" / "cache" / "wheels"


def wheels() -> Path:
    """A directory with the wheel, built from this checkout, and all wheels that it requires."""
    sources = [
        CHECKOUT / name
        for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.rst", "LICENSE", "constraints.txt")
    ]
    trees = [CHECKOUT / "sysreg_cli", CHECKOUT / "etc", CHECKOUT / "man"]
    files = [path for path in sources if path.exists()]
    files += sorted(path for tree in trees for path in tree.rglob("*") if _is_source(path))
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(CHECKOUT)} {path.stat().st_mode}".encode() + path.read_bytes())
    done = CACHE / digest.hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes start at once
        if not done.exists():
            for old in CACHE.iterdir():
                # a younger one may be in use by a run that began before the last edit
                if old.is_dir() and time.time() - old.stat().st_mtime > 3600:
                    shutil.rmtree(old)
            building = Path(tempfile.mkdtemp(prefix="building-", dir=CACHE))
            _build(files, building)
            building.rename(done)
    return done


def changed_wheel(directory: Path, module: str) -> Path:
    """Write a wheel of the same version to ``directory`` in which ``module``, a path, has one more line."""
    (wheel,) = wheels().glob("sysreg_cli-*.whl")
    changed = directory / wheel.name
    with ZipFile(wheel) as old, ZipFile(changed, "w") as new:
        assert module in old.namelist()
        for entry in old.infolist():
            new.writestr(entry, old.read(entry) + (b"# changed\n" if entry.filename == module else b""))
    return changed


def _build(files: list[Path], directory: Path) -> None:
    """Build the wheel from a copy of the sources, because setuptools leaves files beside them."""
    copy = directory / "source"
    for path in files:
        target = copy / path.relative_to(CHECKOUT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    build = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", str(directory)]
    for what in ([str(copy)], ["--require-hashes", "--requirement", str(CHECKOUT / "constraints.txt")]):
        subprocess.run([*build, *what], check=True, timeout=600, stdout=subprocess.DEVNULL)
    shutil.rmtree(copy)


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
