"""The CA certificates that the whole host trusts: certificate-install with the mode ``ssl_ca``.

The certificates are files in ``system_trust``, named as in ``anchors``. ``system_trust_command`` rebuilds the
system's bundle from that directory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sysreg_cli.errors import CertificateRefused, SysregError, text_of
from sysreg_cli.host import failpoint, files
from sysreg_cli.host.anchors import anchor_name, is_anchor_name, make_public_directory, managed_anchors
from sysreg_cli.host.journal import Journal, JournalDamaged
from sysreg_cli.host.services import run_command, split_command
from sysreg_cli.pki.check import Authority, read_certificates
from sysreg_cli.settings import PathSettings

#: What the journal says of a file: an install adds it, or an uninstall takes it away.
_NEW, _REMOVED = "new", "removed"
#: The name of a file while it is taken away: programs that build bundles read only *.crt.
_REMOVED_SUFFIX = ".removed"
#: where update-ca-certificates leaves a link to a file that is gone
_SYSTEM_LINKS = Path("/etc/ssl/certs")


class SystemBundle:
    """Adds and removes CA certificates, all or none. ``command_timeout`` is in seconds.

    The journal names the files that a change adds or removes. ``recover`` undoes a change that did not end.
    To undo needs no space on the disk: a removed file keeps its content under another name until the end.
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
        self._recover_if_possible()
        new = {self.path(authority.certificate): authority.pem for authority in self.missing(authorities)}
        try:
            self._change(new, ())
        except (OSError, SysregError) as error:
            raise SysregError(f"CA certificates not installed: {text_of(error)}") from None

    def remove(self, certificate: x509.Certificate) -> None:
        """Take a CA certificate out of the bundle.

        Raises SysregError; then the bundle is what it was, now or after the next ``recover``.
        """
        self._recover_if_possible()
        try:
            self._change({}, (self.path(certificate),))
        except (OSError, SysregError) as error:
            raise SysregError(f"CA certificate not removed: {text_of(error)}") from None

    def holds_only(self, certificates: Sequence[x509.Certificate]) -> bool:
        """Whether these are the CA certificates that were added, and no change was interrupted."""
        new, gone = self._differences(certificates)
        return not new and not gone and not self._journal.exists()

    def replace_all(self, certificates: Sequence[x509.Certificate]) -> None:
        """Have ``certificates`` be the only ones that were added. Those of the administrator stay.

        Raises OSError and SysregError; then the bundle is what it was, now or after the next ``recover``.
        """
        self._recover_if_possible()
        self._change(*self._differences(certificates))

    def _differences(self, certificates: Sequence[x509.Certificate]) -> tuple[dict[Path, bytes], list[Path]]:
        """Return the files to write, with their contents, and those to take away."""
        wanted = {self.path(one): one.public_bytes(serialization.Encoding.PEM) for one in certificates}
        new = {path: pem for path, pem in wanted.items() if _read(path) != pem}
        return new, [path for path in self._anchors() if path not in wanted]

    def _change(self, new: Mapping[Path, bytes], gone: Sequence[Path]) -> None:
        """Add and take away files, and rebuild the bundle. Raises what fails, after it was undone."""
        names = dict.fromkeys((path.name for path in new), _NEW)
        try:
            self._journal.write({**names, **dict.fromkeys((path.name for path in gone), _REMOVED)})
            make_public_directory(self._directory)
            for path, pem in new.items():
                files.write(path, pem, mode=0o644)
            for path in gone:
                files.rename(path, _set_aside(path))
            self._rebuild()
            self._journal.clear()
        except (OSError, SysregError):
            self._recover_if_possible()
            raise
        for path in gone:
            with contextlib.suppress(OSError):  # the next recovery removes it
                files.remove(_set_aside(path))
            remove_links(path)

    def _recover_if_possible(self) -> None:
        with contextlib.suppress(OSError, SysregError):
            self.recover()

    def recover(self) -> None:
        """Undo a change that did not end. Raises OSError, SysregError."""
        try:
            record = self._journal.read()
        except JournalDamaged:
            # Which files are new is not known. Each is a checked CA certificate, so all stay.
            record = {path.name.removesuffix(_REMOVED_SUFFIX): _REMOVED for path in self._all_set_aside()}
        if record is None:
            for path in self._all_set_aside():
                files.remove(path)
            return
        for name, change in record.items():
            path = self._directory / name
            if not is_anchor_name(name):
                continue
            if change == _NEW:
                files.remove(path)
            elif _set_aside(path).exists():
                files.rename(_set_aside(path), path)
        self._rebuild()
        self._journal.clear()

    def _anchors(self) -> list[Path]:
        """Return the files that were added. Another one may have the name of what docker trusts."""
        return [path for path in managed_anchors(self._directory) if is_anchor_name(path.name)]

    def _all_set_aside(self) -> list[Path]:
        paths = self._directory.glob(f"sysreg-*{_REMOVED_SUFFIX}")
        return [path for path in paths if is_anchor_name(path.name.removesuffix(_REMOVED_SUFFIX))]

    def installed(self) -> tuple[x509.Certificate, ...]:
        """Return the CA certificates that ``install`` added, by serial number."""
        certificates = []
        for path in self._anchors():
            with contextlib.suppress(OSError, CertificateRefused):
                certificates.append(read_certificates(path.read_bytes())[0])
        return tuple(sorted(certificates, key=lambda certificate: certificate.serial_number))

    def _rebuild(self) -> None:
        """Rebuild the bundle from the files. Raises SysregError."""
        failpoint.reach("rebuild bundle")
        command = split_command(self._command, "system_trust_command in section [paths]")
        run_command(command, "the system's CA certificates", timeout=self._command_timeout)


def remove_links(authority: Path) -> None:
    """Remove the links to a CA certificate that is gone. Programs skip them, so an error does not matter."""
    link = f"{authority.stem}.pem"
    with contextlib.suppress(OSError):
        for path in _SYSTEM_LINKS.iterdir():
            if path.is_symlink() and (path.name == link or str(path.readlink()) == link):
                path.unlink()


def _set_aside(path: Path) -> Path:
    return path.with_name(path.name + _REMOVED_SUFFIX)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
