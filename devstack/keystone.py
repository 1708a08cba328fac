"""A real Keystone with users and roles: in a controller of its own, or shared by several controllers."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from devstack import keystone_server, keystone_template, temporary
from devstack.keystone_server import auth_url, write_config
from devstack.ports import free_ports

_PREFIX = "sysreg-keystone-"


def provision(
    directory: Path,
    port: int,
    changes: Mapping[str, Mapping[str, str]] | None = None,
    *,
    socket: Path | None = None,
) -> None:
    """Make ``directory`` a bootstrapped Keystone; an existing database stays. See ``write_config``."""
    if not (directory / "passwords.json").exists():
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(keystone_template.get(), directory)
    with contextlib.closing(sqlite3.connect(directory / "keystone.db")) as database, database:
        database.execute("UPDATE endpoint SET url = ?", (auth_url(port),))
    write_config(directory, port, changes, socket=socket)


def passwords(directory: Path) -> dict[str, str]:
    """User name -> password of the Keystone in ``directory``."""
    found: dict[str, str] = json.loads((directory / "passwords.json").read_text())
    return found


class RunningKeystone:
    """A Keystone that several controllers use: its start costs more than everything else of a controller."""

    def __init__(self, directory: Path) -> None:
        """Start it in ``directory``. It ends with this process, however that ends."""
        self.directory = directory
        self.socket = directory / "keystone.sock"
        (self.port,) = free_ports(1)
        provision(directory, self.port, socket=self.socket)
        self._process = keystone_server.start(directory)

    @classmethod
    @contextlib.contextmanager
    def temporary(cls) -> Iterator[RunningKeystone]:
        """A Keystone in a directory of its own; both are gone in the end."""
        with temporary.directory(_PREFIX) as root:
            keystone = cls(root / "keystone")
            try:
                yield keystone
            finally:
                keystone.close()

    def wait_ready(self) -> None:
        """Wait until it answers. Raises NotInTime."""
        keystone_server.wait_ready(auth_url(self.port))

    def close(self) -> None:
        """Stop it."""
        keystone_server.stop(self._process)
