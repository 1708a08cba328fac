"""The certificate in use and the trust in it: a self-signed one until the operator installs another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sysreg_cli.deploy.items import Change, Context, attributes, command, together, write
from sysreg_cli.errors import CertificateRefused, SysregError
from sysreg_cli.host import trust
from sysreg_cli.host.generations import CHAIN_FILE, KEY_FILE, Generations
from sysreg_cli.pki.check import check_server, read_certificates
from sysreg_cli.pki.names import as_address
from sysreg_cli.pki.selfsigned import self_signed
from sysreg_cli.settings import Settings

TLS_GROUP = "sysreg-tls"
_MODES = {KEY_FILE: 0o440, CHAIN_FILE: 0o444}
_SYSTEM_LINKS = Path("/etc/ssl/certs")


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
    """A certificate is in use that names the controller; a self-signed one is renewed where it doesn't, and
    before it ends. One that the operator installed stays, whatever is wrong with it: see ``refused``.
    """

    settings: Settings
    restarts: tuple[str, ...] = ()

    @property
    def _directory(self) -> Path:
        return self.settings.certificate.directory

    def compare(self, context: Context) -> Change | None:
        generations = Generations(self._directory)
        name = generations.current()
        if name is None or name not in generations.names():
            if good := self._good(generations):
                return Change(f"put the certificate of generation {good} in use again")
            names = ", ".join(self.settings.registry.host_names)
            return Change(f"create a self-signed certificate for {names}")
        generation = self._directory / "generations" / name
        key, chain = generation / KEY_FILE, generation / CHAIN_FILE
        problems = self._problems(key, chain)
        if problems and self._is_ours(key, chain):
            instead = f"instead of the one in use: {'; '.join(problems)}"
            if good := self._good(generations):
                return Change(f"put the certificate of generation {good} in use {instead}")
            return Change(f"create a new self-signed certificate {instead}")
        return together(
            attributes(path, path.lstat(), mode, "root", group)
            for path, mode, group in self._kept(generations)
        )

    def refused(self) -> SysregError | None:
        """What is wrong with a certificate that the operator installed: only the operator has a better one.

        To be told when all else is done: the agent that installs the better one has to run for that.
        """
        generations = Generations(self._directory)
        generation = self._directory / "generations" / (generations.current() or "")
        problems = self._problems(generation / KEY_FILE, generation / CHAIN_FILE)
        if not problems:
            return None
        return SysregError(
            f"the certificate in use is refused: {'; '.join(problems)}",
            next_step="install another: system certificate-install -m docker_registry FILE",
        )

    def _is_ours(self, key: Path, chain: Path) -> bool:
        return not key.exists() or not chain.exists() or _is_self_signed(chain)

    def _kept(self, generations: Generations) -> list[tuple[Path, int, str]]:
        """What all generations consist of, modes and groups: a key that is out of use is still a secret."""
        root = self._directory / "generations"
        directories = [root / name for name in generations.names()]
        files = [(directory / name, mode) for directory in directories for name, mode in _MODES.items()]
        return [
            *((path, 0o755, "root") for path in (root, *directories)),
            *((path, mode, TLS_GROUP) for path, mode in files if path.is_file()),
        ]

    def _good(self, generations: Generations) -> str | None:
        """The newest generation that would pass."""
        for name in reversed(generations.names()):
            generation = self._directory / "generations" / name
            if not self._problems(generation / KEY_FILE, generation / CHAIN_FILE):
                return name
        return None

    def _problems(self, key: Path, chain: Path) -> tuple[str, ...]:
        now = datetime.now(UTC)
        try:
            found = check_server(
                key.read_bytes() + chain.read_bytes(),
                passphrase=None,
                host_names=self.settings.registry.host_names,
                now=now,
            )
        except CertificateRefused as refused:
            return refused.problems
        except OSError as error:
            return (f"lacks {error.filename}",)
        leaf = found.certificates[0]
        # one with further names is the operator's, and the new one would lack them
        own_names = {str(as_address(name) or name) for name in self.settings.registry.host_names}
        ours = _is_self_signed(chain) and _names(leaf) <= own_names
        if ours and now >= self._renewal(leaf):
            return (f"it is self-signed and ends at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",)
        return ()

    def _renewal(self, leaf: x509.Certificate) -> datetime:
        """From when on a self-signed certificate is renewed: in its last third at the earliest, so that a new
        one never is due at once.
        """
        lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        days = timedelta(days=self.settings.certificate.min_days_warning)
        return leaf.not_valid_after_utc - min(days, lifetime / 3)

    def apply(self, context: Context) -> None:
        generations = Generations(self._directory)
        name = generations.current()
        if name is not None:
            generation = self._directory / "generations" / name
            key, chain = generation / KEY_FILE, generation / CHAIN_FILE
            if not self._problems(key, chain) or not self._is_ours(key, chain):
                for path, mode, group in self._kept(generations):
                    shutil.chown(path, "root", group)
                    path.chmod(mode)
                return
        if good := self._good(generations):
            generations.use(good)
            generations.tidy(3)
            return
        if name is None:
            generations.tidy(3)  # what a run that was killed had begun
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
    #: the daemon in whose sandbox the two directories of certs.d are mount points
    mounted_by: tuple[str, ...] = ()
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
            for address in self.settings.registry.addresses:
                yield root / address

    def _stale(self, context: Context) -> list[Path]:
        """Directories of names and ports that the settings had once."""
        roots = (self.settings.paths.docker_trust, self.settings.paths.containerd_trust)
        made = {Path(one) for one in context.record.directories} - {*self._directories()}
        return sorted(path for path in made if path.parent in roots and trust.our_anchors(path))

    def compare(self, context: Context) -> Change | None:
        others = trust.foreign_files(self.settings)
        if foreign := [path for path in others if not context.record.owns(path)]:
            return Change(
                f"replace {', '.join(map(str, foreign))}, which sysreg-deploy did not write", foreign=True
            )
        anchor = self._anchor()
        if anchor is None:
            return Change("have docker and containerd trust the new certificate", restarts=self.mounted_by)
        if others:
            return Change(f"mend {', '.join(map(str, others))}")
        steps = trust.drop_other_anchors(self.settings, anchor)
        if steps:
            roots = (self.settings.paths.docker_trust, self.settings.paths.containerd_trust)
            anew = self.mounted_by if not all(root.is_dir() for root in roots) else ()
            return Change("; ".join(dict.fromkeys(step.name for step in steps)), restarts=anew)
        if stale := self._stale(context):
            return Change(f"end the trust at {', '.join(path.name for path in stale)}")
        wrong = [str(path) for path in self._files(anchor) if not _is_right(path, anchor)]
        return Change(f"mend {', '.join(wrong)}") if wrong else None

    def _files(self, anchor: x509.Certificate) -> Iterator[Path]:
        """The anchor's files and containerd's lists of them."""
        for directory in self._directories():
            yield directory / trust.anchor_name(anchor)
            if directory.parent == self.settings.paths.containerd_trust:
                yield directory / "hosts.toml"

    def apply(self, context: Context) -> None:
        anchor = self._anchor()
        assert anchor is not None, "a certificate in use comes before the trust in it"
        for directory in self._directories():
            context.record.make_directory(directory)
            pem = directory / trust.anchor_name(anchor)
            if not _is_right(pem, anchor):
                write(pem, anchor.public_bytes(Encoding.PEM), mode=0o644)
        for directory in self._stale(context):
            _clear(directory)
        for foreign in trust.foreign_files(self.settings):
            context.record.keep(foreign, edited=context.record.owns(foreign))
            foreign.unlink()
        lists = [path for path in self._files(anchor) if path.name == "hosts.toml"]
        for path in lists:
            context.record.take(path)
        for step in trust.drop_other_anchors(self.settings, anchor):
            step.run()
        for path in lists:
            shutil.chown(path, "root", "root")
            path.chmod(0o644)

    def remove(self, context: Context) -> str:
        removed = []
        for directory in [*self._directories(), *self._stale(context)]:
            removed += _clear(directory)
            hosts = directory / "hosts.toml"
            if (backup := context.record.backups.pop(str(hosts), "")) and Path(backup).exists():
                shutil.copy2(backup, hosts)
        authorities = trust.our_anchors(self.settings.paths.system_trust)
        for path in authorities:
            path.unlink()
            # update-ca-certificates adds links for new files, and leaves those of files that are gone
            link = f"{path.stem}.pem"
            for one in _SYSTEM_LINKS.iterdir():
                if one.is_symlink() and (one.name == link or str(one.readlink()) == link):
                    one.unlink()
            removed.append(str(path))
        if authorities:
            command(*self.settings.paths.system_trust_command.split())
        return f"removed {', '.join(removed)}" if removed else ""


def _clear(directory: Path) -> list[str]:
    """Remove our files from a directory of certs.d; returns their names."""
    ours = trust.our_anchors(directory)
    hosts = directory / "hosts.toml"
    if hosts.exists() and trust.may_write(hosts):
        ours.append(hosts)
    for path in ours:
        path.unlink()
    return [str(path) for path in ours]


def _is_right(path: Path, anchor: x509.Certificate) -> bool:
    """Whether a file of the trust in ``anchor`` has its mode and owner, and an anchor's its content."""
    if not path.is_file() or attributes(path, path.lstat(), 0o644, "root", "root"):
        return False
    return path.name == "hosts.toml" or path.read_bytes() == anchor.public_bytes(Encoding.PEM)


def _names(leaf: x509.Certificate) -> set[str]:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return {*names.get_values_for_type(x509.DNSName), *map(str, addresses)}


def _is_self_signed(chain: Path) -> bool:
    try:
        certificates = read_certificates(chain.read_bytes())
    except CertificateRefused:
        return True
    return len(certificates) == 1 and certificates[0].issuer == certificates[0].subject
