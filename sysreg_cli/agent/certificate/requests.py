"""Pending certificate requests: keys that were made here, and wait for their certificates.

A request is one file in ``requests/`` beside the generations, with its key and its CSR, for root alone. It is
written and removed at once, so there is no half of one. A change of the certificate removes the request whose
key has come into use.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sysreg_cli.errors import Conflict, NotFound, UsageError
from sysreg_cli.host import files
from sysreg_cli.pki import keys, pem
from sysreg_cli.pki.csr import key_id, kind_of, make_request, names_of
from sysreg_cli.pki.facts import PARSE_ERRORS, public_key
from sysreg_cli.pki.keys import KeyProblem, ServerKey
from sysreg_cli.pki.names import as_address
from sysreg_cli.settings import Settings
from sysreg_cli.settings.schema import HOST_NAME
from sysreg_cli.text import shorten
from sysreg_cli.v1.certificates import CertificateRequest, KeyKind

log = logging.getLogger("sysreg.agent")

#: Old ones are forgotten easily, and each is a private key.
_MAX_PENDING = 20
_MAX_NAMES = 100


class PendingRequests:
    """The pending requests of one controller. Methods raise OSError."""

    def __init__(self, settings: Settings) -> None:
        self._host_names = settings.registry.host_names
        self.directory = settings.certificate.directory / "requests"

    def create(self, names: Sequence[str], kind: KeyKind) -> CertificateRequest:
        """Make a key and a request for the configured host names and ``names``.

        Raises UsageError for what is no name, and Conflict if too many requests are pending.
        """
        names = _checked([*self._host_names, *names])
        if len(self.all()) >= _MAX_PENDING:
            raise Conflict(
                f"{_MAX_PENDING} certificate requests are pending",
                next_step="cancel those that are not needed (certificate-request --list, --cancel)",
            )
        key, request = make_request(names, kind)
        uuid = key_id(x509.load_pem_x509_csr(request).public_key())
        self.directory.mkdir(mode=0o700, exist_ok=True)
        files.flush_directory(self.directory.parent)
        files.write(self._path(uuid), key + request, mode=0o400)
        return self._read(self._path(uuid))

    def all(self) -> list[CertificateRequest]:
        """Return all requests, the oldest first. A damaged one is left out."""
        found = []
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):  # somebody cancels it at this moment
                try:
                    found.append(self._read(path))
                except (*PARSE_ERRORS, x509.ExtensionNotFound) as error:
                    log.warning("%s is damaged: %s", path, error)
        return sorted(found, key=lambda request: (request.created_at, request.uuid))

    def keys(self) -> Iterator[ServerKey]:
        """Yield the keys of all requests. A damaged one is left out."""
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError, KeyProblem, StopIteration):
                blocks, _ = pem.split(path.read_bytes())
                yield keys.load(next(block for block in blocks if block.is_private_key), None)

    def cancel(self, uuid: str) -> None:
        """Remove a request with its key. Raises NotFound."""
        if self._path(uuid) not in self._paths():
            raise NotFound(
                f"no certificate request {shorten(uuid)} is pending",
                next_step="see those that are with certificate-request --list",
            )
        files.remove(self._path(uuid))

    def fulfil(self, certificate: x509.Certificate) -> None:
        """Remove the request for ``certificate``, which is in use with its key."""
        path = self._path(key_id(public_key(certificate)))
        if path in self._paths():
            files.remove(path)

    def _path(self, uuid: str) -> Path:
        return self.directory / f"{uuid}.pem"

    def _paths(self) -> list[Path]:
        return sorted(self.directory.glob("[0-9a-f]*.pem"))

    def _read(self, path: Path) -> CertificateRequest:
        request = x509.load_pem_x509_csr(path.read_bytes())
        return CertificateRequest(
            uuid=path.stem,
            names=names_of(request),
            key=kind_of(request),
            created_at=str(datetime.fromtimestamp(int(path.stat().st_mtime), UTC)),
            csr=request.public_bytes(serialization.Encoding.PEM).decode(),
        )


def _checked(names: Sequence[str]) -> list[str]:
    """Return each name once, in lower case. Raises UsageError."""
    checked = list(dict.fromkeys(str(as_address(name) or name.lower()) for name in names))
    for name in checked:
        if not as_address(name) and (len(name) > 253 or not re.fullmatch(HOST_NAME, name)):
            raise UsageError(f"{shorten(name)} is neither a DNS name nor an IP address")
    if len(checked) > _MAX_NAMES:
        raise UsageError(f"there are {len(checked)} names; {_MAX_NAMES} are accepted")
    return checked
