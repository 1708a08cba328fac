"""The CA certificates that the whole host trusts: certificate-install with the mode ``ssl_ca``.

The certificates are files in ``system_trust``, named as in ``anchors``. ``system_trust_command`` rebuilds the
system's bundle from that directory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from sysreg_cli.errors import CertificateRefused, SysregError, text_of
from sysreg_cli.host import failpoint, files
from sysreg_cli.host.anchors import anchor_name, is_anchor_name, make_public_directory, managed_anchors
from sysreg_cli.host.journal import Journal, JournalDamaged
from sysreg_cli.host.services import run_command, split_command
from sysreg_cli.pki.check import Authority, read_certificates
from sysreg_cli.settings import PathSettings


class SystemBundle:
    """Adds CA certificates, all or none. ``command_timeout`` is in seconds.

    The journal names the files that an install adds. ``recover`` removes them if that install did not end.
    """

    def __init__(self, paths: PathSettings, *, command_timeout: float = 120) -> None:
        self._directory = paths.system_trust
        self._command = paths.system_trust_command
        self._command_timeout = command_timeout
        self._journal = Journal(paths.state / "authorities-journal")

    def path(self, certificate: x509.Certificate) -> Path:
        """Return the file that holds ``certificate`` while it is in the bundle."""
        return self._directory / anchor_name(certificate)

    def missing(self, authorities: Sequence[Authority]) -> list[Authority]:
        """Return those of ``authorities`` that are not in the bundle yet."""
        return [authority for authority in authorities if not self.path(authority.certificate).exists()]

    def install(self, authorities: Sequence[Authority]) -> None:
        """Add CA certificates to the bundle. Those that are in it stay.

        Raises SysregError; then the bundle is what it was, now or after the next ``recover``.
        """
        with contextlib.suppress(OSError, SysregError):
            self.recover()
        new = {self.path(authority.certificate): authority.pem for authority in self.missing(authorities)}
        try:
            self._journal.write({path.name: "new" for path in new})
            make_public_directory(self._directory)
            for path, pem in new.items():
                files.write(path, pem, mode=0o644)
            self._rebuild()
            self._journal.clear()
        except (OSError, SysregError) as error:
            with contextlib.suppress(OSError, SysregError):
                self.recover()
            raise SysregError(f"CA certificates not installed: {text_of(error)}") from None

    def recover(self) -> None:
        """Remove what an ``install`` added that did not end. Raises OSError, SysregError."""
        try:
            record = self._journal.read()
        except JournalDamaged:
            # Which files are new is not known. Each is a checked CA certificate, so all stay.
            record = {}
        if record is None:
            return
        for name in filter(is_anchor_name, record):
            files.remove(self._directory / name)
        self._rebuild()
        self._journal.clear()

    def installed(self) -> tuple[x509.Certificate, ...]:
        """Return the CA certificates that ``install`` added, by serial number."""
        certificates = []
        for path in managed_anchors(self._directory):
            with contextlib.suppress(OSError, CertificateRefused):
                certificates.append(read_certificates(path.read_bytes())[0])
        return tuple(sorted(certificates, key=lambda certificate: certificate.serial_number))

    def _rebuild(self) -> None:
        """Rebuild the bundle from the files. Raises SysregError."""
        failpoint.reach("rebuild bundle")
        command = split_command(self._command, "system_trust_command in section [paths]")
        run_command(command, "the system's CA certificates", timeout=self._command_timeout)
