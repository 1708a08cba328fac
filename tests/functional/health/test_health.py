"""`system registry-health-query` against the real registry, Keystone, token server and agent."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from devstack import images
from devstack.controller import Controller
from devstack.options import Options
from devstack.programs import AGENT, REGISTRY
from sysreg_cli.health.results import Name
from sysreg_cli.tokens.write_lock import WriteLock
from tests.functional.conftest import NewController


def health(controller: Controller, *words: str, failing: bool = False, **run: Any) -> dict[str, Any]:
    """Return the row of each check by its name."""
    done = controller.system("registry-health-query", "-f", "json", *words, **run)
    assert done.returncode == failing, done
    assert bool(done.stderr) == failing
    return {row["check"]: row for row in json.loads(done.stdout)}


def statuses(rows: dict[str, Any]) -> dict[str, str]:
    return {name: row["status"] for name, row in rows.items()}


def stored(controller: Controller) -> set[str]:
    """The files and directories of the registry's storage."""
    return {str(path) for path in controller.paths.storage.rglob("*")}


def test_a_healthy_controller_has_every_row_in_order_and_keeps_nothing_of_the_test_image(
    controller: Controller,
) -> None:
    controller.client().push("health/app", "v1", images.single(seed="app"))
    before, catalog = stored(controller), controller.client().catalog()
    record = controller.paths.state / "latest-write-token"
    latest = record.read_text()
    found = statuses(health(controller))
    assert list(found) == [str(name) for name in Name]
    assert found.pop("blobs") == "skipped"
    assert found.pop("hosts") == "skipped"
    # other tests of this controller may leave refused logins, a failed collection, or a full disk
    for name in ("logins", "collection", "space", "inodes"):
        assert found.pop(name) in ("ok", "warning", "failed")
    assert set(found.values()) == {"ok"}, found
    assert (stored(controller), controller.client().catalog()) == (before, catalog)
    assert record.read_text() == latest, "a collection would hold pushes until the token of the test ends"


def test_one_check_alone_is_one_row(controller: Controller) -> None:
    assert list(health(controller, "--check", "space", "--check", "names")) == ["names", "space"]
    done = controller.system("registry-health-query", "--check", "token", "-f", "value", "-c", "status")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_settings_with_an_error_are_a_failure_whatever_is_asked_for(
    controller: Controller, tmp_path: Path
) -> None:
    broken = tmp_path / "sysreg.conf"
    broken.write_text("[registry]\nport = nine\n")
    done = controller.system(
        "registry-health-query", "--check", "space", "-f", "value", env={"SYSREG_CONF": str(broken)}
    )
    assert done.returncode == 1
    assert done.stdout.startswith(f"settings failed {broken}:2: ")
    assert done.stdout.endswith("space skipped see settings\n")


def test_images_of_somebody_under_the_name_of_the_test_image_stay(controller: Controller) -> None:
    client, name = controller.client(), "sysreg-health-query"
    client.push(name, "v1", images.single(seed="somebody's"))
    try:
        detail = health(controller, "--check", "image", failing=True)["image"]["detail"]
        assert f"the image {name} has tags" in detail
        assert client.tags(name) == ["v1"]
    finally:
        assert controller.system("registry-image-delete", f"{name}:v1").returncode == 0
    assert health(controller, "--check", "image")["image"]["status"] == "ok"
    assert name not in client.catalog(), "what the delete left is gone, too"


def test_root_without_credentials_learns_the_same(controller: Controller) -> None:
    environ = dict.fromkeys(("OS_USERNAME", "OS_PASSWORD", "OS_AUTH_URL", "OS_PROJECT_NAME"), "")
    found = health(controller, "--check", "image", "--check", "collection", env=environ)
    assert found["image"]["status"] == "ok"


def test_a_user_who_is_not_root_gets_every_row_and_what_only_root_can_know_is_skipped(
    controller: Controller,
) -> None:
    environ = {**controller.environ("testuser"), "HOME": "/nonexistent"}
    command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    done = controller.run(
        [*command, "system", "registry-health-query", "-f", "json"], user="testuser", env=environ
    )
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert list(rows) == [str(name) for name in Name]
    assert (done.returncode, done.stderr) == (0, ""), rows
    assert {rows[name]["status"] for name in ("names", "registry", "token-server", "listeners")} == {"ok"}
    for name in ("certificate", "token", "storage", "writes", "deletes", "changes"):
        assert rows[name]["status"] == "skipped"
        assert "sudo" in rows[name]["detail"]
    assert rows["image"]["status"] == "skipped", "testuser is no administrator"


def test_pushes_that_a_collection_holds_are_no_failure(controller: Controller) -> None:
    names = ("--check", "image", "--check", "writes")
    with WriteLock(controller.paths.state).hold():
        found = health(controller, *names, failing=True)
    assert found["image"]["detail"] == "a garbage collection holds pushes"
    assert f"(pid {os.getpid()}" in found["writes"]["detail"], "nothing else shows who holds them"
    assert found["writes"]["detail"].endswith(f": kill {os.getpid()}")
    assert set(statuses(health(controller, *names)).values()) == {"ok"}


@pytest.mark.parametrize("damaged", ["layer", "manifest"])
def test_deep_names_what_the_disk_has_damaged_and_the_command_that_mends_it(
    controller: Controller, damaged: str
) -> None:
    name, image = f"deep/{damaged}", images.single(seed=f"deep {damaged}")
    for tag in ("v1", "again"):
        controller.client().push(name, tag, image)
    controller.client().push(name, "sound", images.single(seed=f"sound {damaged}"))
    assert health(controller, "--check", "blobs")["blobs"]["status"] == "ok"
    digest = image.digest if damaged == "manifest" else images.digest_of(max(image.blobs, key=len))
    data = controller.paths.storage / f"docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
    written = data.stat().st_mtime
    data.write_bytes(bytes(reversed(data.read_bytes())))
    os.utime(data, (written, written))  # a disk changes no times
    row = health(controller, "--deep", "--check", "blobs", failing=True)["blobs"]
    assert f"{name}:again, {name}:v1: " in row["detail"]
    command = row["detail"].rpartition(": ")[2]
    assert f"{name}:sound" not in command
    delete, collect = command.split(" && ")
    assert controller.run(["sh", "-c", delete]).returncode == 0
    (controller.paths.state / "latest-write-token").write_text("0")  # so the collection waits for none
    assert controller.run(["sh", "-c", collect]).returncode == 0
    assert health(controller, "--check", "blobs")["blobs"]["status"] == "ok"
    controller.client().push(name, "v1", image)
    assert health(controller, "--check", "blobs")["blobs"]["status"] == "ok"


def test_a_clock_that_is_wrong_is_named_with_the_difference(
    new_controller: NewController, tmp_path: Path
) -> None:
    with new_controller(Options(fake_clock=True), own_keystone=True) as controller:
        ntp = tmp_path / "timedatectl"  # what NTP does to the clock of this Keystone
        ntp.write_text(f'#!/bin/sh\n[ "$*" = "set-ntp true" ] && echo +0 >{controller.paths.clock}\n')
        ntp.chmod(0o755)
        controller.set_clock("+10m")
        detail = health(controller, "--check", "clocks", failing=True)["clocks"]["detail"]
        assert re.match(r"the clock of Keystone is (599|600|601) s ahead of that of this host; ", detail)
        command = detail.rpartition(": ")[2]
        path = f"{tmp_path}:{controller.environ()['PATH']}"
        assert controller.run(["sh", "-c", command], env={"PATH": path}).returncode == 0
        assert health(controller, "--check", "clocks")["clocks"]["status"] == "ok"


@pytest.mark.parametrize("program", [REGISTRY, AGENT])
def test_with_a_daemon_down_every_row_is_there_and_the_command_starts_it(
    controller: Controller, program: str
) -> None:
    controller.stop_program(program)
    try:
        done = controller.system("registry-health-query", "-f", "json")
        rows = {row["check"]: row for row in json.loads(done.stdout)}
        failed = [name for name, row in rows.items() if row["status"] == "failed"]
        row = {REGISTRY: "registry", AGENT: "agent"}[program]
        assert list(rows) == [str(name) for name in Name]
        assert (done.returncode, failed) == (1, [row])
        assert done.stderr == f"system: 1 of {len(Name)} checks failed: {row}\n"
        assert rows["image"]["status"] == "skipped"
        command = rows[row]["detail"].rpartition(": ")[2]
        assert controller.run(["sh", "-c", command]).returncode == 0
    finally:
        controller.start_program(program) if not controller.pid(program) else controller.wait_ready()
    assert health(controller, "--check", row)[row]["status"] == "ok"
