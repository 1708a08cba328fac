"""Another token server beside the controller's, for tests that change its settings or end it."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devstack.controller import Controller
from devstack.ports import free_ports
from devstack.waiting import wait_until

PROGRAM = Path(sys.executable).with_name("sysreg-token-server")


@dataclass(frozen=True)
class OwnServer:
    """A running token server of a test."""

    process: subprocess.Popen[bytes]
    port: int
    log_file: Path

    @property
    def url(self) -> str:
        return f"https://registry.local:{self.port}/token/"

    @property
    def log(self) -> str:
        return self.log_file.read_text()


@contextmanager
def own_server(
    controller: Controller,
    directory: Path,
    changes: Mapping[str, Mapping[str, str]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[OwnServer]:
    """A token server with the controller's Keystone and keys, and settings and state of its own."""
    (port,) = free_ports(1)
    config = configparser.ConfigParser(interpolation=None)
    config.read(controller.paths.settings)
    config.read_dict({"token_server": {"port": str(port)}, "paths": {"state": f"{directory}/state"}})
    config.read_dict(changes or {})
    (directory / "state").mkdir()
    with (directory / "sysreg.conf").open("w") as file:
        config.write(file)
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [PROGRAM],
            env={**os.environ, "SYSREG_CONF": str(directory / "sysreg.conf"), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    server = OwnServer(process, port, directory / "log")
    try:
        wait_until(lambda: "serving tokens" in server.log, what="the token server is up")
        yield server
    finally:
        process.kill()
        process.wait()
