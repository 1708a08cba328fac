"""What docker and containerd on this host would make of the registry now.

Each of the two is imitated: from its own directory, its own files are read as it reads them, and the registry
has to present a certificate for its name that these files verify. Only those anchors count that stay when the
host has settled. So what is seen here is what pulls will see afterwards.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sysreg_cli.addresses import HostPort
from sysreg_cli.cluster.decision import Failure, Sight
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.errors import CertificateRefused
from sysreg_cli.host import anchors
from sysreg_cli.pki.check import read_certificates
from sysreg_cli.worker.acting import Acting, fingerprint

#: to connect, and between bytes
_TIMEOUT = 3.0
#: OpenSSL's X509_V_ERR_* of a certificate that is not valid at this host's time, and of another name
_NOT_NOW = (9, 10)
_OTHER_NAME = (62, 64)


@dataclass(frozen=True, slots=True)
class _Probed:
    """What one client would see: the fingerprint of the server certificate, or why it would not pull."""

    sha256: str = ""
    failure: Failure | None = None


def look(acting: Acting) -> Sight:
    """Connect to the registry as docker and as containerd would. Takes seconds if it does not answer."""
    kept = frozenset(map(fingerprint, acting.kept))
    registry, paths = acting.settings.registry, acting.settings.paths
    address = HostPort(registry.host_names[0], registry.port)
    hosts_toml = paths.containerd_trust / registry.address / "hosts.toml"
    trusted = {
        "docker": _docker_anchors(paths.docker_trust / registry.address),
        "containerd": _containerd_anchors(hosts_toml),
    }
    probed: dict[frozenset[x509.Certificate], _Probed] = {}
    seen = {}
    for client, found in trusted.items():
        usable = frozenset(anchor for anchor in found if fingerprint(anchor) in kept)
        if usable not in probed:
            probed[usable] = _probe(address, usable)
        seen[client] = probed[usable]
    if seen["containerd"].failure and not seen["docker"].failure and anchors.is_foreign(hosts_toml):
        failure: Failure | None = Failure(
            Problem.FOREIGN_FILE, f"{hosts_toml} was not written by sysreg and lacks the certificate"
        )
    else:
        failure = seen["docker"].failure or seen["containerd"].failure
    return Sight(seen["docker"].sha256, seen["containerd"].sha256, failure)


def distrusting_file(acting: Acting) -> Failure | None:
    """Return the failure that a ``hosts.toml`` of the administrator causes, if it lacks a wanted anchor."""
    wanted = frozenset(map(fingerprint, acting.wanted))
    for path in anchors.foreign_files(acting.settings):
        if not wanted <= {fingerprint(anchor) for anchor in _containerd_anchors(path)}:
            return Failure(
                Problem.FOREIGN_FILE, f"{path} was not written by sysreg and lacks the certificate"
            )
    return None


def _docker_anchors(directory: Path) -> list[x509.Certificate]:
    return _read(sorted(directory.glob("*.crt")))


def _containerd_anchors(hosts_toml: Path) -> list[x509.Certificate]:
    """Return what the file names as ``ca``, for the whole registry or for one of its hosts."""
    try:
        document = tomllib.loads(hosts_toml.read_text())
    except (OSError, ValueError):
        return []
    hosts = document.get("host")
    tables = [document, *(hosts.values() if isinstance(hosts, Mapping) else ())]
    names = [name for table in tables if isinstance(table, Mapping) for name in _texts(table.get("ca"))]
    return _read(hosts_toml.parent / name for name in names)


def _texts(value: Any) -> Sequence[str]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]


def _read(paths: Iterable[Path]) -> list[x509.Certificate]:
    certificates: list[x509.Certificate] = []
    for path in paths:
        try:
            certificates += read_certificates(path.read_bytes())
        except (OSError, CertificateRefused):
            continue
    return certificates


def _probe(address: HostPort, trusted: Iterable[x509.Certificate]) -> _Probed:
    """GET /v2/ and verify what the registry presents with ``trusted`` alone."""
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in trusted)
    if not pem:
        return _failed(Problem.NOT_TRUSTED, f"{address}: no file of this host trusts its certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # an anchor may be an intermediate, or the server certificate itself
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=pem.decode())
    connection = http.client.HTTPSConnection(address.host, address.port, timeout=_TIMEOUT, context=context)
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        presented = connection.sock.getpeercert(binary_form=True) or b""
        connection.request("GET", "/v2/")
        response = connection.getresponse()
        if response.status not in (200, 401) or "docker-distribution-api-version" not in response.headers:
            return _failed(
                Problem.NO_REGISTRY, f"{address} answers GET /v2/ with {response.status}, as no registry does"
            )
        return _Probed(sha256(presented).hexdigest())
    except ssl.SSLCertVerificationError as error:
        return _failed(_tls_problem(error), f"{address}: {error.verify_message}")
    except socket.gaierror as error:
        return _failed(Problem.NO_ADDRESS, f"{address}: {error.strerror}")
    except TimeoutError:
        return _failed(Problem.UNREACHABLE, f"{address} does not answer within {_TIMEOUT:g} s")
    except (OSError, http.client.HTTPException) as error:
        return _failed(
            Problem.UNREACHABLE, f"{address}: {getattr(error, 'strerror', None) or type(error).__name__}"
        )
    finally:
        connection.close()


def _tls_problem(error: ssl.SSLCertVerificationError) -> Problem:
    if error.verify_code in _NOT_NOW:
        return Problem.CLOCK
    return Problem.OTHER_CERTIFICATE if error.verify_code in _OTHER_NAME else Problem.NOT_TRUSTED


def _failed(problem: Problem, reason: str) -> _Probed:
    return _Probed(failure=Failure(problem, reason))
