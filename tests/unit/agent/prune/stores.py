"""Storages of the file system for prunes, and the settings of an agent for them."""

from __future__ import annotations

import os
import random
from pathlib import Path

from sysreg_cli.settings import (
    AgentSettings,
    ImageSettings,
    PathSettings,
    RegistrySettings,
    RetentionSettings,
    Settings,
)
from tests.unit.agent.storage.builder import Storage
from tests.unit.agent.usage.test_accounting import by_chance

#: the time of every prune
NOW = 1_800_000_000.0
DAY = 86400.0


def settings_for(storage: Storage, *, protected: tuple[str, ...] = ()) -> Settings:
    """Return the settings of an agent beside the storage, which has the driver ``filesystem``."""
    state = storage.root.parent / "state"
    state.mkdir(exist_ok=True)
    config = storage.root.parent / "config.yml"
    config.write_text(
        f"storage: {{filesystem: {{rootdirectory: '{storage.root}'}}, delete: {{enabled: true}}}}"
    )
    return Settings(
        registry=RegistrySettings(config=config, storage=storage.root),
        agent=AgentSettings(restart_command="true"),
        images=ImageSettings(protected),
        paths=PathSettings(state=state),
    )


def push_days_ago(storage: Storage, repository: str, tag: str, days: float) -> None:
    """Make the tag as old as if it had been pushed so many days before NOW."""
    then = NOW - days * DAY
    os.utime(storage.tag(repository, tag), (then, then))


def fill(storage: Storage, chance: random.Random) -> None:
    """Push by chance, with signatures, and give each tag an age."""
    by_chance(storage, chance)
    for repository in ("a/x", "b/x"):
        digests = [
            storage.image(repository, f"t{number}", layers=(bytes([number % 3]) * 50,))
            for number in range(chance.randint(0, 6))
        ]
        for digest in chance.sample(digests, len(digests) // 3):
            signature = f"{digest.replace(':', '-')}.sig"
            storage.image(repository, signature, layers=(b"signature of " + digest.encode(),))
    for link in storage.repositories.glob("**/current/link"):
        repository = str(link.parents[4].relative_to(storage.repositories))
        push_days_ago(storage, repository, link.parents[1].name, chance.choice([0, 1, 1, 5, 20, 60, -1]))


def rule(chance: random.Random) -> RetentionSettings:
    """Return a rule by chance, which has a condition."""
    images = tuple(chance.sample(["*", "a/*", "*/x", "plain", "none"], chance.randint(1, 2)))
    match = chance.choice([(), (), ("*",), ("[12]", "sha256*"), ("t*",)])
    keep, days = chance.choice([None, 0, 1, 2, 5]), chance.choice([None, 1, 10, 30])
    if not match and keep is None and days is None:
        keep = 1
    return RetentionSettings(
        images, match, keep, None if days is None else int(days * DAY), at_most=chance.choice([0, 50, 100])
    )


def files(top: Path) -> dict[str, bytes]:
    """Return each file below a directory with its content."""
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
