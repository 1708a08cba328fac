"""What the daemons of sysreg read at their start, so that an upgrade restarts those that it concerns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import sysreg_cli
from sysreg_cli.deploy.resource import Change, Context, Resource
from sysreg_cli.settings import Settings

PACKAGE = Path(sysreg_cli.__file__).parent
#: packages and modules of ``sysreg_cli`` that both daemons import, directly or not; a test compares them
_SHARED = (
    *("__init__.py", "addresses.py", "errors.py", "keystone.py", "reference.py", "text.py"),
    *("daemon", "settings", "tokens"),
)


@dataclass(frozen=True)
class Daemon:
    """A daemon of sysreg: its unit, the code that it imports, and the settings' sections that it reads."""

    unit: str
    code: tuple[str, ...]
    sections: tuple[str, ...]

    def digest(self, settings: Settings, package: Path = PACKAGE) -> str:
        """A digest of its code and settings.

        It reads the files themselves, because Debian packages and checkouts have no RECORD.
        """
        digest = hashlib.sha256()
        for name in self.code:
            path = package / name
            for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
                digest.update(f"{source.relative_to(package)} {source.stat().st_size}\n".encode())
                digest.update(source.read_bytes())
        for name in self.sections:
            digest.update(repr(getattr(settings, name)).encode())
        return digest.hexdigest()


TOKEN_SERVER = Daemon(
    "sysreg-token-server.service",
    (*_SHARED, "token_server", "host/__init__.py", "host/failpoint.py", "host/files.py"),
    ("registry", "keystone", "token_server", "certificate", "paths"),
)
AGENT = Daemon(
    "sysreg-agent.service",
    (*_SHARED, "agent", "cluster", "host", "pki", "registry", "v1"),
    (
        "registry",
        "keystone",
        "token_server",
        "agent",
        "certificate",
        "cluster",
        "alarms",
        "images",
        "paths",
        "retention",
    ),
)
#: the daemon of a worker
HOST = Daemon(
    "sysreg-host.service",
    (
        *(
            "__init__.py",
            "addresses.py",
            "errors.py",
            "text.py",
            "cluster",
            "daemon",
            "host",
            "pki",
            "settings",
        ),
        *("tokens", "v1", "worker", "keystone.py", "reference.py"),
    ),
    ("registry", "cluster", "paths"),
)


@dataclass(frozen=True)
class AppliedSettings(Resource):
    """A daemon was started with the present code and settings, whose digest is in the record."""

    unit: str
    digest: str

    def compare(self, context: Context) -> Change | None:
        if context.record.applied.get(self.unit) == self.digest:
            return None
        line = f"have {self.unit} use the present code and settings"
        return Change(line, self._write_down, restarts=(self.unit,))

    def _write_down(self, context: Context) -> None:
        context.record.applied[self.unit] = self.digest
        context.record.save()
