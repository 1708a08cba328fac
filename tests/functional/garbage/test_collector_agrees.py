"""Compares the plan with what the registry's own collector does, on random storages."""

from __future__ import annotations

import random
import re
import subprocess
import time
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.storage.snapshot import Snapshot
from tests.unit.agent.storage.builder import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Storage


def dry_run(storage: Storage, config: Path) -> tuple[int, set[str]]:
    """Return the exit status of the collector's dry run, and the blobs that it would delete."""
    config.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {storage.root}\nhttp:\n  addr: :0\n"
    )
    done = subprocess.run(
        ["docker-registry", "garbage-collect", "--dry-run", config],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, set(re.findall(r"^blob eligible for deletion: (\S+)$", done.stdout, re.M))


def by_chance(storage: Storage, chance: random.Random) -> None:
    """Push, delete and damage images at random, also in nested repositories."""
    layers = [bytes([number]) * 50 for number in range(12)]
    held: list[tuple[str, str]] = []
    for _ in range(chance.randint(1, 40)):
        storage.age = chance.choice([10, 7200, 86400])
        repository = chance.choice(["a", "a/b", "a/b/c", "d", "e"])
        tags = chance.sample(["1", "2", "3", "latest"], chance.randint(0, 2))
        here = [digest for name, digest in held if name == repository]
        action = chance.random()
        if action < 0.5:
            extra = {"subject": chance.choice(here)} if here and chance.random() < 0.2 else {}
            some = tuple(chance.sample(layers, chance.randint(1, 4)))
            kind = chance.choice([OCI_MANIFEST, DOCKER_MANIFEST])
            held.append((repository, storage.image(repository, *tags, layers=some, kind=kind, **extra)))
        elif action < 0.65 and here:
            children = tuple(chance.sample(here, min(len(here), 2)))
            kind = chance.choice([OCI_INDEX, DOCKER_LIST])
            held.append((repository, storage.index(repository, *tags, children=children, kind=kind)))
        elif action < 0.8 and here:
            digest = chance.choice(here)
            if storage.revision(repository, digest).exists():
                storage.delete(repository, digest)
                held = [entry for entry in held if entry != (repository, digest)]
        elif action < 0.9:
            storage.upload(repository, chance.randbytes(20))
        elif action < 0.93:
            storage.lose(chance.choice(sorted(storage.all_blobs()) or [storage.blob(b"x")]))
            held = [(name, digest) for name, digest in held if storage.path(digest).exists()]
        elif action < 0.96 and here and chance.random() < 0.5:
            storage.revision(repository, chance.choice(here)).write_bytes(b"")


@pytest.mark.parametrize("seed", range(40))
def test_we_expect_of_the_collector_exactly_what_it_does(seed: int, tmp_path: Path) -> None:
    storage = Storage(tmp_path / "storage")
    storage.image("always", "1", layers=(b"something",))
    by_chance(storage, random.Random(seed))
    for delete_untagged in (False, True):
        made = planning.make(
            Snapshot(storage.root), now=time.time(), grace=3600, delete_untagged=delete_untagged
        )
        for repository, digests in made.manifests.items():
            for digest in digests:
                storage.revision(repository, digest).unlink()
        status, eligible = dry_run(storage, tmp_path / "config.yml")
        assert bool(status) == bool(made.obstacle), made.obstacle
        if not status:
            assert eligible == made.blobs.keys() | made.pins.keys()
        assert not made.needed & made.blobs.keys()
