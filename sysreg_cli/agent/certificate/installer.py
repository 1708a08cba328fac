"""Checks certificate material and installs it: for operators, for their dry runs, and for renewal.

``check`` is the only check. A dry run, an install and a renewal all call it, so they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cryptography import x509

from sysreg_cli.agent.certificate.history import History
from sysreg_cli.agent.certificate.requests import PendingRequests
from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.errors import CertificateRefused, Conflict, NotFound
from sysreg_cli.host import anchors
from sysreg_cli.host.clients import running_units
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.locks import services_lock
from sysreg_cli.host.probe import endpoints
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.check import Authorities, ServerChain, check_authorities, check_server
from sysreg_cli.pki.describe import alternative_names, describe, issuer_of
from sysreg_cli.settings import Settings
from sysreg_cli.v1.certificates import Certificate, Mode, PlannedChange


@dataclass(frozen=True, slots=True)
class Material:
    """What somebody wants to install, as PEM: for ``docker_registry`` a key and its chain.

    The key may be that of a pending request.
    """

    data: bytes = field(repr=False)
    mode: Mode = Mode.DOCKER_REGISTRY
    passphrase: bytes | None = field(default=None, repr=False)


class CertificateInstaller:
    """Checks material, says what its install would change, and installs it. Methods block."""

    def __init__(self, settings: Settings, change: CertificateChange) -> None:
        self._settings = settings
        self._change = change
        self._generations = Generations(settings.certificate.directory)
        self._bundle = SystemBundle(settings.paths)
        self._history = History(settings)
        self._requests = PendingRequests(settings)

    def check(self, material: Material, *, now: datetime | None = None) -> ServerChain | Authorities:
        """Return what an install of ``material`` would install. Changes nothing.

        ``now`` is aware; None is the clock's time. Raises CertificateRefused with every reason found. CA
        certificates are refused if none is good, or if some are bad and all others are installed already.
        """
        settings, now = self._settings, now or datetime.now(UTC)
        days = settings.certificate.min_days_warning
        if material.mode is Mode.DOCKER_REGISTRY:
            return check_server(
                material.data,
                passphrase=material.passphrase,
                host_names=settings.registry.host_names,
                now=now,
                min_days_warning=days,
                pending_keys=self._requests.keys(),
            )
        authorities = check_authorities(material.data, now=now, min_days_warning=days)
        if authorities.refused and not self._bundle.missing(authorities.accepted):
            raise CertificateRefused("no certificate is new", authorities.refused)
        return authorities

    def plan(
        self, checked: ServerChain | Authorities, *, now: datetime | None = None
    ) -> tuple[PlannedChange, ...]:
        """Return what an install of ``checked`` would change. Raises OSError, SettingsError."""
        now = now or datetime.now(UTC)
        if isinstance(checked, ServerChain):
            return (self._plan_server(checked, now),)
        missing = self._bundle.missing(checked.accepted)
        restarts = tuple(f"needed before it counts: {unit}" for unit in running_units())
        return tuple(
            replace(
                _planned([authority.certificate], Mode.SSL_CA, now),
                trust=(f"add {self._bundle.path(authority.certificate)}",) if authority in missing else (),
                restarts=restarts if authority in missing else (),
                warnings=authority.warnings,
            )
            for authority in checked.accepted
        )

    def install(
        self,
        checked: ServerChain | Authorities,
        *,
        by: str,
        wait: float,
        instead_of: str | None = None,
        require_all_hosts: bool = False,
    ) -> tuple[Certificate, ...]:
        """Install what ``check`` returned. Returns the certificates with the warnings of the install.

        ``by`` names for the history who installs it: a user, or the source of a renewal. Waits up to
        ``wait`` seconds for another change. Raises OSError and SysregError; see CertificateChange.install.
        """
        if isinstance(checked, ServerChain):
            left = self._change.install(
                checked, by=by, wait=wait, instead_of=instead_of, require_all_hosts=require_all_hosts
            )
            return (self._live(checked, left),)
        with services_lock(self._settings.paths.state, "CA install", wait=wait):
            new = self._bundle.missing(checked.accepted)
            self._bundle.install(checked.accepted)
            self._history.add_authorities((authority.certificate for authority in new), by=by)
        return tuple(
            describe(authority.certificate, Mode.SSL_CA, authority.warnings) for authority in checked.accepted
        )

    def rollback(self, serial: int | None, *, by: str, wait: float) -> Certificate:
        """Install a kept certificate of ``docker_registry`` again; None: the one before the one in use.

        It is checked as any other. Raises NotFound if there is none with ``serial`` (decimal), Conflict if it
        is in use, CertificateRefused, and what CertificateChange.install raises.
        """
        chosen: list[ServerChain] = []

        def choose() -> ServerChain:
            name = self._kept_generation(serial)
            pem = self._generations.key(name) + self._generations.chain(name)
            checked = self.check(Material(pem))
            assert isinstance(checked, ServerChain)
            chosen.append(checked)
            return checked

        warnings = self._change.install_chosen(choose, by=by, wait=wait)
        return self._live(chosen[0], warnings)

    def _kept_generation(self, serial: int | None) -> str:
        """Return the newest kept generation with ``serial``, or the newest of another certificate."""
        see = "see those that are kept with certificate-list --history"
        current = self._generations.current()
        in_use = self._in_use()
        if current is None:
            raise NotFound("no certificate was installed yet")
        if in_use is not None and serial == in_use.serial_number:
            raise Conflict(f"the certificate with the serial number {serial} is in use", next_step=see)
        for name in reversed(self._generations.before(current)):
            try:
                kept = self._generations.certificates(name)[0]
            except (OSError, CertificateRefused):
                if serial is None:
                    return name  # the check says what is wrong with it
                continue
            if kept.serial_number == serial or (serial is None and kept != in_use):
                return name
        which = "earlier certificate" if serial is None else f"certificate with the serial number {serial}"
        raise NotFound(f"no {which} of docker_registry is kept", next_step=see)

    def _live(self, chain: ServerChain, warnings: Sequence[str]) -> Certificate:
        """Describe ``chain``, which has become live with ``warnings``."""
        everything = [*chain.warnings, *warnings, *self._foreign_trust()]
        return describe(chain.certificates[0], Mode.DOCKER_REGISTRY, everything)

    def _plan_server(self, chain: ServerChain, now: datetime) -> PlannedChange:
        settings = self._settings
        in_use = self._in_use()
        names = set(alternative_names(chain.certificates[0]))
        names_before = set(alternative_names(in_use)) if in_use else set()
        listeners = endpoints(settings, with_agent=True)
        return replace(
            _planned(chain.certificates, Mode.DOCKER_REGISTRY, now),
            replaces=str(in_use.serial_number) if in_use else "",
            names_gained=tuple(sorted(names - names_before)),
            names_lost=tuple(sorted(names_before - names)),
            listeners=tuple(f"{endpoint.name} at {endpoint.address}" for endpoint in listeners),
            trust=tuple(change.description for change in anchors.trust_only(settings, chain.anchor)),
            restarts=(f"reload {settings.token_server.unit}", f"restart {settings.registry.unit}"),
            warnings=(*chain.warnings, *self._foreign_trust()),
        )

    def _in_use(self) -> x509.Certificate | None:
        """Return the certificate in use; None if there is none, or it cannot be read."""
        current = self._generations.current()
        try:
            return self._generations.certificates(current)[0] if current else None
        except (OSError, CertificateRefused):
            return None

    def _foreign_trust(self) -> list[str]:
        """Return a warning for each file of the administrator that decides whom containerd trusts."""
        return [
            f"{path} was not written by sysreg-agent and stays as it is: its `ca` has to name"
            f" {path.parent / anchors.FILE}"
            for path in anchors.foreign_files(self._settings)
        ]


def _planned(chain: Sequence[x509.Certificate], mode: Mode, now: datetime) -> PlannedChange:
    """Return what is known from the chain alone. Its first certificate is the one to be installed."""
    shown = describe(chain[0], mode)
    end = min(certificate.not_valid_after_utc for certificate in chain)
    return PlannedChange(
        name=shown.name,
        serial=str(chain[0].serial_number),
        subject=shown.subject,
        issuer=issuer_of(chain[0]),
        expiry_date=shown.expiry_date,
        days_left=(end - now).days,
    )
