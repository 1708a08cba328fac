"""A host without services: a change there writes and uses a generation, and nothing else."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.agent.renewal.readings import Source
from sysreg_cli.agent.renewal.renewal import Pace, Renewal
from sysreg_cli.errors import Conflict
from sysreg_cli.host.generations import Generations
from sysreg_cli.pki.check import ServerChain
from sysreg_cli.settings import CertificateSettings, PathSettings, Settings
from tests import certificates as make

QUICK = Pace(poll=0.01, rest=0.1, long_rest=0.1, retry=0.1, first_look=0.0)


class Change(CertificateChange):
    """Installs without services, and counts. It raises ``failure`` if there is one."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.installed: list[ServerChain] = []
        self.tried = threading.Event()
        self.failure: Exception | None = None

    def install(
        self,
        chain: ServerChain,
        *,
        by: str,
        wait: float,
        instead_of: str | None = None,
        require_all_hosts: bool = False,
    ) -> list[str]:
        del wait, require_all_hosts
        assert by.startswith("sysreg-agent (")
        self.tried.set()
        if self.failure is not None:
            raise self.failure
        if instead_of not in (None, self._generations.current()):
            raise Conflict("another was installed meanwhile")
        self.use(chain.key_pem, chain.chain_pem)
        self.installed.append(chain)
        return []

    def use(self, key: bytes, chain: bytes) -> None:
        name = self._generations.next_name()
        self._generations.create(name, key, chain)
        self._generations.use(name)


class Host:
    """A host on which ``root`` issues certificates, and one of them is in use."""

    def __init__(self, directory: Path) -> None:
        self.settings = dataclasses.replace(
            Settings(),
            certificate=CertificateSettings(directory=directory / "tls"),
            paths=PathSettings(state=directory / "state", docker_trust=directory / "docker"),
        )
        for name in ("tls", "state", "source"):
            (directory / name).mkdir()
        self.source = directory / "source"
        self.change = Change(self.settings)
        self.root = make.authority()
        self.first = make.server(self.root)
        self.change.use(self.first.key_pem, self.first.pem + self.root.pem)

    def in_use(self) -> int:
        """The serial number of the certificate in use."""
        generations = Generations(self.settings.certificate.directory)
        current = generations.current()
        assert current is not None
        return generations.certificates(current)[0].serial_number

    def uses(self, issued: make.Issued) -> bool:
        return self.in_use() == issued.certificate.serial_number

    @contextmanager
    def renewing(self, source: Source | None, pace: Pace = QUICK) -> Iterator[Renewal]:
        renewal = Renewal(self.settings, self.change, source, pace)
        renewal.start()
        try:
            yield renewal
        finally:
            renewal.stop()
            renewal.join()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)
