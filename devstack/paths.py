"""Where the files of an embedded controller are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Everything is below ``root``. docker-registry's own user has to reach it, so no parent may be 0700."""

    root: Path

    @property
    def settings(self) -> Path:
        """sysreg.conf."""
        return self.root / "sysreg.conf"

    @property
    def state(self) -> Path:
        """The state directory of token server and agent."""
        return self.root / "state"

    @property
    def tls(self) -> Path:
        """The directory with the generations of key and chain."""
        return self.root / "tls"

    @property
    def ca_file(self) -> Path:
        """The certificate that clients trust: the chain in use, also after a certificate-install."""
        return self.tls / "current" / "server.crt"

    @property
    def signing_key(self) -> Path:
        """The key that signs registry tokens."""
        return self.root / "token" / "signing.key"

    @property
    def signing_certificate(self) -> Path:
        """The certificate of the key that signs registry tokens."""
        return self.root / "token" / "signing.crt"

    @property
    def storage(self) -> Path:
        """The registry's storage."""
        return self.root / "registry" / "storage"

    @property
    def registry_config(self) -> Path:
        """The registry's config.yml."""
        return self.root / "registry" / "config.yml"

    @property
    def registry_secret(self) -> Path:
        """The registry's http.secret, which has to outlive a restart."""
        return self.root / "registry" / "http.secret"

    @property
    def agent_socket(self) -> Path:
        """The agent's unix socket."""
        return self.root / "run" / "agent.sock"

    @property
    def keystone(self) -> Path:
        """The directory of a Keystone that only this controller uses."""
        return self.root / "keystone"

    @property
    def cluster(self) -> Path:
        """What the controller logs in to etcd with, and the CA of the cluster."""
        return self.root / "cluster"

    @property
    def etcd(self) -> Path:
        """The directory of etcd."""
        return self.root / "etcd"

    @property
    def etcd_script(self) -> Path:
        """The script that starts etcd."""
        return self.etcd / "start.sh"

    @property
    def workers(self) -> Path:
        """The directory of the workers, each with its disk."""
        return self.root / "workers"

    @property
    def clock(self) -> Path:
        """What a fake clock reads: how far it is ahead."""
        return self.root / "clock"

    @property
    def ports(self) -> Path:
        """The ports chosen at the first start."""
        return self.root / "ports.json"

    @property
    def log(self) -> Path:
        """The directory of the programs' output."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """The directory of sockets and process ids."""
        return self.root / "run"
