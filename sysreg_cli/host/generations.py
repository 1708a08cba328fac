"""Generations of key and chain, and the symbolic link that names the one in use.

    <directory>/generations/000007/server.key     root:sysreg-tls 0440: two unprivileged services read it
    <directory>/generations/000007/server.crt     0444: the chain as it was given
    <directory>/generations/000007/installed.json 0444: when it was installed, and by whom
    <directory>/current -> generations/000007     what each service reads
    <directory>/previous -> generations/000006    during a change: renamed to go back, which needs no space

Names are growing numbers, so a generation newer than ``current`` belongs to an unfinished change. Other names
count as 0.
"""

from __future__ import annotations

import grp
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from sysreg_cli.host import failpoint, files
from sysreg_cli.pki.check import read_certificates
from sysreg_cli.settings.schema import CHAIN_FILE, CURRENT, KEY_FILE

#: the group that may read keys; on a host without it, the group of the directory
KEY_GROUP = "sysreg-tls"

_ORIGIN_FILE = "installed.json"
#: Readers ignore fields that they do not know. A new meaning of a field needs a new number.
_ORIGIN_FORMAT = 1

#: how many generations are kept: the one in use, and those before it
KEPT = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """When a generation was installed, and by whom: a user, a source of renewals, or "" if not known."""

    installed_at: datetime
    installed_by: str


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
        return sorted((path.name for path in self._all.iterdir() if path.is_dir()), key=_age)

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
        return read_certificates(self.chain(name))

    def chain(self, name: str) -> bytes:
        """Return the chain of a generation, PEM."""
        return (self.path(name) / CHAIN_FILE).read_bytes()

    def key(self, name: str) -> bytes:
        """Return the private key of a generation, PEM."""
        return (self.path(name) / KEY_FILE).read_bytes()

    def origin(self, name: str) -> Origin:
        """Return when a generation was installed, and by whom.

        One that an older version wrote has no record. Its directory tells when.
        """
        path = self.path(name)
        try:
            record = json.loads((path / _ORIGIN_FILE).read_bytes())
            if record["format"] == _ORIGIN_FORMAT:
                when = datetime.fromisoformat(record["installed_at"])
                return Origin(when.astimezone(UTC), str(record["installed_by"]))
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            pass
        return Origin(datetime.fromtimestamp(int(path.stat().st_mtime), UTC), "")

    def create(self, name: str, key: bytes, chain: bytes, *, by: str = "") -> None:
        """Write a generation durably. It is not in use yet. ``by`` names who installs it."""
        self._all.mkdir(mode=0o755, exist_ok=True)
        failpoint.reach("write generation")
        self.path(name).mkdir(mode=0o755)
        files.flush_directory(self._all)
        # the record first: sysreg-deploy finishes a generation that has key and chain
        now = datetime.now(UTC).isoformat(timespec="seconds")
        origin = {"format": _ORIGIN_FORMAT, "installed_at": now, "installed_by": by}
        files.write(self.path(name) / _ORIGIN_FILE, json.dumps(origin).encode(), mode=0o444)
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

    def outdated(self) -> list[str]:
        """Return the generations that were in use, and that ``prune`` removes; the oldest first."""
        current = self.current()
        return self.before(current)[: 1 - KEPT] if current else []

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
