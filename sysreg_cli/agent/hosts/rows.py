"""Hosts as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sysreg_cli.cluster.judgement import HostJudgement, State
from sysreg_cli.pki.describe import describe
from sysreg_cli.v1.certificates import Mode
from sysreg_cli.v1.hosts import RegistryHost

_SHORT = 16


def row(judgement: HostJudgement, in_use: x509.Certificate | None) -> RegistryHost:
    """Return a host. ``in_use`` is the registry's certificate."""
    record = judgement.record
    status = record.status
    return RegistryHost(
        host=record.name,
        role=str(record.spec.role),
        state=str(judgement.state),
        certificate=_shown(status.docker or status.containerd, in_use) if status else "",
        since=judgement.since,
        reason=judgement.reason,
        remedy=judgement.remedy,
        created=record.spec.created,
        reported_at=status.at if status else "",
        version=status.version if status else "",
    )


def _shown(fingerprint: str, in_use: x509.Certificate | None) -> str:
    if in_use is not None and in_use.fingerprint(hashes.SHA256()).hex() == fingerprint:
        return describe(in_use, Mode.DOCKER_REGISTRY).signature
    return fingerprint[:_SHORT]


def warnings(behind: Iterable[HostJudgement]) -> tuple[str, ...]:
    """Return a line for each host that is not live."""
    return tuple(
        f"host {one.record.name} is {one.state} since {one.since}; it gets the certificate when it is back"
        if one.state in (State.DOWN, State.JOINING)
        else f"host {one.record.name} is {one.state}: {one.reason or 'it has not seen the certificate yet'}"
        for one in behind
    )
