"""Hosts as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sysreg_cli.cluster.judgement import HostJudgement, State
from sysreg_cli.pki.describe import describe
from sysreg_cli.v1.certificates import Mode
from sysreg_cli.v1.hosts import RegistryHost

_SHORT = 16


def row(judgement: HostJudgement, kept: Sequence[x509.Certificate]) -> RegistryHost:
    """Return a host. ``kept`` are the registry's certificates that the controller has, also earlier ones."""
    record = judgement.record
    status = record.status
    return RegistryHost(
        host=record.name,
        role=str(record.spec.role),
        state=str(judgement.state),
        certificate=_shown(status.docker or status.containerd, kept) if status else "",
        since=judgement.since,
        reason=judgement.reason,
        remedy=judgement.remedy,
        created=record.spec.created,
        reported_at=status.at if status else "",
        version=status.version if status else "",
    )


def _shown(fingerprint: str, kept: Sequence[x509.Certificate]) -> str:
    """Return the certificate as certificate-list shows it, or the start of its fingerprint."""
    for certificate in kept:
        if certificate.fingerprint(hashes.SHA256()).hex() == fingerprint:
            return describe(certificate, Mode.DOCKER_REGISTRY).signature
    return fingerprint[:_SHORT]


def warnings(behind: Iterable[HostJudgement]) -> tuple[str, ...]:
    """Return a line for each host that is not live."""
    return tuple(
        f"host {one.record.name} is {one.state} since {one.since}; it gets the certificate when it is back"
        if one.state in (State.DOWN, State.JOINING)
        else f"host {one.record.name} is {one.state}: {one.reason or 'it has not seen the certificate yet'}"
        for one in behind
    )


def remedy_of_servers(revisions: Mapping[str, int]) -> str:
    """Return what to do if a server of etcd has other users than the rest, "" if none has.

    ``revisions`` is that of the users on each server. One with another revision has lost a change. A host
    that asks it may seem to be ahead.
    """
    if len(set(revisions.values())) < 2:
        return ""
    shown = ", ".join(f"{revision} at {server}" for server, revision in revisions.items())
    return (
        f"the servers of etcd have lost different changes (revision of the users: {shown}): make the one that"
        ' differs anew, as the Operator\'s guide says in "An etcd of three members"'
    )
