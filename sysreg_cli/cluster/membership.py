"""How this host takes part in the cluster: its name, and the files that it logs in to etcd with."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.cluster.gateway import TlsFiles
from sysreg_cli.cluster.keys import check_host_name
from sysreg_cli.cluster.servers import Access
from sysreg_cli.errors import SettingsError, SysregError
from sysreg_cli.pki.private_ca import Pair
from sysreg_cli.settings import ClusterSettings

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """The files of one directory: etcd's CA, the certificate of this host and its key, and its password."""

    directory: Path

    @property
    def tls(self) -> TlsFiles:
        return TlsFiles(*(self.directory / name for name in ("ca.crt", "client.crt", "client.key")))

    @property
    def password(self) -> Path:
        return self.directory / "password"


@dataclass(frozen=True, slots=True)
class AuthorityFiles(CredentialFiles):
    """The files of the controller that runs etcd: the CA's key and what it has issued, beside its own."""

    @property
    def ca_key(self) -> Path:
        return self.directory / "ca.key"

    @property
    def server_certificate(self) -> Path:
        return self.directory / "server.crt"

    @property
    def server_key(self) -> Path:
        return self.directory / "server.key"

    @property
    def revoked(self) -> Path:
        """The certificates with which nobody may connect any more. etcd reads it for each connection."""
        return self.directory / "revoked.crl"

    def authority(self) -> Pair:
        """Return the CA with its key. Raises SysregError."""
        try:
            return Pair.load(self.ca_key.read_bytes(), self.tls.ca.read_bytes())
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SysregError(
                f"no certificate of the cluster can be issued: {self.ca_key}, the key of its CA: {reason}",
                next_step="restore it from a backup, because every host trusts this CA",
            ) from None

    def certificate_of(self, host: str) -> Path:
        """The certificate in the latest join file of a host."""
        return self.directory / "hosts" / f"{host}.crt"


def access(cluster: ClusterSettings) -> Access:
    """Return how to reach etcd. Raises SettingsError if the section [cluster] names no servers."""
    if not cluster.endpoints:
        raise SettingsError("settings refused", ["endpoints in section [cluster] is not set"])
    files = CredentialFiles(cluster.directory)
    return Access(cluster.endpoints, files.tls, cluster.user, files.password)


def own_name(cluster: ClusterSettings) -> str:
    """Return the name of this host in the cluster. Raises UsageError if the machine's name is none."""
    return cluster.host or check_host_name(socket.gethostname())


def boot_id() -> str:
    """Return what changes with each boot of this machine."""
    return _BOOT_ID.read_text().strip()
