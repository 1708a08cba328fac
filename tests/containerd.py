"""A containerd of a test's own: it fetches images, and runs no container."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.controller import Controller
from devstack.waiting import wait_until


class Containerd:
    """A containerd with this ``socket``, for which ``ctr`` runs in the controller's namespaces."""

    def __init__(self, controller: Controller, socket: Path) -> None:
        self._controller = controller
        self.socket = socket

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ctr."""
        return self._controller.run(["ctr", "-a", str(self.socket), *words])

    def fetch(self, reference: str, *options: str, user: str) -> subprocess.CompletedProcess[str]:
        """Fetch all platforms of an image."""
        account = f"{user}:{self._controller.passwords[user]}"
        return self.run("content", "fetch", *options, "--user", account, "--all-platforms", reference)


@contextmanager
def containerd(controller: Controller, directory: Path) -> Iterator[Containerd]:
    """Start it in the controller's namespaces, with its files in ``directory``. Needs root."""
    started = Containerd(controller, directory / "c.sock")
    (directory / "config.toml").write_text(
        f'''version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{started.socket}"
'''
    )
    with (directory / "log").open("wb") as log:
        arguments = [*controller.prefix(), "containerd", "--config", str(directory / "config.toml")]
        daemon = subprocess.Popen(arguments, stdout=log, stderr=log)
    try:
        wait_until(lambda: started.run("version").returncode == 0, 60, what="containerd answers")
        yield started
    finally:
        daemon.terminate()
        daemon.wait(30)
