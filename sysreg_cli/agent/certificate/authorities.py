"""Removes CA certificates of the host, and restarts the daemons that read them only when they start."""

from __future__ import annotations

from collections.abc import Sequence

from sysreg_cli.errors import Conflict, NotFound, SysregError
from sysreg_cli.host.clients import running_units
from sysreg_cli.host.locks import services_lock
from sysreg_cli.host.services import Services
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.describe import describe, with_unique_names
from sysreg_cli.settings import Settings
from sysreg_cli.v1.certificates import Certificate, ClientRestart, Mode, RestartState


def uninstall(settings: Settings, name: str, *, wait: float) -> Certificate:
    """Remove the CA certificate with this name or UUID. Waits up to ``wait`` seconds for other changes.

    Raises NotFound, Conflict (another change, or several certificates with this name), OSError, and
    SysregError if the bundle could not be changed. Then the certificate is still trusted.
    """
    bundle = SystemBundle(settings.paths)
    with services_lock(settings.paths.state, "CA uninstall", wait=wait):
        installed = bundle.installed()
        shown = with_unique_names(describe(certificate, Mode.SSL_CA) for certificate in installed)
        chosen = choose(shown, name)
        bundle.remove(installed[shown.index(chosen)])
        return chosen


def choose(certificates: Sequence[Certificate], name: str) -> Certificate:
    """Return the certificate with this name or UUID. Raises NotFound, Conflict if CAs share the name."""
    for certificate in certificates:
        if name in (certificate.uuid, certificate.name):
            return certificate
    authorities = [certificate for certificate in certificates if certificate.certtype == Mode.SSL_CA]
    if sharing := [authority.name for authority in authorities if authority.signature == name]:
        raise Conflict(
            f"{len(sharing)} CA certificates have the serial number of {name}",
            next_step=f"give one of {', '.join(sharing)}",
        )
    raise NotFound(f"no certificate {name}", next_step="see the names with certificate-list")


def client_restarts(settings: Settings, *, restart: bool) -> tuple[ClientRestart, ...]:
    """Return the daemons for which a change of the CA certificates counts only after a restart.

    ``restart``: restart them. One that fails does not keep the others from it.
    """
    return tuple(_restart(settings, unit) if restart else _needed(unit) for unit in running_units())


def _needed(unit: str) -> ClientRestart:
    return ClientRestart(unit, RestartState.NEEDED)


def _restart(settings: Settings, unit: str) -> ClientRestart:
    try:
        Services(settings.agent).restart(unit)
    except SysregError as error:
        return ClientRestart(unit, RestartState.FAILED, str(error))
    return ClientRestart(unit, RestartState.DONE)
