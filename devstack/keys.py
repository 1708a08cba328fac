"""The keys and certificates of an embedded controller, made at its first start; none is in the repository."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from sysreg_cli.pki.selfsigned import self_signed

HOST_NAME = "registry.local"
# The address of controllers in a network namespace of their own (TEST-NET-2, RFC 5737).
NAMESPACE_ADDRESS = "198.51.100.10"


def write_tls(directory: Path, *, group: int) -> None:
    """A self-signed P-256 certificate for registry.local: ``generations/first``, linked as ``current``.

    The layout is the one certificate-install replaces: server.key (root:group 0440) and server.crt.
    """
    generation = directory / "generations" / "first"
    addresses = ["127.0.0.1", NAMESPACE_ADDRESS]
    pair = self_signed([HOST_NAME, "localhost"], now=datetime.now(UTC), addresses=addresses)
    _write_pair(generation / "server.key", generation / "server.crt", *pair)
    os.chown(generation / "server.key", 0, group)
    (generation / "server.key").chmod(0o440)
    (directory / "current").symlink_to("generations/first")


def write_signing(key_file: Path, certificate_file: Path) -> None:
    """The key that signs registry tokens, with the certificate the registry's rootcertbundle holds."""
    _write_pair(key_file, certificate_file, *self_signed(["sysreg-token-signing"], now=datetime.now(UTC)))


def _write_pair(key_file: Path, certificate_file: Path, key: bytes, certificate: bytes) -> None:
    key_file.parent.mkdir(parents=True, exist_ok=True)
    key_file.touch(mode=0o400, exist_ok=False)
    key_file.write_bytes(key)
    certificate_file.write_bytes(certificate)
    certificate_file.chmod(0o644)
