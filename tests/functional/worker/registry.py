"""A docker-registry of a test's own, without users: a host's probe needs no more."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType

import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from devstack.ports import free_ports
from devstack.waiting import wait_until
from tests import certificates as make
from tests.tls_clients import presented_chain

NAME = "localhost"


class Registry:
    """As a context: docker-registry at ``localhost:port``. It presents nothing before ``present``.

    A machine on the bridge reaches it, if ``localhost`` is an address of the bridge there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def present(self, leaf: make.Issued, *chain: make.Issued) -> None:
        """Start again with another certificate, and wait until clients see it."""
        self.stop()
        certificate, key = self._directory / "server.crt", self._directory / "server.key"
        certificate.write_bytes(make.bundle(leaf, *chain))
        key.write_bytes(leaf.key_pem)
        tls = {"certificate": str(certificate), "key": str(key)}
        config = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(self._directory / "images")}},
            "http": {"addr": f":{self.port}", "tls": tls},
        }
        path = self._directory / "registry.yml"
        path.write_text(yaml.safe_dump(config))
        with (self._directory / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", "docker-registry", "serve", path],
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self._presents(leaf), what="the registry presents its certificate")

    def _presents(self, leaf: make.Issued) -> bool:
        return presented_chain(self.port, NAME)[:1] == [leaf.certificate.public_bytes(Encoding.DER)]
