"""What the keys of the store hold: frozen values, and their JSON.

A reader ignores fields that it does not know. A writer of an older version keeps them: see ``encode``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from sysreg_cli.cluster.problems import Problem
from sysreg_cli.errors import ProtocolError
from sysreg_cli.v1 import wire

T = TypeVar("T")


class Role(StrEnum):
    """What a host is for."""

    CONTROLLER = "controller"  # it serves the registry
    WORKER = "worker"  # it pulls from the registry


class Phase(StrEnum):
    """How far a change of the registry's certificate has come. The phases follow each other in this order."""

    TRUST = "trust"  # the registry presents the old one, or changes over; hosts trust the new one as well
    SETTLE = "settle"  # the registry presents the new certificate; hosts stop trusting the old one

    @property
    def position(self) -> int:
        return list(Phase).index(self)


class Outcome(StrEnum):
    """What a host says of itself."""

    TRUSTED = "trusted"  # docker and containerd trust the new certificate beside the old one
    LIVE = "live"  # they trust only the new one, and the registry presents it
    FAILED = "failed"
    AHEAD = "ahead"  # the host has seen a later change than the store has, and refuses to go back


@dataclass(frozen=True, slots=True)
class ChangeId:
    """Which change of the certificate it is. A later one has a greater number.

    ``id`` is random. It tells two changes with the same number apart, one of which was lost in a restore.
    """

    number: int
    id: str


class Desired(Protocol):
    """What the controller wants of its hosts."""

    @property
    def change(self) -> ChangeId: ...

    @property
    def title(self) -> str: ...

    def may_replace(self, other: Any) -> bool: ...


D = TypeVar("D", bound=Desired)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A certificate by which clients trust the registry. ``sha256`` is its fingerprint in hexadecimal."""

    sha256: str
    pem: str


@dataclass(frozen=True, slots=True)
class DesiredCertificate:
    """Which certificate every host is to trust for the registry. It holds public data only.

    ``anchors`` stay trusted. ``retiring`` is what the registry still presents in the phase ``trust``, and is
    trusted until a host has settled. ``chain`` is what the
    registry presents from the phase ``settle`` on, PEM; ``sha256`` is the fingerprint of its first
    certificate. Clients write one of ``host_names`` and ``port`` before the name of an image. ``who`` made
    the change, and ``since`` is when it came into this phase.
    """

    change: ChangeId
    phase: Phase
    anchors: tuple[Anchor, ...]
    retiring: tuple[Anchor, ...]
    chain: str
    sha256: str
    host_names: tuple[str, ...]
    port: int
    who: str = ""
    since: str = ""

    @property
    def title(self) -> str:
        return f"change {self.change.number} ({self.phase})"

    @property
    def wanted(self) -> tuple[Anchor, ...]:
        """What docker and containerd trust at least in this phase."""
        return self.anchors if self.phase is Phase.SETTLE else (*self.anchors, *self.retiring)

    def may_replace(self, other: DesiredCertificate | None) -> bool:
        """Whether a host that acted on ``other`` may act on this one: it does not lead back."""
        if other is None or self.change.number > other.change.number:
            return True
        return self.change == other.change and self.phase.position >= other.phase.position


@dataclass(frozen=True, slots=True)
class DesiredAuthorities:
    """Which CA certificates every host is to trust beside those of its system, and no others of sysreg.

    ``who`` made the change, ``since`` is when it was published. The changes are counted by themselves, not
    with those of the registry's certificate.
    """

    change: ChangeId
    anchors: tuple[Anchor, ...]
    who: str = ""
    since: str = ""

    @property
    def title(self) -> str:
        return f"CA certificates, change {self.change.number}"

    def may_replace(self, other: DesiredAuthorities | None) -> bool:
        """Whether a host that acted on ``other`` may act on this one: it does not lead back."""
        return other is None or self.change.number > other.change.number or self.change == other.change


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A host that the operator has added."""

    role: Role | str
    created: str
    registries: tuple[str, ...] = ("docker_registry",)


@dataclass(frozen=True, slots=True)
class AuthoritiesStatus:
    """What a host has made of the desired CA certificates: live, failed or ahead. See ``HostStatus``."""

    change: ChangeId
    outcome: Outcome
    at: str
    problem: Problem | str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What a host has done, and what its own probe saw.

    ``change`` and ``phase`` say which desired state the outcome is about. ``reason`` completes ``problem``
    with the file, the address or the error. ``docker`` and ``containerd`` are the fingerprints of the server
    certificate that the probe saw and verified as each of them does, "" if it did not. ``at`` is when the
    host came to this outcome. ``boot_id`` is that of Linux, and changes with each boot. ``authorities`` is
    None if the host has said nothing of CA certificates, as one with an older sysreg-host.
    """

    change: ChangeId
    phase: Phase
    outcome: Outcome
    at: str
    boot_id: str
    problem: Problem | str = ""
    reason: str = ""
    docker: str = ""
    containerd: str = ""
    version: str = ""
    authorities: AuthoritiesStatus | None = None


@dataclass(frozen=True, slots=True)
class Alive:
    """The host lives: its key goes when the host does not prolong its lease."""

    boot_id: str


def encode(value: Any, before: bytes | None = None) -> bytes:
    """Return a value as JSON. Fields of ``before`` that this version does not know stay as they are."""
    document = wire.to_json(value)
    return json.dumps(_merge(_document(before), document), sort_keys=True).encode()


def decode(kind: type[T], data: bytes, key: str) -> T:
    """Parse the value of ``key``. Raises ProtocolError, which names the key."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ProtocolError(f"{key} makes no sense: it is not JSON") from None
    return wire.from_json(kind, document, key)


def _document(data: bytes | None) -> Any:
    try:
        return json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}


def _merge(before: Any, document: Any) -> Any:
    """Return ``document`` with the fields of ``before`` that it lacks, also in the objects within it."""
    if not isinstance(before, Mapping) or not isinstance(document, Mapping):
        return document
    return {**before, **{name: _merge(before.get(name), value) for name, value in document.items()}}
