"""A renewal is live within a minute, and nobody who pulls meanwhile notices more than a restart.

The agent runs as deployed, with its own times. skopeo trusts what the agent writes for docker.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack import images
from devstack.controller import Controller
from devstack.programs import AGENT
from devstack.waiting import wait_until
from tests.functional.certificate.breakable import HOST, Certificates
from tests.functional.conftest import NewController
from tests.functional.renewal.sources import Certbot, CertManager, Renewer
from tests.kubernetes_api import KubernetesApi
from tests.tls_clients import presented_chain

IMAGE = "testuser/pulled"
MINUTE = 60.0


@dataclass(frozen=True)
class Pull:
    """A pull between two monotonic times, with skopeo's message if it failed."""

    begin: float
    end: float
    problem: str


class Pulls:
    """Pulls an image again and again."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._pull)
        self.done: list[Pull] = []

    def __enter__(self) -> Pulls:
        self._thread.start()
        self.wait_for_more()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait_for_more()
        finally:
            self._stop.set()
            self._thread.join()

    def wait_for_more(self) -> None:
        """Wait until two more pulls have succeeded."""
        before = self._good()
        wait_until(lambda: self._good() >= before + 2, 60, what="pulls succeed")

    def _good(self) -> int:
        return sum(not pull.problem for pull in self.done)

    def _pull(self) -> None:
        while not self._stop.is_set():
            begin = time.monotonic()
            with tempfile.TemporaryDirectory() as directory:
                done = skopeo(
                    self._controller, f"docker://{self._controller.address}/{IMAGE}", f"dir:{directory}"
                )
            self.done.append(Pull(begin, time.monotonic(), done.stderr if done.returncode else ""))


def skopeo(controller: Controller, source: str, target: str) -> subprocess.CompletedProcess[str]:
    return controller.run(["skopeo", "copy", "--quiet", source, target], user="testuser")


@pytest.fixture(scope="module")
def controller(
    new_controller: NewController, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Controller]:
    with new_controller() as controller:
        login = ["skopeo", "login", "--username", "testuser", "--password-stdin", controller.address]
        done = controller.run(login, user="testuser", input=controller.passwords["testuser"])
        assert done.returncode == 0, done.stderr
        layout = images.single().write_layout(tmp_path_factory.mktemp("image"))
        done = skopeo(controller, layout, f"docker://{controller.address}/{IMAGE}")
        assert done.returncode == 0, done.stderr
        yield controller


@contextlib.contextmanager
def kept(kind: str, directory: Path) -> Iterator[Renewer]:
    if kind == "certbot":
        yield Certbot(directory / "letsencrypt")
        return
    with KubernetesApi().serving(directory) as api:
        yield CertManager(api, directory / "admin.conf")


def follow(controller: Controller, renewer: Renewer) -> None:
    """Give the agent a source, as an operator does."""
    settings = controller.paths.settings
    lines = [
        line for line in settings.read_text().splitlines() if not line.startswith(("source", "kubeconfig"))
    ]
    lines.insert(
        lines.index("[certificate]") + 1,
        "\n".join(f"{key} = {value}" for key, value in renewer.settings.items()),
    )
    settings.write_text("\n".join(lines) + "\n")
    controller.restart(AGENT)


@pytest.mark.parametrize("kind", ["certbot", "cert-manager"])
def test_a_renewal_is_live_within_a_minute_and_pulls_go_on(
    kind: str, controller: Controller, tmp_path: Path
) -> None:
    new = Certificates().new()
    with kept(kind, tmp_path) as renewer:
        follow(controller, renewer)
        if isinstance(renewer, CertManager):
            # as after a restart of the API: the connection breaks, and the version is gone
            wait_until(lambda: renewer.api.watched, MINUTE)
            renewer.api.forget()
        with Pulls(controller) as pulls:
            renewer.renew(new)
            for name in ("registry", "token_server", "agent"):
                port = controller.ports[name]
                wait_until(lambda port=port: presented_chain(port, HOST) == new.der, MINUTE)  # type: ignore[misc]
            live = time.monotonic()
            pulls.wait_for_more()
    # The registry is restarted once. What is under way then may fail, or begins before it is back.
    failures = [
        list(run) for good, run in itertools.groupby(pulls.done, lambda pull: not pull.problem) if not good
    ]
    assert len(failures) <= 1, failures
    assert all(pull.begin <= live for run in failures for pull in run), (live, failures)
