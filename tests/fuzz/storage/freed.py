"""What registry-usage promises, against what a delete and a collection then free on the disk."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from random import Random

from sysreg_cli.agent.registry_access import local_registry
from sysreg_cli.cli.agent_client import AgentClient
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.deletion import Deletion, delete_images
from sysreg_cli.v1.unix_socket import UnixHTTPConnection
from sysreg_cli.v1.usage import Grouping, Usage
from tests.fuzz.storage import stores
from tests.fuzz.storage.trial import Fuzzer
from tests.unit.agent.storage.builder import Storage
from tests.unit.agent.usage.test_accounting import by_chance

_GRACE = 3600  # the same as in the configuration, which registry-usage goes by
_DELETES = 2


def check_freed(fuzzer: Fuzzer, seed: int) -> list[str]:
    """Build the storage of ``seed``, delete tags, collect after each. Returns what is wrong, a line each."""
    random = Random(seed)
    shutil.rmtree(fuzzer.root / "docker", ignore_errors=True)
    storage = Storage(fuzzer.root, age=2 * _GRACE)
    by_chance(storage, random)
    (fuzzer.root / "docker").mkdir(exist_ok=True)  # nothing may have been pushed
    stores.own(fuzzer.root)
    problems = []
    with local_registry(fuzzer.settings) as registry:
        for _ in range(_DELETES):
            fuzzer.collect(delete_untagged=False, grace=_GRACE)
            promised = _unique(fuzzer)
            if not promised:
                break
            image = random.choice(sorted(promised, key=str))
            before = _disk(storage.blobs)
            ((_, outcome),) = delete_images(registry, [image], storage=fuzzer.storage)
            if not isinstance(outcome, Deletion):
                fuzzer.outcomes["not deleted"] += 1
                continue
            announced = _usage(fuzzer).freed_by_collection
            result = fuzzer.collect(delete_untagged=False, grace=_GRACE)
            freed = before - _disk(storage.blobs)
            fuzzer.outcomes["deleted"] += 1
            if freed != promised[image]:
                problems.append(
                    f"{image}: unique is {promised[image]}, and {freed} bytes were freed [{seed}]"
                )
            if announced != result.bytes:
                problems.append(f"{image}: {announced} bytes announced, {result.bytes} reported [{seed}]")
    return problems


def _usage(fuzzer: Fuzzer, by: Grouping | None = None, image: str = "") -> Usage:
    with contextlib.closing(UnixHTTPConnection(fuzzer.controller.paths.agent_socket, timeout=60)) as socket:
        return AgentClient(socket, "agent", timeout=60, token=None).usage(by, image)


def _unique(fuzzer: Fuzzer) -> dict[ImageReference, int]:
    images = [row.name for row in _usage(fuzzer, Grouping.IMAGE).rows if row.name]
    rows = {name: _usage(fuzzer, Grouping.TAG, name).rows for name in images}
    return {ImageReference(name, row.name): row.unique for name in images for row in rows[name] if row.name}


def _disk(blobs: Path) -> int:
    """Return the bytes of all blobs but the records of deletes: these stay as long as the image does."""
    paths = blobs.glob("sha256/*/*/data")
    return sum(path.stat().st_size for path in paths if b"sysreg.throw-away" not in path.read_bytes())
