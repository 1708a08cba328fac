"""Hints are for people: on a terminal they are there, in a pipe stderr stays empty."""

from __future__ import annotations

import json
import re
import uuid

import pexpect
import pytest

from devstack.controller import Controller
from devstack.images import single

SIZE = 200_000


@pytest.fixture
def image(controller: Controller) -> str:
    """A repository with the tags v1.0 and v1.1."""
    name = f"docker.io/hints/{uuid.uuid4().hex}"
    for tag in ("v1.0", "v1.1"):
        controller.client().push(name, tag, single(SIZE, seed=name))
    return name


def on_a_terminal(controller: Controller, line: str) -> str:
    return str(
        pexpect.run(
            f"system {line}", env=controller.environ(), timeout=60, encoding="utf-8", dimensions=(24, 200)
        )
    )


def test_a_tag_that_is_not_there_brings_near_ones(controller: Controller, image: str) -> None:
    shown = on_a_terminal(controller, f"registry-image-delete {image}:v1.2")
    assert "did you mean v1.1 or v1.0?" in shown
    done = controller.system("registry-image-delete", f"{image}:v1.2")
    assert len(done.stderr.splitlines()) == 1
    assert "did you mean" not in done.stderr


def test_an_unknown_image_brings_near_names(controller: Controller, image: str) -> None:
    short = image.rpartition("/")[2]
    assert f"did you mean {image}?" in on_a_terminal(controller, f"registry-image-tags {short}")
    assert f"did you mean {image}?" in on_a_terminal(controller, f"registry-image-tags {image[:-1]}")
    done = controller.system("registry-image-tags", short)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_after_a_delete_it_says_how_much_a_collection_would_free(controller: Controller, image: str) -> None:
    def collectable() -> int:
        done = controller.system("registry-garbage-collect", "--dry-run", "-f", "json")
        return int(json.loads(done.stdout)[0]["bytes"])

    before = collectable()
    # Both tags stand for one image.
    assert "frees no space" in on_a_terminal(controller, f"registry-image-delete {image}:v1.0")
    shown = on_a_terminal(controller, f"registry-image-delete {image}:v1.1")
    assert "registry-garbage-collect" in shown
    assert "registry-image-restore undoes this" in shown
    match = re.search(r"up to ([0-9.]+) kB", shown)
    assert match
    # The delete leaves a placeholder of some hundred bytes behind.
    assert abs(float(match[1]) * 1000 - (collectable() - before)) < 1000

    controller.client().push(image, "v1.0", single(SIZE, seed=image))
    done = controller.system("registry-image-delete", f"{image}:v1.0")
    assert (done.returncode, done.stderr) == (0, "")
