"""The table of the checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sysreg_cli.health import agent_work, certificates, hosts, identity, listeners, storage
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.results import Name, Result, ok

#: Returns its result. It may raise Skipped, SysregError or OSError.
Check = Callable[[Readings], Result]


def _settings(_readings: Readings) -> Result:
    """The settings were read before any check."""
    return ok("sysreg.conf has no error")


CHECKS: Mapping[Name, Check] = {
    Name.SETTINGS: _settings,
    Name.NAMES: listeners.names,
    Name.REGISTRY: listeners.registry,
    Name.TOKEN_SERVER: listeners.token_server,
    Name.AGENT: listeners.agent,
    Name.CERTIFICATE: certificates.certificate,
    Name.LISTENERS: listeners.listeners,
    Name.DOCKER_TRUST: certificates.docker_trust,
    Name.CONTAINERD_TRUST: certificates.containerd_trust,
    Name.SYSTEM_TRUST: certificates.system_trust,
    Name.HOSTS: hosts.hosts,
    Name.CLOCKS: identity.clocks,
    Name.KEYSTONE: identity.keystone,
    Name.TOKEN: identity.token,
    Name.IMAGE: agent_work.image,
    Name.STORAGE: storage.storage,
    Name.SPACE: storage.space,
    Name.INODES: storage.inodes,
    Name.WRITES: storage.writes,
    Name.COLLECTION: agent_work.collection,
    Name.DELETES: storage.deletes,
    Name.LOGINS: identity.logins,
    Name.CHANGES: agent_work.changes,
    Name.BLOBS: agent_work.blobs,
}
