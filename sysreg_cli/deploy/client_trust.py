"""The trust of docker and containerd on this host in the registry's certificate."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from sysreg_cli.deploy.machine import PUBLIC
from sysreg_cli.deploy.resource import Change, Context, Resource
from sysreg_cli.errors import CertificateRefused
from sysreg_cli.host import anchors
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.system_bundle import remove_links
from sysreg_cli.settings import Settings

_HOSTS = "hosts.toml"


@dataclass(frozen=True)
class ClientTrust(Resource):
    """docker and containerd trust the certificate in use, and no other certificate of sysreg."""

    settings: Settings
    #: Daemons that mount the two certs.d. They see a directory that was created anew only after a restart.
    mounted_by: tuple[str, ...] = ()

    @property
    def _roots(self) -> tuple[Path, Path]:
        return self.settings.paths.docker_trust, self.settings.paths.containerd_trust

    def _directories(self) -> list[Path]:
        return [root / address for root in self._roots for address in self.settings.registry.addresses]

    def _outdated(self, context: Context) -> list[Path]:
        """Directories for names and ports that the settings had before."""
        made = {Path(directory) for directory in context.record.directories} - {*self._directories()}
        return sorted(path for path in made if path.parent in self._roots and anchors.managed_anchors(path))

    def _anchor(self) -> x509.Certificate | None:
        """The certificate to trust: the last of the chain, as ``certificate-install`` takes it, too."""
        generations = Generations(self.settings.certificate.directory)
        name = generations.current()
        try:
            return generations.certificates(name)[-1] if name else None
        except (OSError, CertificateRefused):
            return None

    def compare(self, context: Context) -> Change | None:
        unrecorded = [path for path in anchors.foreign_files(self.settings) if not context.record.owns(path)]
        if unrecorded:
            names = ", ".join(map(str, unrecorded))
            return Change(f"replace {names}, which sysreg-deploy did not write", self._apply, foreign=True)
        anchor = self._anchor()
        if anchor is None:  # the certificate is made before this change is applied
            line = "have docker and containerd trust the new certificate"
            return Change(line, self._apply, restarts=self.mounted_by)
        lines = [f"repair {path}" for path in anchors.foreign_files(self.settings)]
        lines += [change.description for change in anchors.trust_only(self.settings, anchor)]
        lines += [f"end the trust at {directory.name}" for directory in self._outdated(context)]
        lines += [f"repair {path}" for path in self._unprotected()]
        restarts = () if all(root.is_dir() for root in self._roots) else self.mounted_by
        return Change("; ".join(dict.fromkeys(lines)), self._apply, restarts=restarts) if lines else None

    def _unprotected(self) -> list[Path]:
        """Files of the trust that others may change."""
        names = (anchors.FILE, _HOSTS)
        paths = [directory / name for directory in self._directories() for name in names]
        return [path for path in paths if path.is_file() and PUBLIC.difference(path)]

    def _apply(self, context: Context) -> None:
        anchor, record = self._anchor(), context.record
        assert anchor is not None, "ServerCertificate comes before its trust"
        for directory in self._directories():
            record.make_directory(directory)
        for path in anchors.foreign_files(self.settings):
            record.keep(path)
            path.unlink()
        record.take(*(self._roots[1] / address / _HOSTS for address in self.settings.registry.addresses))
        for change in anchors.trust_only(self.settings, anchor):
            change.apply()
        for directory in self._outdated(context):
            clear(directory)
        for path in self._unprotected():
            PUBLIC.write(path, path.read_bytes())

    def remove(self, context: Context) -> str:
        removed: list[Path] = []
        for directory in [*self._directories(), *self._outdated(context)]:
            removed += clear(directory)
            hosts = directory / _HOSTS
            if (backup := context.record.backups.pop(str(hosts), "")) and Path(backup).exists():
                shutil.copy2(backup, hosts)
        removed += remove_authorities(context, self.settings)
        return f"removed {', '.join(map(str, removed))}" if removed else ""


def remove_authorities(context: Context, settings: Settings) -> list[Path]:
    """Take the CA certificates of sysreg out of the system's bundle, and return their files."""
    authorities = [] if context.keep_data else anchors.managed_anchors(settings.paths.system_trust)
    for path in authorities:
        path.unlink()
        remove_links(path)
    if authorities:
        context.programs.change(*settings.paths.system_trust_command.split())
    return authorities


def clear(directory: Path) -> list[Path]:
    """Remove the files of sysreg from a directory of certs.d, and return them."""
    paths = anchors.managed_anchors(directory)
    hosts = directory / _HOSTS
    if hosts.exists() and not anchors.is_foreign(hosts):
        paths.append(hosts)
    for path in paths:
        path.unlink()
    return paths
