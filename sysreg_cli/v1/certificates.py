"""Certificates on the wire. All text; dates are ISO 8601 in UTC, as StarlingX's clients print them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sysreg_cli.v1.hosts import RegistryHost


class Mode(StrEnum):
    """What a certificate is for."""

    DOCKER_REGISTRY = "docker_registry"  # the registry's own certificate, with its key
    SSL_CA = "ssl_ca"  # a CA that the whole host trusts


#: the largest file that an install accepts, in bytes
MAX_BYTES = {Mode.DOCKER_REGISTRY: 64 * 1024, Mode.SSL_CA: 1024 * 1024}


#: the longest time that an install waits for the hosts of the cluster, in seconds
MAX_HOSTS_WAIT = 600


@dataclass(frozen=True, slots=True)
class Certificate:
    """An installed certificate. ``signature`` is ``<mode>_<serial number, decimal>``.

    ``name`` is what certificate-show takes; ``warnings`` are those of the install. The registry's own
    certificate may have a ``source``, from which the agent renews it. ``source_seen`` is when the agent read
    that last, and ``source_problem`` is why what it holds is not in use. ``hosts`` are those of the cluster
    which are to trust it.
    """

    uuid: str
    certtype: str
    signature: str
    start_date: str
    expiry_date: str
    subject: str
    name: str = ""
    warnings: tuple[str, ...] = ()
    source: str = ""
    source_seen: str = ""
    source_problem: str = ""
    hosts: tuple[RegistryHost, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificates:
    """The response to a request for all certificates."""

    certificates: tuple[Certificate, ...]


class RestartState(StrEnum):
    """Whether a daemon was restarted that reads the CA certificates only when it starts."""

    NEEDED = "needed"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ClientRestart:
    """A docker or containerd for which a change of the CA certificates counts only after a restart."""

    unit: str
    state: RestartState | str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Uninstallation:
    """The response to an uninstall: what was removed, and which daemons trust it until their restart.

    ``hosts_problem`` as in Installation.
    """

    certificate: Certificate
    clients: tuple[ClientRestart, ...] = ()
    hosts_problem: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    """The response to an install. ``error`` says why the certificate was refused; empty: it is live.

    ``reasons`` are those of ``error``, one by one. ``refused`` says which certificates of a bundle were left
    out, and why. ``clients`` are the daemons that trust new CA certificates only after a restart.
    ``hosts_problem`` names the hosts that were there at the start and do not have the certificate; "" if each
    of them has it.
    """

    error: str
    certificates: tuple[Certificate, ...]
    success: str = ""
    body: str = ""
    reasons: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    clients: tuple[ClientRestart, ...] = ()
    hosts_problem: str = ""


class KeyKind(StrEnum):
    """The kind of a key that the agent makes for a certificate request."""

    P256 = "p256"
    P384 = "p384"
    RSA3072 = "rsa3072"


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A pending request. ``csr`` is PEM (PKCS #10). Its key stays with the agent."""

    uuid: str
    names: tuple[str, ...]
    key: str
    created_at: str
    csr: str


@dataclass(frozen=True, slots=True)
class CertificateRequests:
    """The response to a request for all pending ones, the oldest first."""

    requests: tuple[CertificateRequest, ...]


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """What the install of one certificate would change.

    ``replaces`` is the serial number of the certificate in use. ``names_gained`` and ``names_lost`` compare
    the subject alternative names of the two. ``days_left`` counts until the first certificate of the chain
    expires. ``listeners`` would present the chain, ``trust`` lists changes of trusted certificates, and
    ``restarts`` what is done to services. A certificate that is installed already changes nothing.
    """

    name: str
    serial: str
    subject: str
    issuer: str
    expiry_date: str
    days_left: int
    replaces: str = ""
    names_gained: tuple[str, ...] = ()
    names_lost: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    restarts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """The response to a dry run of an install. ``error``, ``reasons`` and ``refused`` as in Installation."""

    error: str
    changes: tuple[PlannedChange, ...]
    reasons: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


class HistoryState(StrEnum):
    """What has become of an installed certificate."""

    IN_USE = "in use"
    KEPT = "kept"  # certificate-rollback can bring it back
    EXPIRED = "expired"  # it is kept, but nobody accepts it any more
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One install. ``installed_by`` is a user or the source of a renewal; "" if nobody recorded it."""

    uuid: str
    name: str
    serial: str
    installed_at: str
    installed_by: str
    expiry_date: str
    state: HistoryState | str = HistoryState.REMOVED


@dataclass(frozen=True, slots=True)
class CertificateHistory:
    """The response to a request for the history, the oldest install first."""

    history: tuple[HistoryEntry, ...]
