"""The registry's certificate: self-signed, until the operator installs another."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

from sysreg_cli.deploy.machine import PUBLIC_DIRECTORY, Attributes
from sysreg_cli.deploy.resource import Change, Context, Resource, attributes_change
from sysreg_cli.errors import CertificateRefused, SysregError
from sysreg_cli.host.generations import KEY_GROUP, Generations
from sysreg_cli.pki.check import check_server, read_certificates
from sysreg_cli.pki.selfsigned import renewal_time, self_signed
from sysreg_cli.settings import Settings
from sysreg_cli.settings.schema import CHAIN_FILE, KEY_FILE

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Generation:
    """One generation of key and chain, as it is on the disk."""

    path: Path
    settings: Settings

    @property
    def key(self) -> Path:
        return self.path / KEY_FILE

    @property
    def chain(self) -> Path:
        return self.path / CHAIN_FILE

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """Why it should not be in use, in words. Empty if it is good."""
        now, host_names = datetime.now(UTC), self.settings.registry.host_names
        try:
            pem = self.key.read_bytes() + self.chain.read_bytes()
            chain = check_server(pem, passphrase=None, host_names=host_names, now=now).certificates
        except CertificateRefused as refused:
            return refused.problems
        except OSError as error:
            return (f"lacks {error.filename}",)
        due = renewal_time(chain, host_names, min_days=self.settings.certificate.min_days_warning)
        if due is not None and now >= due:
            return (f"it is self-signed and ends at {chain[0].not_valid_after_utc:%Y-%m-%d %H:%M} UTC",)
        return ()

    @property
    def is_replaceable(self) -> bool:
        """Whether sysreg-deploy may replace it: it is self-signed or incomplete."""
        return not self.key.exists() or not self.chain.exists() or self._is_self_signed

    @property
    def _is_self_signed(self) -> bool:
        try:
            certificates = read_certificates(self.chain.read_bytes())
        except CertificateRefused:
            return True
        return len(certificates) == 1 and certificates[0].issuer == certificates[0].subject


@dataclass(frozen=True)
class ServerCertificate(Resource):
    """A certificate for the host names of the controller is in use.

    A self-signed one is replaced if it lacks a name, and renewed before it ends; ReplacedByAgent does that in
    a cluster. One that the operator installed stays, whatever is wrong with it; ``refusal`` says so.
    """

    settings: Settings
    key_group: str = KEY_GROUP

    @property
    def _generations(self) -> Generations:
        return Generations(self.settings.certificate.directory)

    def _generation(self, name: str) -> Generation:
        return Generation(self._generations.path(name), self.settings)

    def compare(self, context: Context) -> Change | None:
        name = self._generations.current()
        if name is None or name not in self._generations.names():
            return self._replacement(instead="")
        used = self._generation(name)
        if used.problems and used.is_replaceable and not _is_for_agent(used):
            return self._replacement(instead=f" instead of the one in use: {'; '.join(used.problems)}")
        return attributes_change(dict(self._attributes()))

    def _replacement(self, instead: str) -> Change:
        """Use the newest good generation, else a new self-signed certificate."""
        for name in reversed(self._generations.names()):
            if not self._generation(name).problems:
                line = f"use the certificate of generation {name}{instead or ' again'}"
                return Change(line, partial(self._use, name))
        names = ", ".join(self.settings.registry.host_names)
        return Change(f"create a self-signed certificate for {names}{instead}", self._create)

    def _use(self, name: str, _context: Context) -> None:
        self._generations.use(name)
        self._generations.prune()

    def _create(self, context: Context) -> None:
        if self._generations.current() is None:
            self._generations.prune()  # removes what a killed run began
        name = self._generations.next_name()
        pair = self_signed(self.settings.registry.host_names, now=datetime.now(UTC))
        self._generations.create(name, *pair, by="sysreg-deploy")
        self._use(name, context)

    def remove(self, context: Context) -> str:
        directory = self.settings.certificate.directory
        if not directory.is_dir():
            return ""
        shutil.rmtree(directory)
        return f"removed {directory}"

    def refusal(self) -> SysregError | None:
        problems = self._generation(self._generations.current() or "").problems
        if not problems:
            return None
        return SysregError(
            f"the certificate in use is refused: {'; '.join(problems)}",
            next_step="install another: system certificate-install -m docker_registry FILE",
        )

    def _attributes(self) -> Iterator[tuple[Path, Attributes]]:
        """The attributes of all generations: a key that is out of use is still a secret."""
        yield self.settings.certificate.directory / "generations", PUBLIC_DIRECTORY
        for generation in map(self._generation, self._generations.names()):
            yield generation.path, PUBLIC_DIRECTORY
            for path, mode in ((generation.key, 0o440), (generation.chain, 0o444)):
                if path.is_file():
                    yield path, Attributes(mode, group=self.key_group)


def _is_for_agent(used: Generation) -> bool:
    """Whether the agent has to replace it: hosts of a cluster trust it, and it can be presented meanwhile."""
    return bool(used.settings.cluster.endpoints) and used.key.exists() and used.chain.exists()


@dataclass(frozen=True)
class ReplacedByAgent(Resource):
    """In a cluster, sysreg-agent replaces a self-signed certificate that is not good any more.

    Each host has to trust the new one before the registry presents it, and that is the agent's to see to. It
    looks at the certificate soon after its start.
    """

    settings: Settings
    unit: str
    #: for which the agent may take, in seconds
    seconds: float = 120.0

    def _used(self) -> Generation:
        generations = Generations(self.settings.certificate.directory)
        return Generation(generations.path(generations.current() or ""), self.settings)

    def compare(self, context: Context) -> Change | None:
        used = self._used()
        if not (_is_for_agent(used) and used.is_replaceable and used.problems):
            return None
        line = f"have {self.unit} replace the certificate in use on all hosts: {'; '.join(used.problems)}"
        return Change(line, self._wait)

    def _wait(self, context: Context) -> None:
        context.programs.change("systemctl", "restart", self.unit)
        deadline = time.monotonic() + self.seconds
        while problems := self._used().problems:
            if time.monotonic() >= deadline:
                raise SysregError(
                    f"{self.unit} has not replaced the certificate in use: {'; '.join(problems)}",
                    next_step=f"see journalctl -u {self.unit}, which names the host that stopped it; or"
                    " install another: system certificate-install -m docker_registry FILE",
                )
            time.sleep(_POLL_SECONDS)
