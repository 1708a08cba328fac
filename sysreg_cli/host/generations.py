"""Generations of key and chain, and the symbolic link that names the one in use.

    <directory>/generations/000007/server.key     root:sysreg-tls 0440: two unprivileged services read it
    <directory>/generations/000007/server.crt     0444: the chain as it was given
    <directory>/current -> generations/000007     what each service reads
    <directory>/previous -> generations/000006    during a change: renamed to go back, which needs no space

Names are growing numbers, so a generation newer than ``current`` belongs to an unfinished change. Other names
count as 0.
"""

from __future__ import annotations

import grp
import os
import shutil
from pathlib import Path

from cryptography import x509

from sysreg_cli.host import failpoint, files
from sysreg_cli.pki.check import read_certificates
from sysreg_cli.settings.schema import CHAIN_FILE, CURRENT, KEY_FILE

#: the group that may read keys; on a host without it, the group of the directory
KEY_GROUP = "sysreg-tls"

#: how many generations are kept: the one in use, and those before it
KEPT = 3


class Generations:
    """The generations in ``directory``, the setting ``certificate.directory``. Methods raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._all = directory / "generations"
        self._current = directory / CURRENT
        self._previous = directory / "previous"

    def current(self) -> str | None:
        """Return the generation in use; None before the first install."""
        return _target(self._current)

    def names(self) -> list[str]:
        """Return all generations, oldest first, unfinished ones included."""
        if not self._all.is_dir():
            return []
        return sorted((path.name for path in self._all.iterdir()), key=_age)

    def before(self, name: str) -> list[str]:
        """Return the generations older than ``name``, oldest first."""
        return [other for other in self.names() if _age(other) < _age(name)]

    def next_name(self) -> str:
        """Return a name that is newer than all generations."""
        newest = max((number for number, _ in map(_age, self.names())), default=0)
        return f"{newest + 1:06}"

    def path(self, name: str) -> Path:
        """Return the directory of a generation."""
        return self._all / name

    def certificates(self, name: str) -> tuple[x509.Certificate, ...]:
        """Return the chain of a generation, the server certificate first. Raises CertificateRefused."""
        return read_certificates((self.path(name) / CHAIN_FILE).read_bytes())

    def create(self, name: str, key: bytes, chain: bytes) -> None:
        """Write a generation durably. It is not in use yet."""
        self._all.mkdir(mode=0o755, exist_ok=True)
        failpoint.reach("write generation")
        self.path(name).mkdir(mode=0o755)
        files.flush_directory(self._all)
        group = self._key_group()
        files.write(self.path(name) / KEY_FILE, key, mode=0o440, group=group)
        files.write(self.path(name) / CHAIN_FILE, chain, mode=0o444, group=group)

    def use(self, name: str) -> None:
        """Make ``name`` the current generation by one rename. ``go_back`` undoes it."""
        before = self.current()
        if before is not None:
            files.link(self._previous, f"generations/{before}")
        files.link(self._current, f"generations/{name}")

    def go_back(self, name: str | None) -> None:
        """Make ``name`` the current generation again, or none. After ``use`` this needs no disk space."""
        if name is None:
            files.remove(self._current)
        elif _target(self._previous) == name:
            files.rename(self._previous, self._current)
        else:
            files.link(self._current, f"generations/{name}")

    def prune(self) -> None:
        """Remove all generations but the current one and those before it, KEPT in all."""
        current = self.current()
        kept = [*self.before(current), current][-KEPT:] if current else []
        for name in self.names():
            if name not in kept:
                failpoint.reach("remove generation")
                shutil.rmtree(self.path(name))
        if self._all.is_dir():
            files.flush_directory(self._all)
        files.remove(self._previous)

    def _key_group(self) -> int:
        try:
            return grp.getgrnam(KEY_GROUP).gr_gid
        except KeyError:
            return self._directory.stat().st_gid


def _target(link: Path) -> str | None:
    """Return the generation that a link names; None if there is no link."""
    try:
        return Path(os.readlink(link)).name  # noqa: PTH115
    except FileNotFoundError:
        return None


def _age(name: str) -> tuple[int, str]:
    """Return the key that sorts generations, oldest first."""
    return (int(name) if name.isdecimal() else 0, name)
