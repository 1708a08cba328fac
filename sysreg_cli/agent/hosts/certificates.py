"""The certificates with which hosts connect to etcd: each host has its own, and it ends with the host.

A certificate gives no rights, but whoever may connect to etcd may do some things without a password
(docs/behaviour.rst, "etcd"). So that of a deleted host is revoked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from cryptography import x509

from sysreg_cli.cluster.membership import AuthorityFiles
from sysreg_cli.errors import SysregError, text_of
from sysreg_cli.host import files
from sysreg_cli.pki.private_ca import issue, revoke
from sysreg_cli.settings import ClusterSettings


class HostCertificates:
    """Issues and revokes them. The methods raise SysregError.

    With an etcd of somebody else, there is no key of its CA here. Then each host has the controller's
    certificate, and nothing can be revoked.
    """

    def __init__(self, cluster: ClusterSettings) -> None:
        self._files = AuthorityFiles(cluster.directory)
        self._lock = threading.Lock()

    def issue(self, host: str) -> tuple[str, str]:
        """Return a certificate and its key for ``host``, PEM. One that it had before is revoked."""
        with self._lock, _errors_named():
            if not self._files.ca_key.exists():
                return self._files.tls.certificate.read_text(), self._files.tls.key.read_text()
            self._revoke(host)
            pair = issue(self._files.authority(), (), datetime.now(UTC))
            path = self._files.certificate_of(host)
            path.parent.mkdir(mode=0o755, exist_ok=True)
            files.write(path, pair.pem, mode=0o644)
            return pair.pem.decode(), pair.key_pem.decode()

    def revoke(self, host: str) -> None:
        """Revoke the certificate of ``host``, if there is one."""
        with self._lock, _errors_named():
            self._revoke(host)

    def _revoke(self, host: str) -> None:
        path, revoked = self._files.certificate_of(host), self._files.revoked
        if not path.exists():
            return
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            before = revoked.read_bytes() if revoked.exists() else None
            data = revoke(self._files.authority(), before, [certificate.serial_number], datetime.now(UTC))
        except ValueError:
            raise SysregError(
                f"{path} or {revoked} is damaged, so the certificate of host {host} cannot be revoked",
                next_step="restore them from a backup",
            ) from None
        files.write(revoked, data, mode=0o644)
        # it goes last, so that a revocation that was interrupted is done again
        files.remove(path)


@contextmanager
def _errors_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SysregError(text_of(error), next_step="repair that, then try again") from None
