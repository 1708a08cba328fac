"""Measures a prune of many tags of one image while the registry serves pulls.

    sudo .venv/bin/python -m bench.prune [--tags N]

10,000 tags by default, each on a manifest of its own. The whole command, with and without --dry-run, takes at
most 10 s. Beside it stands `rm -r` of as many tags by one process: on a file system with a journal, it is the
floor for whoever removes them one after the other.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

from devstack.controller import Controller
from tests.unit.agent.storage.builder import Storage

_IMAGE = "bench/pruned"


def fill(controller: Controller, tags: int) -> Path:
    """Make the tags, each a minute older than the one before. Return their directory."""
    storage = Storage(controller.paths.storage)
    first = json.loads(storage.path(storage.image(_IMAGE, "t0", layers=(b"layer" * 200,))).read_bytes())
    for number in range(1, tags):
        storage.age += 60
        storage.put(_IMAGE, {**first, "annotations": {"number": str(number)}}, f"t{number}")
    subprocess.run(["chown", "-R", "docker-registry:", storage.root], check=True)
    return storage.repositories / _IMAGE / "_manifests/tags"


def pull(controller: Controller, ended: threading.Event, seconds: list[float]) -> None:
    """Pull the newest tag again and again."""
    client = controller.client()
    while not ended.is_set():
        begin = time.perf_counter()
        assert client.is_whole(_IMAGE, "t0")
        seconds.append(time.perf_counter() - begin)


def prune(controller: Controller, *options: str) -> float:
    begin = time.perf_counter()
    words = ("registry-image-prune", _IMAGE, "--keep", "1", "--yes", "-f", "json")
    done = controller.system(*words, *options, timeout=600, check=True)
    taken = time.perf_counter() - begin
    decided = [row["decision"] for row in json.loads(done.stdout)]
    assert decided.count("keep") == 1
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=int, default=10_000)
    number = parser.parse_args().tags
    with Controller.temporary() as controller:
        tags = fill(controller, number)
        copy = controller.paths.storage / "copy"
        shutil.copytree(tags, copy)
        begin = time.perf_counter()
        subprocess.run(["rm", "-r", copy], check=True)
        floor = time.perf_counter() - begin
        ended, pulls = threading.Event(), list[float]()
        pulling = threading.Thread(target=pull, args=(controller, ended, pulls))
        pulling.start()
        planned, done = prune(controller, "--dry-run"), prune(controller)
        ended.set()
        pulling.join()
        assert [path.name for path in tags.iterdir()] == ["t0"]
        print(f"{number} tags: dry run {planned:.1f} s, prune {done:.1f} s (at most 10 s for 10,000)")
        print(f"rm -r of as many: {floor:.1f} s; prune / rm: {done / floor:.2f} x")
        print(f"meanwhile {len(pulls)} pulls, none failed, the longest took {max(pulls):.2f} s")


if __name__ == "__main__":
    main()
