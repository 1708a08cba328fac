"""The clients people use: docker logs in; skopeo pushes, pulls, copies and deletes, within its area alone."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.controller import Controller
from devstack.images import multi_arch, single

Skopeo = Callable[..., subprocess.CompletedProcess[str]]


def docker_login(controller: Controller, user: str, password: str) -> subprocess.CompletedProcess[str]:
    words = ["docker", "login", controller.address, "--username", user, "--password-stdin"]
    return controller.run(words, user="testuser", input=password)


def login_file(controller: Controller) -> Path:
    return Path(controller.environ("testuser")["HOME"]) / ".docker" / "config.json"


def test_docker_logs_in_with_the_right_password_and_keeps_the_password(controller: Controller) -> None:
    done = docker_login(controller, "testuser", controller.passwords["testuser"])
    assert done.returncode == 0, done.stderr
    assert "Login Succeeded" in done.stdout
    # A refresh token in its place would break every pull secret that is made from this file.
    entry = json.loads(login_file(controller).read_text())["auths"][controller.address]
    assert set(entry) == {"auth"}


def test_docker_fails_with_a_wrong_password(controller: Controller) -> None:
    done = docker_login(controller, "testuser", f"wrong-{uuid.uuid4().hex}")
    assert done.returncode != 0
    assert "unauthorized" in done.stderr


def test_docker_says_why_a_user_with_capitals_may_not_log_in(controller: Controller) -> None:
    done = docker_login(controller, "Upper", controller.passwords["Upper"])
    assert done.returncode != 0
    assert "can't use the registry" in done.stderr


@pytest.fixture
def skopeo(controller: Controller, tmp_path: Path) -> Skopeo:
    """Runs skopeo as a user, whose password is in a file."""

    def run(*words: str, user: str = "testuser") -> subprocess.CompletedProcess[str]:
        auth = tmp_path / f"{user}.json"
        login = ["skopeo", "login", "--authfile", str(auth), "--username", user, "--password-stdin"]
        done = controller.run([*login, controller.address], input=controller.passwords[user])
        assert done.returncode == 0, done.stderr
        return controller.run(["skopeo", words[0], "--authfile", str(auth), *words[1:]])

    return run


def test_skopeo_pushes_pulls_and_deletes_in_the_users_area(
    controller: Controller, skopeo: Skopeo, tmp_path: Path
) -> None:
    image = single(layers=3)
    place = f"docker://{controller.address}/testuser/skopeo:1"
    pushed = skopeo("copy", image.write_layout(tmp_path / "in"), place)
    assert pushed.returncode == 0, pushed.stderr
    pulled = skopeo("copy", place, f"oci:{tmp_path}/out:1")
    assert pulled.returncode == 0, pulled.stderr
    listed = skopeo("list-tags", f"docker://{controller.address}/testuser/skopeo")
    assert json.loads(listed.stdout)["Tags"] == ["1"]
    deleted = skopeo("delete", place)
    assert deleted.returncode == 0, deleted.stderr
    assert controller.client("testuser").tags("testuser/skopeo") == []


@pytest.mark.parametrize("docker", [False, True], ids=["OCI index", "docker list"])
def test_skopeo_copies_all_platforms(controller: Controller, skopeo: Skopeo, docker: bool) -> None:
    image = multi_arch(docker=docker)
    name = f"testuser/multi{int(docker)}"
    controller.client("testuser").push(name, "1", image)
    source, target = (f"docker://{controller.address}/{name}:{tag}" for tag in (1, 2))
    copied = skopeo("copy", "--all", source, target)
    assert copied.returncode == 0, copied.stderr
    assert controller.client("testuser").digest(name, "2") == image.digest
    assert controller.client("testuser").is_whole(name, "2")


def test_skopeo_gets_nowhere_outside_the_users_area(
    controller: Controller, skopeo: Skopeo, tmp_path: Path
) -> None:
    image = single()
    controller.client("testuser2").push("testuser2/private", "1", image)
    controller.client("admin").push("public/skopeo", "1", image)
    own, public = (
        f"docker://{controller.address}/{name}:1" for name in ("testuser2/private", "public/skopeo")
    )
    layout = image.write_layout(tmp_path / "in")
    for words in (
        ("copy", own, f"oci:{tmp_path}/out:1"),
        ("copy", layout, own),
        ("delete", own),
        ("copy", layout, public),
        ("delete", public),
    ):
        done = skopeo(*words)
        assert done.returncode != 0, words
        assert "denied" in done.stderr.lower() or "unauthorized" in done.stderr.lower()
    assert skopeo("copy", public, f"oci:{tmp_path}/public:1").returncode == 0
    assert controller.client("testuser2").is_whole("testuser2/private", "1")
    assert controller.client("admin").is_whole("public/skopeo", "1")
