"""The certificate in use and the trust in it: a self-signed one until the operator installs another."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from sysreg_cli.agent.certificate import trust
from sysreg_cli.agent.certificate.generations import CHAIN_FILE, KEY_FILE, Generations
from sysreg_cli.deploy.items import Change, Context, attributes, command, write
from sysreg_cli.errors import CertificateRefused, SysregError
from sysreg_cli.pki.check import check_server, read_certificates
from sysreg_cli.pki.selfsigned import self_signed
from sysreg_cli.settings import Settings

TLS_GROUP = "sysreg-tls"


@dataclass(frozen=True)
class TlsDirectory:
    """The directory of the generations; its group is the one that may read the keys in it."""

    path: Path
    restarts: tuple[str, ...] = ()

    def compare(self, context: Context) -> Change | None:
        if not self.path.is_dir():
            return Change(f"create {self.path}")
        return attributes(self.path, self.path.lstat(), 0o755, "root", TLS_GROUP)

    def apply(self, context: Context) -> None:
        context.record.make_directory(self.path)
        shutil.chown(self.path, "root", TLS_GROUP)
        self.path.chmod(0o755)

    def remove(self, context: Context) -> str:
        if not self.path.is_dir():
            return ""
        shutil.rmtree(self.path)
        return f"removed {self.path}"


@dataclass(frozen=True)
class ServerCertificate:
    """A certificate is in use that names the controller; a self-signed one is renewed where it doesn't."""

    settings: Settings
    restarts: tuple[str, ...] = ()

    @property
    def _directory(self) -> Path:
        return self.settings.certificate.directory

    def compare(self, context: Context) -> Change | None:
        generations = Generations(self._directory)
        name = generations.current()
        if name is None:
            names = ", ".join(self.settings.registry.host_names)
            return Change(f"create a self-signed certificate for {names}")
        generation = self._directory / "generations" / name
        key, chain = generation / KEY_FILE, generation / CHAIN_FILE
        problems = self._problems(key, chain)
        if problems and (not key.exists() or not chain.exists() or _is_self_signed(chain)):
            return Change(
                f"create a new self-signed certificate, since the present one {'; '.join(problems)}"
            )
        if problems:
            # installed by the operator: only the operator has a better one
            raise SysregError(
                f"the certificate in use is refused: {'; '.join(problems)}",
                next_step="install another: system certificate-install -m docker_registry FILE",
            )
        return attributes(key, key.lstat(), 0o440, "root", TLS_GROUP) or attributes(
            chain, chain.lstat(), 0o444, "root", TLS_GROUP
        )

    def _problems(self, key: Path, chain: Path) -> tuple[str, ...]:
        try:
            check_server(
                key.read_bytes() + chain.read_bytes(),
                passphrase=None,
                host_names=self.settings.registry.host_names,
                now=datetime.now(UTC),
            )
        except CertificateRefused as refused:
            return refused.problems
        except OSError as error:
            return (f"lacks {error.filename}",)
        return ()

    def apply(self, context: Context) -> None:
        generations = Generations(self._directory)
        name = generations.current()
        if name is not None:
            generation = self._directory / "generations" / name
            key, chain = generation / KEY_FILE, generation / CHAIN_FILE
            if not self._problems(key, chain):
                write(key, key.read_bytes(), mode=0o440, group=TLS_GROUP)
                write(chain, chain.read_bytes(), mode=0o444, group=TLS_GROUP)
                return
        name = generations.next_name()
        pair = self_signed(self.settings.registry.host_names, now=datetime.now(UTC))
        generations.create(name, *pair)
        generations.use(name)
        generations.tidy(3)

    def remove(self, context: Context) -> str:
        return ""  # with its directory


@dataclass(frozen=True)
class Trust:
    """docker and containerd on this host trust the certificate in use, and no other one of ours."""

    settings: Settings
    adopt: bool
    restarts: tuple[str, ...] = ()

    def _anchor(self) -> x509.Certificate | None:
        generations = Generations(self.settings.certificate.directory)
        name = generations.current()
        try:
            # what certificate-install lays down, too: the last certificate of the chain as given
            return read_certificates(generations.chain(name))[-1] if name else None
        except (OSError, CertificateRefused):
            return None

    def _directories(self) -> Iterator[Path]:
        paths = self.settings.paths
        for root in (paths.docker_trust, paths.containerd_trust):
            for host in self.settings.registry.host_names:
                yield root / f"{host}:{self.settings.registry.port}"

    def compare(self, context: Context) -> Change | None:
        if foreign := trust.foreign_files(self.settings):
            return Change(
                f"replace {', '.join(map(str, foreign))}, which sysreg-deploy did not write", foreign=True
            )
        anchor = self._anchor()
        if anchor is None:
            return Change("have docker and containerd trust the new certificate")
        steps = trust.drop_other_anchors(self.settings, anchor)
        if steps:
            return Change("; ".join(dict.fromkeys(step.name for step in steps)))
        for directory in self._directories():
            pem = directory / trust.anchor_name(anchor)
            if read_certificates(pem.read_bytes())[0] != anchor:
                return Change(f"mend {pem}")
        return None

    def apply(self, context: Context) -> None:
        anchor = self._anchor()
        assert anchor is not None, "a certificate in use comes before the trust in it"
        for directory in self._directories():
            context.record.make_directory(directory)
            with contextlib.suppress(OSError, CertificateRefused, IndexError):
                pem = directory / trust.anchor_name(anchor)
                if read_certificates(pem.read_bytes())[0] == anchor:
                    continue
            (directory / trust.anchor_name(anchor)).unlink(missing_ok=True)
        for foreign in trust.foreign_files(self.settings):
            context.record.keep(foreign)
            foreign.unlink()
        for step in trust.drop_other_anchors(self.settings, anchor):
            step.run()

    def remove(self, context: Context) -> str:
        removed = []
        for directory in self._directories():
            foreign = trust.foreign_files(self.settings)
            for path in [*directory.glob("sysreg-*.crt"), directory / "hosts.toml"]:
                if path.exists() and path not in foreign:
                    path.unlink()
                    removed.append(str(path))
            hosts = directory / "hosts.toml"
            if (backup := context.record.backups.pop(str(hosts), "")) and Path(backup).exists():
                shutil.copy2(backup, hosts)
        authorities = sorted(self.settings.paths.system_trust.glob("sysreg-*.crt"))
        for path in authorities:
            path.unlink()
            removed.append(str(path))
        if authorities:
            command(*self.settings.paths.system_trust_command.split())
        return f"removed {', '.join(removed)}" if removed else ""


def _is_self_signed(chain: Path) -> bool:
    try:
        certificates = read_certificates(chain.read_bytes())
    except CertificateRefused:
        return True
    return len(certificates) == 1 and certificates[0].issuer == certificates[0].subject
