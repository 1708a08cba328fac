"""The list of images from the storage is the one of the registry, whatever the storage holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack import images
from devstack.controller import Controller
from devstack.programs import REGISTRY
from tests.functional.garbage.conftest import registry, shared

__all__ = ["registry", "shared"]  # fixtures: an empty registry of its own

_NO_AGENT = {"SYSREG_AGENT": "/nowhere"}


def _plain_file(repositories: Path) -> None:
    (repositories / "app/file").write_text("")
    (repositories / "app/_file").write_text("")
    (repositories / "app/zzz/_layers").mkdir(parents=True)


def _layers_is_a_file(repositories: Path) -> None:
    (repositories / "odd").mkdir()
    (repositories / "odd/_layers").write_text("")
    (repositories / "odd/nested/_layers").mkdir(parents=True)


def _no_layers(repositories: Path) -> None:
    (repositories / "bare/_manifests/tags/v1/current").mkdir(parents=True)
    (repositories / "bare/nested/_layers").mkdir(parents=True)


def _odd_tags(repositories: Path) -> None:
    (repositories / "empty/_layers").mkdir(parents=True)
    (repositories / "empty/_manifests/tags").mkdir(parents=True)
    (repositories / "linkless/_layers").mkdir(parents=True)
    (repositories / "linkless/_manifests/tags/v1").mkdir(parents=True)
    (repositories / "file/_layers").mkdir(parents=True)
    (repositories / "file/_manifests/tags").mkdir(parents=True)
    (repositories / "file/_manifests/tags/v1").write_text("")


def _links(repositories: Path) -> None:
    (repositories / "linked").symlink_to("app")
    (repositories / "dangling").symlink_to("nowhere")
    (repositories / "with").mkdir()
    (repositories / "with/_layers").symlink_to("../app/_layers")
    (repositories / "with/_gone").symlink_to("nowhere")
    (repositories / "with/zzz/_layers").mkdir(parents=True)


def _odd_names(repositories: Path) -> None:
    for name in ("Upper", "with space", "a", "a-b", "a0", "a/b", "_hidden/app", ".dot"):
        (repositories / name / "_layers").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    "plant",
    [_plain_file, _layers_is_a_file, _no_layers, _odd_tags, _links, _odd_names],
    ids=lambda it: it.__name__,
)
def test_an_odd_storage_has_the_same_list(registry: Controller, plant: Callable[[Path], None]) -> None:
    registry.client().push("app", "v1", images.single())
    plant(registry.paths.storage / "docker/registry/v2/repositories")
    for words in ((), ("--filter-out-untagged",)):
        here = registry.system("registry-image-list", "-f", "json", *words)
        there = registry.system("registry-image-list", "-f", "json", *words, env=_NO_AGENT)
        assert (here.returncode, here.stdout, here.stderr) == (0, there.stdout, "")


def test_the_list_costs_the_registry_nothing_and_a_user_sees_their_own(registry: Controller) -> None:
    for name in ("app", "testuser/app", "public/app"):
        registry.client().push(name, "v1", images.single())
    before = registry.log(REGISTRY)
    every = registry.system("registry-image-list", "--filter-out-untagged", "-f", "value")
    asked = registry.log(REGISTRY).removeprefix(before)
    assert every.stdout.split() == ["app", "public/app", "testuser/app"]
    assert "_catalog" not in asked
    assert "tags/list" not in asked
    own = registry.system("registry-image-list", "-f", "value", user="testuser")
    assert own.stdout.split() == ["public/app", "testuser/app"]


def test_a_list_during_pushes_has_every_image_that_was_there_before(registry: Controller) -> None:
    before = [f"app{number}" for number in range(5)]
    for name in before:
        registry.client().push(name, "v1", images.single(seed=name))
    stop = threading.Event()

    def push() -> None:
        client, number = registry.client(), 0
        while not stop.is_set():
            client.push(f"new/app{number}", "v1", images.single(seed=f"new{number}"))
            number += 1

    pushing = threading.Thread(target=push)
    pushing.start()
    try:
        for _ in range(4):
            done = registry.system("registry-image-list", "--filter-out-untagged", "-f", "value")
            assert (done.returncode, done.stderr) == (0, "")
            assert set(before) <= set(done.stdout.split())
    finally:
        stop.set()
        pushing.join()
