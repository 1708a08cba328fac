"""Checks of the certificate on the disk, and of who on this host trusts it."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from sysreg_cli.errors import CertificateRefused, SysregError
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.remedies import DEPLOY, INSTALL
from sysreg_cli.health.results import Remedy, Result, Skipped, failed, ok, warning
from sysreg_cli.host.anchors import is_foreign, managed_anchors
from sysreg_cli.pki.check import check_server, read_certificates
from sysreg_cli.pki.facts import PARSE_ERRORS
from sysreg_cli.v1.certificates import Mode

_HOSTS = "hosts.toml"
_SEE_SOURCE = Remedy("mend that; the state of the source", "system certificate-show docker_registry")


def certificate(readings: Readings) -> Result:
    """The certificate on the disk is fit for its purpose, and does not expire soon."""
    readings.require_root("the private key")
    settings = readings.settings
    try:
        pem = settings.certificate.key.read_bytes() + settings.certificate.chain.read_bytes()
    except FileNotFoundError as error:
        return failed(f"{error.filename} is missing", DEPLOY)
    now = datetime.now(UTC)
    try:
        found = check_server(pem, passphrase=None, host_names=settings.registry.host_names, now=now)
    except CertificateRefused as refused:
        remedy = DEPLOY if _is_self_signed(readings) else INSTALL
        return failed(f"{settings.certificate.chain}: {'; '.join(refused.problems)}", remedy)
    end = min(certificate.not_valid_after_utc for certificate in found.certificates)
    days = (end - now).days
    what = f"{'self-signed, ' if _is_self_signed(readings) else ''}{days} days left, until {end:%Y-%m-%d}"
    if days < settings.certificate.min_days_warning:
        return warning(what, DEPLOY if _is_self_signed(readings) else INSTALL)
    if problem := _source_problem(readings):
        source = settings.certificate.source
        return warning(f"{what}; it is not renewed from {source}: {problem}", _SEE_SOURCE)
    return ok(f"{what}, for {', '.join(settings.registry.host_names)}")


def _source_problem(readings: Readings) -> str:
    """Return why what the source of renewals holds is not in use, "" if it is, or if nobody tells."""
    if readings.settings.certificate.source is None:
        return ""
    try:
        return readings.agent_calls().certificate(Mode.DOCKER_REGISTRY).source_problem
    except (SysregError, Skipped):
        return ""


def _is_self_signed(readings: Readings) -> bool:
    """Whether sysreg-deploy replaces it: it is self-signed, or cannot be read."""
    try:
        chain = readings.chain()
    except (CertificateRefused, OSError):
        return True
    return len(chain) == 1 and chain[0].issuer == chain[0].subject


def docker_trust(readings: Readings) -> Result:
    """Docker, podman and skopeo on this host trust the certificate."""
    root = readings.settings.paths.docker_trust
    return _trust(readings, "docker", root, lambda directory: sorted(directory.glob("*.crt")))


def containerd_trust(readings: Readings) -> Result:
    """Containerd on this host trusts the certificate."""
    return _trust(readings, "containerd", readings.settings.paths.containerd_trust, _containerd_files)


def _trust(readings: Readings, client: str, root: Path, files_of: Callable[[Path], Sequence[Path]]) -> Result:
    chain, addresses = readings.chain_or_skip(), readings.settings.registry.addresses
    directories = [root / address for address in addresses]
    if not shutil.which(client) and not any(directory.is_dir() for directory in directories):
        raise Skipped(f"there is no {client} on this host")
    distrusting = []
    for directory in directories:
        anchors = _read(files_of(directory))
        if not _is_anchored(chain, anchors) and not _is_anchored(chain, _system(readings, chain)):
            distrusting.append(directory)
    if not distrusting:
        return ok(f"{client} trusts the certificate of {', '.join(addresses)}")
    named = ", ".join(map(str, distrusting))
    what = f"{client} does not trust the certificate: no file in {named} is of its CA"
    foreign = [path for it in distrusting if is_foreign(path := it / _HOSTS)]
    if foreign:
        remedy = Remedy("that file is not of sysreg; replace it", "sysreg-deploy --adopt")
        return failed(f"{what}; {foreign[0]} decides", remedy)
    return failed(what, DEPLOY)


def _containerd_files(directory: Path) -> list[Path]:
    """Return the files of certificates that containerd trusts for a registry (its docs/hosts.md)."""
    try:
        document = tomllib.loads((directory / _HOSTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return sorted(directory.glob("*.crt"))
    except (OSError, ValueError):
        return []
    tables = [document, *(host for host in document.get("host", {}).values() if isinstance(host, dict))]
    listed = [table.get("ca", []) for table in tables]
    names = [name for it in listed for name in ([it] if isinstance(it, str) else it)]
    return [directory / name for name in names if isinstance(name, str)]


def _read(paths: Iterable[Path]) -> list[x509.Certificate]:
    """Return the certificates of files. One that cannot be read is left out: clients trust nothing by it."""
    found: list[x509.Certificate] = []
    for path in paths:
        try:
            found += read_certificates(path.read_bytes())
        except (OSError, CertificateRefused):
            continue
    return found


def _is_anchored(chain: Sequence[x509.Certificate], anchors: Iterable[x509.Certificate]) -> bool:
    """Whether an anchor is in the chain, or has issued its end."""
    for anchor in anchors:
        if anchor in chain:
            return True
        try:
            chain[-1].verify_directly_issued_by(anchor)
        except (*PARSE_ERRORS, InvalidSignature):
            continue
        return True
    return False


def _system(readings: Readings, chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the anchors of the system that may be those of the chain."""
    subjects = [certificate.issuer.public_bytes() for certificate in chain]
    ders = [der for der in readings.system_anchors() if any(subject in der for subject in subjects)]
    return [x509.load_der_x509_certificate(der) for der in ders]


def system_trust(readings: Readings) -> Result:
    """The system trusts the CA certificates that ``certificate-install -m ssl_ca`` added."""
    paths = managed_anchors(readings.settings.paths.system_trust)
    trusted = readings.system_anchors()
    missing = [
        path.name
        for path in paths
        if not any(certificate.public_bytes(Encoding.DER) in trusted for certificate in _read([path]))
    ]
    if missing:
        command = readings.settings.paths.system_trust_command
        what = f"the system does not trust {', '.join(missing)} of {readings.settings.paths.system_trust}"
        return failed(what, Remedy("rebuild its bundle", command))
    return ok(f"the system trusts {len(trusted)} CA certificates, {len(paths)} of which were installed here")
