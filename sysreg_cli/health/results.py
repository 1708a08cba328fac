"""The result of a check, and the names of all checks. Imports little: the command's help needs it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Name(StrEnum):
    """The checks, in the order in which they are shown."""

    SETTINGS = "settings"
    NAMES = "names"
    REGISTRY = "registry"
    TOKEN_SERVER = "token-server"  # noqa: S105 - a name
    AGENT = "agent"
    CERTIFICATE = "certificate"
    LISTENERS = "listeners"
    DOCKER_TRUST = "docker-trust"
    CONTAINERD_TRUST = "containerd-trust"
    SYSTEM_TRUST = "system-trust"
    HOSTS = "hosts"
    CLOCKS = "clocks"
    KEYSTONE = "keystone"
    TOKEN = "token"  # noqa: S105 - a name
    IMAGE = "image"
    STORAGE = "storage"
    SPACE = "space"
    INODES = "inodes"
    WRITES = "writes"
    COLLECTION = "collection"
    DELETES = "deletes"
    LOGINS = "logins"
    CHANGES = "changes"
    BLOBS = "blobs"


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  # it works, and somebody should look at it
    FAILED = "failed"
    SKIPPED = "skipped"  # it cannot be known


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do, in words, and a command that can be typed as it is, if there is one."""

    text: str
    command: str = ""

    def __str__(self) -> str:
        return f"{self.text}: {self.command}" if self.command else self.text


@dataclass(frozen=True, slots=True)
class Result:
    """The status of a check, what was found, and what to do about it."""

    status: Status
    what: str
    remedy: Remedy | None = None

    @property
    def detail(self) -> str:
        """What was found. It ends in the remedy, if there is one."""
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class Skipped(Exception):
    """A check cannot know what it is about. The text is the reason."""


def ok(what: str) -> Result:
    """Nothing is wrong."""
    return Result(Status.OK, what)


def warning(what: str, remedy: Remedy) -> Result:
    """It works, and somebody should look at it."""
    return Result(Status.WARNING, what, remedy)


def failed(what: str, remedy: Remedy) -> Result:
    """It does not work."""
    return Result(Status.FAILED, what, remedy)


def skipped(reason: str) -> Result:
    """It cannot be known."""
    return Result(Status.SKIPPED, reason)
