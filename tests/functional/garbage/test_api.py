"""The agent's calls of garbage collection, as other clients than `system` use them."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from devstack import images
from devstack.controller import Controller
from devstack.waiting import wait_until
from tests import certificates as make
from tests.functional.garbage.conftest import status, writes_ended

PATH = "/v1/registry_image/garbage_collect"


def call(controller: Controller, method: str, path: str, *words: str) -> tuple[int, Any]:
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "-X",
            method,
            "-w",
            "\n%{http_code}",
            "--unix-socket",
            controller.paths.agent_socket,
            *words,
            f"http://agent{path}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    body, _, code = done.stdout.rpartition("\n")
    return int(code), json.loads(body) if body else None


def fault(body: dict[str, str]) -> str:
    return str(json.loads(body["error_message"])["faultstring"])


def token(controller: Controller, user: str) -> str:
    return str(controller.keystone_client(user).session.get_token())


def test_starlingxs_call_starts_one_and_the_status_tells_how_it_ended(registry: Controller) -> None:
    client = registry.client()
    client.push("app", "1", (image := images.single()))
    client.delete("app", image.digest)
    writes_ended(registry)
    assert call(registry, "POST", "/v1/registry_image?garbage_collect=True") == (204, None)
    wait_until(lambda: status(registry)["state"] == "idle", 20)
    last = status(registry)["last_result"]
    assert (last["outcome"], last["blobs"]) == ("done", 3)


def test_an_install_that_meets_a_collection_waits_for_it_and_both_succeed(
    registry: Controller, tmp_path: Path
) -> None:
    client = registry.client()
    client.push("app", "1", (image := images.single()))
    client.delete("app", image.digest)
    # the registry accepts the last write token for some seconds more, and the collection waits for its expiry
    (registry.paths.state / "latest-write-token").write_text(f"{time.time() - 60:19.6f}\n")
    assert call(registry, "POST", "/v1/registry_image?garbage_collect=True") == (204, None)
    wait_until(lambda: status(registry)["phase"] == "drain", 20, what="the collection holds writes")
    root = make.authority()
    file = tmp_path / "server.pem"
    file.write_bytes(make.bundle(make.server(root), root))
    done = registry.system("certificate-install", "-m", "docker_registry", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert status(registry)["state"] == "idle", "the install did not wait"
    last = status(registry)["last_result"]
    assert (last["outcome"], last["blobs"], last["holds"]) == ("done", 3, 1)


@pytest.mark.parametrize("words", ["", "?garbage_collect=False", "?garbage_collect=maybe"])
def test_without_the_word_nothing_starts(registry: Controller, words: str) -> None:
    before = status(registry)["last_result"]
    code, body = call(registry, "POST", f"/v1/registry_image{words}")
    assert code == 400
    assert "garbage_collect" in fault(body)
    assert status(registry)["last_result"] == before


def test_a_grace_that_is_no_number_is_refused(registry: Controller) -> None:
    code, body = call(registry, "POST", "/v1/registry_image?garbage_collect=True&grace=-1")
    assert code == 400
    assert "grace" in fault(body)


def test_nothing_to_cancel_is_not_found(registry: Controller) -> None:
    assert call(registry, "DELETE", PATH)[0] == 404


def test_users_without_a_role_may_neither_start_nor_look(registry: Controller) -> None:
    header = f"X-Auth-Token: {token(registry, 'testuser')}"
    for method, path in (
        ("POST", "/v1/registry_image?garbage_collect=True"),
        ("GET", PATH),
        ("DELETE", PATH),
    ):
        assert call(registry, method, path, "-H", header)[0] == 403
    header = f"X-Auth-Token: {token(registry, 'admin')}"
    assert call(registry, "GET", PATH, "-H", header)[0] == 200
