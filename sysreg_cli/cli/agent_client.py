"""The agent's v1 API for the commands: over its unix socket, or over TLS if --agent is an https URL.

http.client and not requests: requests costs a tenth of a second to import, cannot use a unix socket without
private classes, and trusts the CAs of certifi beside those of this host.
"""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from sysreg_cli.cli.agent_connection import connect, explain, is_peer, place
from sysreg_cli.errors import BY_STATUS, ProtocolError, SysregError
from sysreg_cli.v1 import faults, paths, wire
from sysreg_cli.v1.certificates import (
    Certificate,
    CertificateHistory,
    CertificateRequest,
    CertificateRequests,
    Certificates,
    Installation,
    KeyKind,
    Mode,
    Preview,
    Uninstallation,
)
from sysreg_cli.v1.collections import ID_HEADER, CollectionStatus
from sysreg_cli.v1.health import BlobReading, Trial
from sysreg_cli.v1.hosts import JoinFile, RegistryHost, RegistryHosts
from sysreg_cli.v1.images import ImageDetails, Images, StoredTags
from sysreg_cli.v1.prune import Pruning
from sysreg_cli.v1.restore import DeletedTags, Restoration
from sysreg_cli.v1.usage import Grouping, Usage

if TYPE_CHECKING:
    from sysreg_cli.cli.invocation import Invocation

T = TypeVar("T")

# Seconds. The agent reads the storage once for all images.
_RESTORE_SECONDS = 300.0

# an error message of the agent is a few lines
_MAX_ERROR = 64 * 1024
# a day, for terabytes on a slow disk
_BLOBS_SECONDS = 86_400.0


class AgentClient:
    """Calls the agent. ``token`` gets a Keystone token for the first call; None sends none.

    ``timeout`` is seconds to connect, and between two bytes of a response. Every method raises the error that
    the status of the response stands for, with the agent's message; NotAuthorized if the caller may not use
    the socket; Unavailable if there is no usable response; and ProtocolError if the response makes no sense.
    """

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        where: str,
        *,
        timeout: float,
        token: Callable[[], str] | None,
    ) -> None:
        self._connection = connection
        self._where = where
        self._timeout = timeout
        self._get_token = token
        self._token = ""

    @classmethod
    def from_invocation(cls, invocation: Invocation, *, as_user: bool = False) -> AgentClient:
        """Return a client of the agent that --agent, SYSREG_AGENT or sysreg.conf names.

        Root on the unix socket sends a token only if the command line names credentials. So root does not
        depend on Keystone only because an openrc was sourced. With ``as_user`` root sends a token, too: the
        response depends on the user. Raises UsageError and SettingsError. Missing credentials are an error of
        the first call.
        """
        where = place(invocation)
        by_peer = is_peer(invocation) and not as_user

        def token() -> str:
            from sysreg_cli.cli import keystone

            return keystone.token(invocation)

        return cls(
            connect(where, invocation),
            where,
            timeout=invocation.timeout,
            token=None if by_peer else token,
        )

    def another(self, invocation: Invocation) -> AgentClient:
        """Return a client of the same agent for another thread, with the same token.

        Gets the token now, because that may ask for a password. Raises what ``keystone.token`` raises.
        """
        self._token_header()
        token = None if self._get_token is None else lambda: self._token
        connection = connect(self._where, invocation)
        return AgentClient(connection, self._where, timeout=self._timeout, token=token)

    def close(self) -> None:
        """Close the connection. The next call opens another one."""
        self._connection.close()

    def renew_token(self) -> None:
        """Get another token for the next call, because the one in use may have expired."""
        self._token = ""

    # -- calls

    def images(self, registry_token: str = "", *, filter_out_untagged: bool = False) -> Images:
        """Return the images that the caller may pull; with a registry token all images."""
        query = "?filter_out_untagged=true" if filter_out_untagged else ""
        return self._fetch(Images, "GET", f"{paths.REGISTRY_IMAGE}{query}", registry_token=registry_token)

    def stored_tags(self, repository: str, registry_token: str) -> StoredTags:
        """Return the tags of a repository as its storage has them."""
        path = f"{paths.STORED_TAGS}?{urlencode({'image_name': repository})}"
        return self._fetch(StoredTags, "GET", path, registry_token=registry_token)

    def remove_stored_tags(self, repository: str, digest: str, registry_token: str, tag: str = "") -> None:
        """Remove ``tag``, which stands for ``digest``; without it all tags of a deleted manifest."""
        query = {"image_name": repository, "digest": digest, **({"tag": tag} if tag else {})}
        self._send("DELETE", f"{paths.STORED_TAGS}?{urlencode(query)}", registry_token=registry_token)

    def image_details(self, image: str) -> ImageDetails:
        """Return what a tag or a digest stands for."""
        query = urlencode({"image_name_and_tag": image})
        return self._fetch(ImageDetails, "GET", f"{paths.IMAGE_DETAILS}?{query}")

    def usage(self, by: Grouping | None = None, image: str = "") -> Usage:
        """Return where the space went, with a row for each ``by``; of Grouping.TAG for those of ``image``."""
        query = {**({"by": by.value} if by else {}), **({"image_name": image} if image else {})}
        return self._fetch(Usage, "GET", paths.USAGE + (f"?{urlencode(query)}" if query else ""))

    def prune(self, query: Mapping[str, Any], *, read_timeout: float) -> Pruning:
        """Prune images. ``query`` has the parameters of the call; ``read_timeout`` is in seconds."""
        path = f"{paths.PRUNE}?{urlencode(query, doseq=True)}"
        return self._fetch(Pruning, "POST", path, read_timeout=read_timeout)

    def try_registry(self) -> Trial:
        """Push, pull and delete a test image."""
        return self._fetch(Trial, "POST", paths.TRIAL)

    def deleted_tags(self, registry_token: str = "") -> DeletedTags:
        """Return the deleted tags of the images that the caller may pull."""
        return self._fetch(DeletedTags, "GET", paths.DELETED, registry_token=registry_token)

    def restore(self, images: Sequence[str], tag: str, registry_token: str = "") -> Restoration:
        """Restore deleted tags, NAME:TAG or NAME@DIGEST; with ``tag`` one of them under this tag."""
        query = urlencode({"image_name_and_tag": images, **({"as": tag} if tag else {})}, doseq=True)
        return self._fetch(
            Restoration,
            "POST",
            f"{paths.RESTORE}?{query}",
            registry_token=registry_token,
            read_timeout=_RESTORE_SECONDS,
        )

    def read_blobs(self) -> BlobReading:
        """Read every blob. That may take hours; to close the connection ends it."""
        return self._fetch(BlobReading, "GET", paths.BLOBS, read_timeout=_BLOBS_SECONDS)

    def certificates(self) -> Certificates:
        """Return the installed certificates."""
        return self._fetch(Certificates, "GET", paths.CERTIFICATE)

    def certificate(self, name: str) -> Certificate:
        """Return an installed certificate by its name or UUID."""
        return self._fetch(Certificate, "GET", f"{paths.CERTIFICATE}/{quote(name, safe='')}")

    def install_certificate(
        self,
        pem: bytes,
        mode: Mode,
        passphrase: str,
        *,
        read_timeout: float,
        restart_clients: bool = False,
        require_all_hosts: bool = False,
        hosts_wait: int | None = None,
    ) -> Installation:
        """Install a certificate. A refused one is no error; see Installation.

        The agent waits for other changes for a part of ``read_timeout``, and for the hosts ``hosts_wait``.
        Both are in seconds; None is the agent's own time.
        """
        fields = {"mode": mode.value, "passphrase": passphrase}
        if restart_clients:
            fields["restart_clients"] = "1"
        if require_all_hosts:
            fields["require_all_hosts"] = "1"
        if hosts_wait is not None:
            fields["hosts_wait"] = str(hosts_wait)
        return self._send_certificate(Installation, paths.CERTIFICATE_INSTALL, pem, fields, read_timeout)

    def preview_certificate(self, pem: bytes, mode: Mode, passphrase: str, *, read_timeout: float) -> Preview:
        """Return what the install of a certificate would change. A refused one is no error; see Preview."""
        fields = {"mode": mode.value, "passphrase": passphrase}
        return self._send_certificate(Preview, paths.CERTIFICATE_PREVIEW, pem, fields, read_timeout)

    def uninstall_certificate(
        self,
        name: str,
        *,
        read_timeout: float,
        restart_clients: bool,
        require_all_hosts: bool = False,
        hosts_wait: int | None = None,
    ) -> Uninstallation:
        """Remove a CA certificate by its name or UUID. Times as for ``install_certificate``."""
        parameters = {"wait": int(read_timeout), "restart_clients": restart_clients}
        if require_all_hosts:
            parameters["require_all_hosts"] = True
        if hosts_wait is not None:
            parameters["hosts_wait"] = hosts_wait
        query = urlencode(parameters)
        path = f"{paths.CERTIFICATE}/{quote(name, safe='')}?{query}"
        return self._fetch(Uninstallation, "DELETE", path, read_timeout=read_timeout)

    def roll_back_certificate(self, serial: str | None, *, read_timeout: float) -> Installation:
        """Go back to a kept certificate of docker_registry; None: the one before the one in use."""
        parameters = {"wait": int(read_timeout), **({"serial": serial} if serial else {})}
        path = f"{paths.CERTIFICATE_ROLLBACK}?{urlencode(parameters)}"
        return self._fetch(Installation, "POST", path, read_timeout=read_timeout)

    def request_certificate(self, names: Sequence[str], kind: KeyKind) -> CertificateRequest:
        """Make a key, which the agent keeps, and a certificate signing request for it."""
        query = urlencode({"name": names, "key": kind.value}, doseq=True)
        return self._fetch(CertificateRequest, "POST", f"{paths.CERTIFICATE_REQUEST}?{query}")

    def certificate_requests(self) -> CertificateRequests:
        """Return the pending requests, the oldest first."""
        return self._fetch(CertificateRequests, "GET", paths.CERTIFICATE_REQUEST)

    def cancel_request(self, uuid: str) -> None:
        """Cancel a pending request. The agent removes its key."""
        self._send("DELETE", f"{paths.CERTIFICATE_REQUEST}/{quote(uuid, safe='')}")

    def certificate_history(self) -> CertificateHistory:
        """Return every install of a certificate, the oldest first."""
        return self._fetch(CertificateHistory, "GET", paths.CERTIFICATE_HISTORY)

    def _send_certificate(
        self, kind: type[T], path: str, pem: bytes, fields: Mapping[str, str], read_timeout: float
    ) -> T:
        given = {name: text for name, text in fields.items() if text}
        body, content_type = multipart({**given, "wait": str(read_timeout)}, pem)
        headers = {"Content-Type": content_type}
        return self._fetch(kind, "POST", path, body=body, headers=headers, read_timeout=read_timeout)

    def hosts(self) -> RegistryHosts:
        """Return every host, the controller first."""
        return self._fetch(RegistryHosts, "GET", paths.REGISTRY_HOST)

    def host(self, name: str) -> RegistryHost:
        """Return one host."""
        return self._fetch(RegistryHost, "GET", f"{paths.REGISTRY_HOST}/{quote(name, safe='')}")

    def add_host(self, name: str) -> JoinFile:
        """Add a host, and return what it joins with."""
        return self._fetch(JoinFile, "POST", f"{paths.REGISTRY_HOST}/{quote(name, safe='')}")

    def delete_host(self, name: str) -> RegistryHost:
        """Delete a host, and return it as it was."""
        return self._fetch(RegistryHost, "DELETE", f"{paths.REGISTRY_HOST}/{quote(name, safe='')}")

    def start_collection(
        self, *, dry_run: bool, delete_untagged: bool, grace: int | None, keep_deleted: int | None = None
    ) -> str:
        """Start a garbage collection, and return its id.

        ``grace`` and ``keep_deleted`` are in seconds; None for the setting, and for none.
        """
        parameters = {"garbage_collect": True, "dry_run": dry_run, "delete_untagged": delete_untagged}
        times = {"grace": grace, "keep_deleted": keep_deleted}
        given = {name: seconds for name, seconds in times.items() if seconds is not None}
        query = urlencode({**parameters, **given})
        response, _ = self._send("POST", f"{paths.REGISTRY_IMAGE}?{query}")
        return response.headers.get(ID_HEADER, "")

    def collection_status(self, *, plan: bool = False) -> CollectionStatus:
        """Return the status of garbage collection; ``plan``: with what the last one had planned."""
        path = paths.GARBAGE_COLLECT + ("?plan=True" if plan else "")
        return self._fetch(CollectionStatus, "GET", path)

    def cancel_collection(self) -> None:
        """Cancel the running garbage collection. It ends within seconds."""
        self._send("DELETE", paths.GARBAGE_COLLECT)

    # -- requests

    def _fetch(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        response, body = self._send(method, path, **options)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if response.status != 200 or not isinstance(document, dict):
            raise ProtocolError(f"what answers at {self._where} is not sysreg-agent")
        return wire.from_json(kind, document, f"the response of the agent at {self._where}")

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout: float | None = None,
        registry_token: str = "",
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send one request. Return a response with a status below 300, and its body.

        With a ``registry_token`` (RegistryClient.token), Keystone is not asked for a token of its own.
        """
        timeout = read_timeout or self._timeout
        connection = self._connection
        credential = {"Authorization": f"Bearer {registry_token}"} if registry_token else self._token_header()
        sent = {**(headers or {}), **credential}
        try:
            if connection.sock is not None and self._is_dropped():
                connection.close()
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(timeout)
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise explain(error, self._where, timeout) from error
        if response.status >= 300:
            raise self._refusal(response.status, content)
        return response, content

    def _is_dropped(self) -> bool:
        """Whether the agent has closed the connection, as it does after some seconds without a call."""
        from sysreg_cli.registry.transport import is_dropped

        return is_dropped(self._connection)

    def _token_header(self) -> dict[str, str]:
        if self._get_token is None:
            return {}
        self._token = self._token or self._get_token()
        return {"X-Auth-Token": self._token}

    def _refusal(self, status: int, body: bytes) -> SysregError:
        try:
            message = faults.text_of(json.loads(body))
        except (ValueError, RecursionError):
            message = ""
        if not message:
            return ProtocolError(f"the agent at {self._where} answered {status} without a reason")
        return BY_STATUS.get(status, SysregError)(message[:_MAX_ERROR])


def multipart(fields: Mapping[str, str], file: bytes) -> tuple[bytes, str]:
    """Return a form with a field ``file`` (RFC 7578), and its content type."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="certificate.pem"\r\n\r\n'
    body = "".join([*parts, head]).encode() + file + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
