"""`system registry-image-prune` against the real registry, agent and collector."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devstack import images
from devstack.controller import Controller
from devstack.options import Options
from devstack.programs import AGENT
from tests.functional.conftest import NewController
from tests.functional.garbage.conftest import collected, registry

__all__ = ["registry"]  # a fixture: an empty registry of its own

DAY = 86400.0
_SETTINGS = {
    "images": {"protected": "keep/* *:latest"},
    "retention ci": {"images": "ci/*", "match": "dev-*", "keep": "1", "at_most": "60"},
    "retention old": {"images": "*", "older_than": "30d", "at_most": "80"},
}


@pytest.fixture(scope="module")
def shared(new_controller: NewController) -> Iterator[Controller]:
    with new_controller(Options(settings=_SETTINGS)) as controller:
        yield controller


def push(registry: Controller, image: str, days: float = 0, seed: str = "") -> images.Image:
    """Push an image, and make its tag so many days old."""
    repository, _, tag = image.rpartition(":")
    pushed = images.single(seed=seed or image)
    registry.client().push(repository, tag, pushed)
    repositories = registry.paths.storage / "docker/registry/v2/repositories"
    then = time.time() - days * DAY
    os.utime(repositories / repository / "_manifests/tags" / tag / "current/link", (then, then))
    return pushed


def prune(registry: Controller, *words: str, code: int = 0, **run: Any) -> dict[str, tuple[str, str]]:
    """Prune, and return the decision and the reason of each tag."""
    done = registry.system("registry-image-prune", "-f", "json", *words, **run)
    assert (done.returncode, bool(done.stderr)) == (code, bool(code)), done
    return {row["image"]: (row["decision"], row["reason"]) for row in json.loads(done.stdout)}


def test_the_run_does_what_the_dry_run_says_and_a_collection_frees_what_it_tells(
    registry: Controller,
) -> None:
    pushed = {f"v{days}": push(registry, f"app:v{days}", days) for days in (1, 2, 3, 40)}
    push(registry, "app:latest", 50, seed="app:v40")
    push(registry, "other:v1", 90)
    words = ("app", "--keep", "2", "--older-than", "30d")
    planned = prune(registry, *words, "--dry-run")
    assert registry.client().tags("app") == ["latest", "v1", "v2", "v3", "v40"]
    assert (
        prune(registry, *words)
        == planned
        == {
            "app:latest": ("keep", "protected by *:latest"),
            "app:v1": ("keep", "pushed 24 hours ago, within 30 days"),
            "app:v2": ("keep", "pushed 2 days ago, within 30 days"),
            "app:v3": ("keep", "pushed 3 days ago, within 30 days"),
            "app:v40": (
                "delete",
                "pushed 40 days ago, more than 30 days, not one of the 2 newest; latest keeps the image",
            ),
        }
    )
    assert registry.client().tags("app") == ["latest", "v1", "v2", "v3"]

    done = registry.system("registry-image-prune", "app", "--keep", "1")
    assert (done.returncode, done.stderr) == (0, "")
    frees = sum(pushed[tag].size for tag in ("v2", "v3"))
    assert "2 of 4 tags removed\n" in done.stdout
    # the images can still be pulled by their digests
    assert all(registry.client().is_whole("app", pushed[tag].digest) for tag in ("v2", "v3"))
    blobs = (registry.paths.storage / "docker/registry/v2/blobs").glob("*/*/*/data")
    records = sum(len(data) for path in blobs if b"sysreg.deleted-by" in (data := path.read_bytes()))
    assert collected(registry, "--delete-untagged", "--grace", "0")["bytes"] == frees + records
    assert all(registry.client().is_whole("app", tag) for tag in ("latest", "v1"))
    assert registry.client().tags("other") == ["v1"]


def test_the_policy_of_sysreg_conf_is_applied(registry: Controller) -> None:
    ages = {
        "ci/app:dev-1": 40,
        "ci/app:dev-2": 35,
        "ci/app:dev-3": 2,
        "ci/app:v1": 90,
        "ci/app:v2": 1,
        "keep/app:v1": 90,
        "plain:v1": 90,
        "plain:v2": 1,
    }
    for image, days in ages.items():
        push(registry, image, days)
    decided = prune(registry, "--policy")
    assert decided.keys() == ages.keys()
    gone = {image for image, (decision, _) in decided.items() if decision == "delete"}
    assert gone == {"ci/app:dev-1", "ci/app:dev-2", "ci/app:v1", "plain:v1"}
    assert decided["keep/app:v1"] == ("keep", "protected by keep/*")
    assert decided["ci/app:dev-3"] == ("keep", "ci: the newest")
    assert registry.client().tags("ci/app") == ["dev-3", "v2"]
    again = registry.system("registry-image-prune", "--policy", "-f", "value", "-c", "Decision")
    assert (again.returncode, again.stderr, set(again.stdout.split())) == (0, "", {"keep"})


def test_of_an_image_of_which_too_much_would_go_nothing_is_removed(registry: Controller) -> None:
    for number in range(3):
        push(registry, f"app:v{number}", number + 1)
    push(registry, "web:v1", 9)
    push(registry, "web:v2", 1)
    done = registry.system("registry-image-prune", "--keep", "1")
    assert done.returncode == 1
    share = "2 of 3 tags would go, more than 50 %"
    assert done.stderr == f"system: app: {share}: none was removed; allow it with --yes or --at-most\n"
    assert "1 of 5 tags removed\n" in done.stdout
    assert registry.client().tags("app") == ["v0", "v1", "v2"]
    assert registry.client().tags("web") == ["v2"]
    assert prune(registry, "app", "--keep", "1", "--yes")["app:v2"][0] == "delete"
    assert registry.client().tags("app") == ["v0"]


def test_a_glob_that_matches_nothing_is_one_line_and_exit_1(registry: Controller) -> None:
    push(registry, "app:v1", 9)
    for words, said in (
        (("ap", "--keep", "0"), "no image matches ap; see system registry-image-list"),
        (("app", "--match", "v2"), "no tag of these images matches v2; see system registry-image-tags IMAGE"),
    ):
        done = registry.system("registry-image-prune", *words, "--yes")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"system: {said}\n")
    assert registry.client().tags("app") == ["v1"]


def test_only_an_administrator_prunes_and_the_journal_says_who_and_what(registry: Controller) -> None:
    push(registry, "testuser/app:v1", 9)
    words = ("registry-image-prune", "testuser/*", "--keep", "0", "--yes")
    # root sends a token only if the command line names credentials
    user = ("--os-username", "testuser", "--os-password", registry.passwords["testuser"])
    for further in ((), ("--dry-run",)):
        done = registry.system(*words, *further, *user, user="testuser")
        assert (done.returncode, done.stdout) == (1, "")
        assert "testuser may not do this: it needs the role admin" in done.stderr
    assert registry.client().tags("testuser/app") == ["v1"]
    admin = ("--os-username", "admin", "--os-password", registry.passwords["admin"])
    assert registry.system(*words, *admin).returncode == 0
    lines = [line for line in registry.log(AGENT).splitlines() if "sysreg.audit: image prune" in line]
    assert "image prune by testuser" in lines[-2]
    assert "refused: testuser may not do this" in lines[-2]
    assert "image prune 'testuser/*' by admin" in lines[-1]
    assert "removed 1 of 1 tags" in lines[-1]


def test_a_storage_that_cannot_be_read_is_not_pruned(registry: Controller) -> None:
    with registry.registry_config(storage={"filesystem": None, "inmemory": {}}):
        done = registry.system("registry-image-prune", "--keep", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the registry's storage has the driver inmemory, which the agent cannot read" in done.stderr


def test_pushes_and_pulls_go_on_and_no_push_is_lost(registry: Controller) -> None:
    names = [f"t{number:02}" for number in range(40)]
    for name in names:
        push(registry, f"app:{name}", 60, seed="old")
    push(registry, "app:kept", 1, seed="kept")
    ended, failures = threading.Event(), []
    newest: dict[str, str] = {}

    def push_again() -> None:
        client = registry.client()
        image = images.single(seed="new")
        client.push("app", "first", image)
        for name in names[::2] * 3:
            if client.manifest("app", "kept").status_code != 200:
                failures.append("a pull failed")
            # an error is told to the client; a push that succeeds has to stay
            answer = client.request(
                "PUT",
                f"/v2/app/manifests/{name}",
                data=image.manifest,
                headers={"Content-Type": image.media_type},
            )
            if answer.status_code == 201:
                newest[name] = image.digest
        ended.set()

    pushing = threading.Thread(target=push_again)
    pushing.start()
    while not ended.is_set():
        prune(registry, "app", "--older-than", "30d", "--yes")
    pushing.join()
    prune(registry, "app", "--older-than", "30d", "--yes")
    assert not failures
    client = registry.client()
    assert set(client.tags("app")) == {*names[::2], "kept", "first"} == {*newest, "kept", "first"}
    assert {name: client.digest("app", name) for name in newest} == newest
    assert all(client.is_whole("app", name) for name in ("kept", names[0]))
