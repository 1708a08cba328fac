"""A controller's files in a directory of the test, and services that follow without being restarted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.errors import Unavailable
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.probe import Probe
from sysreg_cli.settings import AgentSettings, CertificateSettings, PathSettings, Settings
from tests import certificates as make

OLD, NEW, LATER = "000001", "000002", "000003"


class Services(Probe):
    """Services that present ``live``. A restart has them present the current one, unless it is ``broken``."""

    def __init__(self, generations: Generations, live: str) -> None:
        self.generations = generations
        self.live = live
        self.broken: set[str] = set()

    def wait(
        self, certificates: Sequence[x509.Certificate], *, seconds: float, fail_fast: bool = False
    ) -> None:
        del seconds
        if not fail_fast:  # only a restart waits patiently
            current = self.generations.current()
            assert current is not None
            self.live = self.live if current in self.broken else current
        if tuple(certificates) != self.generations.certificates(self.live):
            raise Unavailable("the registry presents another certificate")


class Host:
    """A controller on which the change from OLD to NEW was cut short."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        paths = {
            name: directory / name for name in ("state", "docker_trust", "containerd_trust", "system_trust")
        }
        self.settings = Settings(
            agent=AgentSettings(restart_command="true", reload_command="true"),
            certificate=CertificateSettings(directory / "tls"),
            paths=PathSettings(**paths, system_trust_command="true"),
        )
        for path in (*paths.values(), directory / "tls"):
            path.mkdir()
        self.generations = Generations(directory / "tls")
        for name in (OLD, NEW):
            self.add(name)
        self.generations.use(OLD)
        self.services = Services(self.generations, OLD)
        self.journal = directory / "state" / "certificate-journal"
        self.history = directory / "state" / "certificate-history"

    def add(self, name: str) -> None:
        root = make.authority(name)
        self.add_chain(name, make.server(root), root)

    def add_chain(self, name: str, *chain: make.Issued) -> None:
        self.generations.create(name, chain[0].key_pem, b"".join(one.pem for one in chain))

    def switch(self) -> None:
        self.generations.use(NEW)

    def recover(self) -> None:
        CertificateChange(self.settings, probe=self.services).recover()

    def in_use(self) -> str:
        """The generation that is in use, after nothing else was found to be left."""
        current = self.generations.current()
        assert current == self.services.live
        assert self.generations.names()[-1] == current
        assert not self.journal.exists()
        anchor = self.generations.certificates(current)[-1]
        (file,) = self.settings.paths.docker_trust.rglob("*.crt")
        assert x509.load_pem_x509_certificate(file.read_bytes()) == anchor
        return current

    def snapshot(self) -> dict[str, bytes]:
        """Every file and link of the host, but for locks."""
        return {
            str(path): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            for path in sorted(self.directory.rglob("*"))
            if (path.is_symlink() or path.is_file()) and path.parent != self.settings.paths.state
        }
