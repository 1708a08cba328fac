"""Runs collections in this process, with the real collector, on a storage with images of every kind.

No registry serves the storage. A drain finds out that nobody can be writing.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from devstack.ports import free_ports
from sysreg_cli.agent.garbage.collection import Collection
from sysreg_cli.agent.garbage.recorder import Recorder
from sysreg_cli.settings import AgentSettings, PathSettings, RegistrySettings, Settings
from sysreg_cli.tokens.write_lock import WriteLock
from sysreg_cli.v1.collections import CollectionOptions, CollectionResult, Phase
from tests.unit.agent.storage.builder import Storage


class Sandbox:
    """A storage below ``root``, with the registry's configuration and the agent's state."""

    def __init__(self, root: Path, **agent: Any) -> None:
        self.root = root
        self.storage = Storage(root / "storage")
        self.config = root / "config.yml"
        self.state = root / "state"
        self.state.mkdir()
        self.write_config()
        self.settings = Settings(
            registry=RegistrySettings(config=self.config, storage=self.storage.root),
            agent=replace(AgentSettings(collect_timeout=60, drain_timeout=20), **agent),
            paths=PathSettings(state=self.state),
        )
        self.writes_ended()

    def write_config(self, *lines: str) -> None:
        self.config.write_text(
            "\n".join(
                [
                    "version: 0.1",
                    "log: {level: error}",
                    f"http: {{addr: '127.0.0.1:{free_ports(1)[0]}'}}",
                    f"storage: {{filesystem: {{rootdirectory: {self.storage.root}}}{''.join(lines)}}}",
                ]
            )
        )

    def writes_ended(self) -> None:
        (self.state / "latest-write-token").write_text(f"{time.time() - 600:19.6f}\n")

    def fill(self) -> set[str]:
        """Add images of every kind, also deleted ones, and a push under way. Returns the blobs to keep."""
        return fill(self.storage)

    def collect(
        self,
        entered: Callable[[Phase, Collection], None] = lambda phase, collection: None,
        **options: Any,
    ) -> CollectionResult:
        return self.collection(entered, **options).run()

    def collection(
        self,
        entered: Callable[[Phase, Collection], None] = lambda phase, collection: None,
        **options: Any,
    ) -> Collection:
        result = CollectionResult("1", CollectionOptions(**options))
        directory = self.state / "garbage"
        directory.mkdir(exist_ok=True)
        recorder = Recorder(
            result,
            self.settings.agent.collect_timeout,
            on_change=lambda recorder: entered(recorder.progress.phase, collection),
        )
        collection = Collection(self.settings, recorder, directory)
        return collection

    @property
    def writes_are_open(self) -> bool:
        write_lock = WriteLock(self.state)
        try:
            return not write_lock.is_held()
        finally:
            write_lock.close()

    @property
    def pins(self) -> list[Path]:
        return list(self.storage.repositories.glob("sysreg-*"))

    def program(self, monkeypatch: Any, text: str) -> None:
        """Replace the collector by a script."""
        directory = self.root / "bin"
        directory.mkdir(exist_ok=True)
        path = directory / "docker-registry"
        path.write_text(text)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def fill(storage: Storage) -> set[str]:
    """See ``Sandbox.fill``."""
    amd, arm = storage.image("app", layers=(b"amd",)), storage.image("app", layers=(b"arm",))
    storage.index("app", "1", "2", children=(amd, arm))
    signed = storage.image("app", "signed", layers=(b"signed",))
    storage.image("app", layers=(b"signature",), subject=signed)
    storage.image("app/nested", "1", layers=(b"nested", b"amd"))
    storage.index("indexes", "1", children=())
    storage.upload("push/under-way", b"old, but soon to be needed")
    needed = storage.all_blobs()
    os.utime(storage.path(storage.blob(b"old, but soon to be needed")))
    age, storage.age = storage.age, 5
    gone = storage.image("gone", "1", layers=(b"gone" * 1000, b"amd"))
    storage.delete("gone", gone)
    storage.delete("app", storage.image("app", "3", layers=(b"gone as well",)))
    storage.age = age
    storage.image("app", layers=(b"orphan",))
    return needed


def in_background(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def mounted(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
