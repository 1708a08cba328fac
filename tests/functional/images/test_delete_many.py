"""`system registry-image-delete` with many arguments on the real registry (2.8)."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from devstack import images
from devstack.controller import Controller
from tests.functional.images import storage


def test_20_of_1000_tags_take_3_requests_each_and_one_reading(controller: Controller, tmp_path: Path) -> None:
    name, requests = "delete/many", tmp_path / "requests"
    storage.seed_tags(controller, name, 1000)
    wanted = [f"{name}:v{number:04}" for number in range(0, 1000, 50)]

    done = controller.run(
        [
            *(sys.executable, "-m", "tests.functional.images.counted", str(requests)),
            *("registry-image-delete", *wanted),
        ]
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"Image {image} deleted" for image in wanted]
    assert len(storage.tags(controller, name)) == len(storage.manifests(controller, name)) == 980
    sent = Counter(line.split()[0] for line in requests.read_text().splitlines())
    assert sent.total() <= 1000 + 3 * 20 + 10, sent


def test_arguments_of_several_repositories_are_reported_in_the_order_given(controller: Controller) -> None:
    client = controller.client()
    for name in ("delete/mixed-a", "delete/mixed-b"):
        for tag in ("v1", "v2"):
            client.push(name, tag, images.single())
    wanted = [f"delete/mixed-{name}" for name in ("a:v1", "b:v1", "a:never", "b:v2", "a:v2")]

    done = controller.system("registry-image-delete", *wanted)

    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"Image {image} deleted" for image in wanted if "never" not in image]
    assert done.stderr.startswith("system: delete/mixed-a:never: there is no such image")
    for name in ("delete/mixed-a", "delete/mixed-b"):
        assert storage.tags(controller, name) == storage.manifests(controller, name) == set()


def test_an_image_that_cannot_be_deleted_stays_and_stops_no_other(controller: Controller) -> None:
    name, client = "delete/stuck", controller.client()
    kept = images.multi_arch()
    for tag, image in (("v1", images.single()), ("stuck", kept), ("v2", images.multi_arch())):
        client.push(name, tag, image)

    with storage.undeletable(controller, name, kept.digest):
        done = controller.system("registry-image-delete", *(f"{name}:{tag}" for tag in ("v1", "stuck", "v2")))

    assert done.returncode == 1
    assert done.stdout == f"Image {name}:v1 deleted\nImage {name}:v2 deleted\n"
    assert done.stderr.startswith(f"system: deleting {name}@{kept.digest} failed")
    assert storage.tags(controller, name) == {"stuck"}
    assert client.is_whole(name, "stuck")
    assert storage.manifests(controller, name) == {kept.digest, *(child.digest for child in kept.children)}
