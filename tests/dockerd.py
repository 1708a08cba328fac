"""A docker daemon of a test's own: it pushes and pulls images, and runs no container."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from devstack.controller import Controller
from devstack.waiting import wait_until


class Docker:
    """As a context: dockerd below /var/tmp, in a mount namespace of its own, and a docker client logged in to
    the controller's registry as ``user``. Needs root.
    """

    def __init__(self, controller: Controller, user: str = "admin") -> None:
        self._controller = controller
        self._user = user

    def __enter__(self) -> Docker:
        self.directory = Path(tempfile.mkdtemp(prefix="dockerd-", dir="/var/tmp"))
        (self.directory / "daemon.json").write_text("{}")
        # Its stores stand on a tmpfs, which goes away with the namespace; so does everything it mounts.
        script = (
            'mount -t tmpfs tmpfs "$0/store" && exec dockerd --config-file "$0/daemon.json"'
            ' --data-root "$0/store/data" --exec-root "$0/store/exec" --pidfile "$0/store/pid"'
            ' --host "unix://$0/socket"'
            " --bridge none --iptables=false --ip6tables=false --storage-driver vfs"
        )
        (self.directory / "store").mkdir()
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(self.directory)]
        with (self.directory / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(self._answers, 60, what="dockerd answers")
            self.run(
                *("login", "--username", self._user, "--password-stdin", self._controller.address),
                input=self._controller.passwords[self._user],
            )
        except BaseException as error:
            error.add_note((self.directory / "log").read_text(errors="replace")[-2000:])
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._daemon.terminate()
        try:
            self._daemon.wait(30)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def run(self, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run the docker client, for at most 300 s; raises CalledProcessError unless ``check`` is False."""
        environment = {"HOME": str(self.directory), "DOCKER_HOST": f"unix://{self.directory}/socket"}
        return subprocess.run(
            ["docker", *words],
            env={"PATH": os.environ["PATH"], **environment},
            **{"capture_output": True, "text": True, "timeout": 300, "check": check, **options},
        )

    def make_image(self, reference: str, content: bytes) -> None:
        """An image of one layer with ``content`` in it, on this daemon."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo("content")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        self.run("import", "-", reference, input=buffer.getvalue(), text=False)

    def _answers(self) -> bool:
        if self._daemon.poll() is not None:
            raise RuntimeError("dockerd ended")
        return self.run("version", check=False).returncode == 0
