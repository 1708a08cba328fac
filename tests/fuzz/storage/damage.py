"""One random change of a file or directory, as a power loss, a careless restore or an attacker makes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

_LINK = b"sha256:" + b"ab" * 32


def damage(top: Path, random: Random) -> str:
    """Change something below ``top``, and return what."""
    name = random.choice([*_FILES] * 2 + [*_DIRECTORIES])
    target = _file(top, random) if name in _FILES else _directory(top, random)
    change = _FILES.get(name) or _DIRECTORIES[name]
    change(target, random)
    return f"{name}: {target.relative_to(top)}"


def _file(top: Path, random: Random) -> Path:
    """Choose a kind of file first, so that each kind is met as often."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(top.rglob("*")):
        if path.is_file() and not path.is_symlink():
            kinds.setdefault(_kind(path), []).append(path)
    return random.choice(kinds[random.choice(sorted(kinds))])


def _kind(path: Path) -> str:
    parts = path.parts
    for kind in ("_uploads", "_layers", "revisions", "current", "index"):
        if kind in parts:
            return kind
    return "manifest" if b'"schemaVersion"' in path.read_bytes() else "blob"


def _directory(top: Path, random: Random) -> Path:
    directories = [path for path in sorted(top.rglob("*")) if path.is_dir() and not path.is_symlink()]
    return random.choice(directories)


# -- files


def _write(path: Path, data: bytes) -> None:
    """Write through the file that is there: it keeps owner and mode."""
    path.write_bytes(data)


def _cut(path: Path, random: Random) -> None:
    data = path.read_bytes()
    _write(path, data[: random.randrange(len(data) or 1)])


def _flip(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes() or b"\0")
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    _write(path, bytes(data))


def _foreign(path: Path, random: Random) -> None:
    _write(
        path, random.choice([b"{}", b"[]", b"sha256:abc", b"sha512:" + b"0" * 128, _LINK, b"\xff\0", b"null"])
    )


def _exchange(path: Path, random: Random) -> None:
    """Give it the content of another file."""
    top = next(parent for parent in path.parents if parent.name == "v2")
    others = [other for other in sorted(top.rglob("*")) if other.is_file() and not other.is_symlink()]
    _write(path, random.choice(others).read_bytes())


def _to_directory(path: Path, _: Random) -> None:
    status = path.stat()
    path.unlink()
    path.mkdir()
    os.chown(path, status.st_uid, status.st_gid)


def _to_symbolic_link(path: Path, random: Random) -> None:
    path.unlink()
    path.symlink_to(random.choice([".", "nowhere", "/etc/passwd", path.name]))


def _root_only(path: Path, _: Random) -> None:
    os.chown(path, 0, 0)
    path.chmod(0o600)


_FILES: dict[str, Callable[[Path, Random], None]] = {
    "empty": lambda path, _: _write(path, b""),
    "cut": _cut,
    "flipped": _flip,
    "a newline more": lambda path, _: _write(path, path.read_bytes() + b"\n"),
    "missing": lambda path, _: path.unlink(),
    "foreign content": _foreign,
    "content of another": _exchange,
    "a directory": _to_directory,
    "a symbolic link": _to_symbolic_link,
    "root's file": _root_only,
}


# -- directories


def _stray(path: Path, random: Random) -> None:
    """Add something that no registry writes there."""
    name = random.choice(["lost+found", ".nfs0001", "x", "0" * 64, "UPPER", "_layers"])
    stray = path / name
    if stray.exists():
        return
    if random.random() < 0.5:
        stray.mkdir()
    else:
        stray.write_bytes(random.choice([b"", b"foreign", _LINK]))
    status = path.stat()
    os.chown(stray, status.st_uid, status.st_gid)


def _own_by_root(path: Path, random: Random) -> None:
    os.chown(path, 0, 0)
    path.chmod(random.choice([0o700, 0o755]))


def _to_file(path: Path, random: Random) -> None:
    status = path.stat()
    shutil.rmtree(path)
    path.write_bytes(random.choice([b"", b"foreign", _LINK]))
    os.chown(path, status.st_uid, status.st_gid)


def _directory_to_symbolic_link(path: Path, random: Random) -> None:
    shutil.rmtree(path)
    path.symlink_to(random.choice([".", "..", "nowhere", "/etc/passwd", path.name]))


_DIRECTORIES: dict[str, Callable[[Path, Random], None]] = {
    "a missing directory": lambda path, _: shutil.rmtree(path),
    "something foreign in it": _stray,
    "root's directory": _own_by_root,
    "a file in its place": _to_file,
    "a symbolic link in its place": _directory_to_symbolic_link,
}
