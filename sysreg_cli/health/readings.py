"""What is read of the controller: each thing once, although several checks need it at the same time."""

from __future__ import annotations

import functools
import http.client
import json
import os
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from cryptography import x509

from sysreg_cli.errors import CertificateRefused, SysregError
from sysreg_cli.health.results import Skipped
from sysreg_cli.host import probe, registry_config
from sysreg_cli.host.probe import Endpoint, Response
from sysreg_cli.host.registry_config import RegistryConfig
from sysreg_cli.keystone import identity_url
from sysreg_cli.pki.check import read_certificates
from sysreg_cli.registry.trust import client_context
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.signer import TokenSigner
from sysreg_cli.v1.certificates import Certificate
from sysreg_cli.v1.collections import CollectionStatus
from sysreg_cli.v1.health import BlobReading, Trial
from sysreg_cli.v1.hosts import RegistryHosts
from sysreg_cli.v1.paths import HEALTH
from sysreg_cli.v1.unix_socket import UnixHTTPConnection

_TOKEN_SECONDS = 60
# seconds to connect, and between bytes
_TIMEOUT = 3.0
_MAX_RESPONSE = 256 * 1024

T = TypeVar("T")


class Agent(Protocol):
    """The calls of the agent that checks make. Each raises SysregError."""

    def collection_status(self) -> CollectionStatus:
        """Return what collection runs, and how the last ones ended."""
        ...

    def certificate(self, name: str) -> Certificate:
        """Return an installed certificate."""
        ...

    def hosts(self) -> RegistryHosts:
        """Return every host of the cluster."""
        ...

    def try_registry(self) -> Trial:
        """Push, pull and delete a test image."""
        ...

    def read_blobs(self) -> BlobReading:
        """Compare every blob with its digest."""
        ...


def _once(read: Callable[[Readings], T]) -> Callable[[Readings], T]:
    """Call a method of Readings once. A later call returns the same value, or raises the same error."""

    @functools.wraps(read)
    def reading(readings: Readings) -> T:
        with readings.guard:
            outcome = readings.outcomes[read.__name__]
        with outcome.lock:
            if not outcome.is_known:
                try:
                    outcome.value = read(readings)
                except (SysregError, Skipped, OSError, http.client.HTTPException) as error:
                    outcome.error = error
                outcome.is_known = True
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[no-any-return]

    return reading


class _Outcome:
    """What a reading returned or raised."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_known = False
        self.value: Any = None
        self.error: Exception | None = None


class Readings:
    """One look at the controller. Checks in several threads may use it.

    ``agent`` returns a client of the agent for one thread. ``deep`` says whether every blob is read.
    """

    def __init__(self, settings: Settings, agent: Callable[[], Agent], *, deep: bool = False) -> None:
        self.settings = settings
        self._agent = agent
        self.deep = deep
        self.is_root = os.geteuid() == 0
        self.outcomes: defaultdict[str, _Outcome] = defaultdict(_Outcome)
        self.guard = threading.Lock()

    def require_root(self, what: str) -> None:
        """Raise Skipped, which names ``what`` only root can know, unless this process is root's."""
        if not self.is_root:
            raise Skipped(f"only root can read {what}; try with sudo")

    # -- listeners

    @property
    def registry_endpoint(self) -> Endpoint:
        """The registry's listener. Raises SettingsError."""
        return probe.endpoints(self.settings, with_agent=False)[0]

    @property
    def token_server_endpoint(self) -> Endpoint:
        """The token server's listener. Raises SettingsError."""
        return probe.endpoints(self.settings, with_agent=False)[1]

    @property
    def agent_endpoint(self) -> Endpoint | None:
        """The agent's TLS listener, None if it has none. Raises SettingsError."""
        return next(iter(probe.endpoints(self.settings, with_agent=True)[2:]), None)

    @_once
    def registry(self) -> Response:
        """Ask the registry for its version, without a token. Raises NoResponse."""
        return probe.request(self.registry_endpoint)

    @_once
    def token_server(self) -> Response:
        """Ask the token server for its health. Raises NoResponse."""
        return probe.request(self.token_server_endpoint)

    @_once
    def agent_tls(self) -> Response:
        """Ask the agent for its health over TLS. Raises NoResponse, Skipped."""
        if self.agent_endpoint is None:
            raise Skipped("the agent has no TLS listener")
        return probe.request(self.agent_endpoint)

    @_once
    def agent_socket(self) -> bytes:
        """Ask the agent for its health over its unix socket. Raises OSError, HTTPException."""
        with closing(UnixHTTPConnection(self.settings.agent.socket, timeout=_TIMEOUT)) as connection:
            connection.request("GET", HEALTH)
            return connection.getresponse().read(_MAX_RESPONSE)

    def agent_calls(self) -> Agent:
        """Return a client of the agent. Raises Skipped if the agent does not answer."""
        try:
            self.agent_socket()
        except PermissionError:
            pass  # the client may use the agent's TLS listener
        except (OSError, http.client.HTTPException):
            raise Skipped("the agent does not answer") from None
        return self._agent()

    @property
    def token_server_health(self) -> dict[str, Any]:
        """What the token server says of itself, {} if something else answers. Raises NoResponse."""
        try:
            document = json.loads(self.token_server().body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) and "signing_key" in document else {}

    # -- Keystone

    @_once
    def keystone(self) -> Response:
        """Ask Keystone for the version of its API, without credentials. Raises OSError, HTTPException."""
        settings = self.settings.keystone
        url = urlsplit(identity_url(settings.auth_url))
        host = url.hostname or ""
        connection = http.client.HTTPConnection(host, url.port, timeout=_TIMEOUT)
        if url.scheme == "https":
            context = client_context(str(settings.ca_file) if settings.ca_file else "")
            connection = http.client.HTTPSConnection(host, url.port, timeout=_TIMEOUT, context=context)
        with closing(connection):
            connection.request("GET", url.path)
            response = connection.getresponse()
            return Response([], response.status, response.read(_MAX_RESPONSE), response.headers)

    # -- files

    @_once
    def chain(self) -> tuple[x509.Certificate, ...]:
        """Return the certificate chain on the disk. Raises CertificateRefused, OSError."""
        return read_certificates(self.settings.certificate.chain.read_bytes())

    def chain_or_skip(self) -> tuple[x509.Certificate, ...]:
        """Return the certificate chain on the disk. Raises Skipped."""
        try:
            return self.chain()
        except (CertificateRefused, OSError):
            raise Skipped("there is no certificate on the disk; see the check certificate") from None

    @_once
    def system_anchors(self) -> tuple[bytes, ...]:
        """Return the certificates that the whole host trusts, DER."""
        return tuple(ssl.create_default_context().get_ca_certs(binary_form=True))

    @_once
    def registry_config(self) -> RegistryConfig:
        """Return the registry's own configuration. Raises SysregError, Skipped."""
        self.require_root("the registry's configuration")
        return registry_config.load(self.settings)

    def storage_root(self) -> Path:
        """Return the root directory of the registry's storage. Raises SysregError, Skipped."""
        config = self.registry_config()
        if config.root is None:
            raise Skipped(f"the registry's storage has the driver {config.driver}: it is not on this host")
        return config.root

    # -- tokens

    @_once
    def signer(self) -> TokenSigner:
        """Return what signs tokens. Raises SettingsError, Skipped."""
        self.require_root("the token-signing key")
        return TokenSigner.load(self.settings)

    def token(self) -> str:
        """Return a token that allows nothing. Raises SettingsError, Skipped."""
        service = self.settings.registry.address
        return self.signer().sign("sysreg-health-query", (), lifetime=_TOKEN_SECONDS, service=service)

    # -- agent

    @_once
    def collections(self) -> CollectionStatus:
        """Return what the agent says of collections. Raises SysregError."""
        return self.agent_calls().collection_status()
