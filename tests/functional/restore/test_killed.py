"""A restore after a delete that was killed between any two of its requests, and beside a collection."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

from devstack import images
from devstack.controller import Controller
from devstack.waiting import wait_until
from tests.functional.garbage.conftest import collect, registry, shared
from tests.functional.images.killed import killed_before

__all__ = ["registry", "shared"]  # fixtures: an empty registry of its own

_INDEX = images.multi_arch(seed="killed")
_PARTLY = images.index(_INDEX.children[0], images.single(seed="killed-partly"))
_TAGS = {"v1": _INDEX, "v2": _INDEX, "partly": _PARTLY}
_DELETED = ("v1", "v2")


def test_a_delete_that_was_killed_can_be_undone(registry: Controller) -> None:
    # tests/unit/agent/restore tries every request
    with ThreadPoolExecutor(4) as pool:
        killed = list(pool.map(lambda number: _kill_and_undo(registry, number), (4, 7, 10, 13)))
    assert any(killed), "the kill never happened"


def _kill_and_undo(controller: Controller, number: int) -> bool:
    """Whether the delete was killed; False if it was through before its request ``number``."""
    client, name, when = controller.client(), f"killed/{number}", f"killed before request {number}"
    for tag, image in _TAGS.items():
        client.push(name, tag, image)
    tags = [f"{name}:{tag}" for tag in _DELETED]

    done = killed_before(controller, signal.SIGKILL, number, *tags)
    undone = controller.system("registry-image-restore", *tags)

    # Killed before it had written anything, it leaves no record, and nothing to undo.
    assert undone.returncode == 0 or "no record of its delete" in undone.stderr, (when, undone)
    for tag, image in _TAGS.items():
        assert client.digest(name, tag) == image.digest, when
        assert client.is_whole(name, tag), when
    return done.returncode == -signal.SIGKILL


def test_a_restore_beside_a_collection_is_whole_or_says_that_it_lost(registry: Controller) -> None:
    client, number = registry.client(), 8
    for one in range(number):
        client.push("app", f"v{one}", images.multi_arch(seed=one))
    names = [f"app:v{one}" for one in range(number)]
    assert registry.system("registry-image-delete", *names).returncode == 0
    collecting = threading.Thread(target=collect, args=(registry,))
    collecting.start()
    results: dict[str, bool] = {}
    try:
        for name in names:
            done = registry.system("registry-image-restore", "-f", "json", name)
            results[name] = done.returncode == 0
            assert done.returncode == 0 or "no record" in done.stderr or "collection runs" in done.stderr, (
                done
            )
    finally:
        collecting.join(120)
    idle = registry.system("registry-garbage-collect", "--status", "-f", "json", "-c", "last_outcome")
    assert json.loads(idle.stdout)["last_outcome"] == "done"
    for name, restored in results.items():
        tag = name.partition(":")[2]
        assert client.is_whole("app", tag) == restored, results
    wait_until(lambda: not collecting.is_alive(), what="the collection is over")
