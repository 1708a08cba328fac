"""HTTP to the agent: over its unix socket, or over TLS where SYSREG_AGENT is an https URL."""

from __future__ import annotations

import functools
import json
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from sysreg_cli.errors import (
    BY_STATUS,
    NotAuthorized,
    ProtocolError,
    SysregError,
    Unavailable,
    UsageError,
)

if TYPE_CHECKING:
    from sysreg_cli.cli.options import Invocation

# an error text is a few lines; whatever is longer isn't from our agent
_LONGEST_ERROR = 64 * 1024


class AgentClient:
    """Calls the agent; ``token`` is asked with the first call, and after renew_token; None sends none."""

    def __init__(
        self,
        where: str,
        *,
        timeout: float,
        token: Callable[[], str] | None,
        trust: Callable[[], ssl.SSLContext],
    ) -> None:
        self._timeout = timeout
        self._token = functools.cache(token) if token else None
        self._session = requests.Session()
        # neither proxies nor REQUESTS_CA_BUNDLE: who answers here is root on this machine
        self._session.trust_env = False
        self._shown = where
        if where.startswith("https://"):
            self._base = where.rstrip("/")
            pool: urllib3.HTTPConnectionPool = _tls_pool(where, trust())
        else:
            self._base = "https://sysreg-agent"
            pool = _UnixPool(where)
        self._session.mount("https://", _Adapter(pool))

    @classmethod
    def from_environment(cls, invocation: Invocation, *, as_user: bool = False) -> AgentClient:
        """The agent that --agent, SYSREG_AGENT or sysreg.conf names, with the credentials of the caller.

        Root on the unix socket sends a token only if credentials are given as options: what stands in the
        environment (a sourced openrc) doesn't make root depend on a Keystone that may be down. With
        ``as_user`` a token is sent in any case: the answer depends on who asks. Raises
        UsageError and SettingsError; missing credentials are found out with the first call.
        """
        where = invocation.text("agent") or str(invocation.settings.agent.socket)
        if not where.startswith(("https://", "/")):
            raise UsageError(f"--agent: {where} is neither the path of a socket nor an https URL")
        told = as_user or any(name in invocation.given for name in _CREDENTIALS)
        by_kernel = where.startswith("/") and os.geteuid() == 0 and not told

        def token() -> str:
            from sysreg_cli.cli import keystone

            return keystone.token(invocation)

        def trust() -> ssl.SSLContext:
            from sysreg_cli.registry.trust import client_context

            settings = invocation.settings
            ours = settings.paths.docker_trust / settings.registry.address
            return client_context(invocation.text("registry_ca"), ours)

        return cls(
            where,
            timeout=invocation.timeout,
            token=None if by_kernel else token,
            trust=trust,
        )

    def request(
        self, method: str, path: str, *, read_timeout: float | None = None, **options: Any
    ) -> requests.Response:
        """One call; ``options`` go to requests (params, data, files). Returns answers below 400 only.

        ``read_timeout`` is for calls that answer late. Raises what the agent's status stands for, with its
        words, NotAuthorized when the socket may not be used, and Unavailable when nothing answers.
        """
        headers = {"X-Auth-Token": self._token()} if self._token else {}
        try:
            response = self._session.request(
                method,
                self._base + path,
                headers=headers,
                timeout=(self._timeout, read_timeout or self._timeout),
                allow_redirects=False,
                **options,
            )
        except requests.exceptions.SSLError as error:
            raise Unavailable(
                f"the agent at {self._shown}: its certificate is not trusted ({_innermost(error)})",
                next_step="give the CA with --registry-ca",
            ) from None
        except requests.Timeout:
            raise Unavailable(
                f"the agent at {self._shown} gave no answer within {read_timeout or self._timeout:g} s",
                next_step="see `journalctl -u sysreg-agent`",
            ) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise Unavailable(
                f"the agent at {self._shown} broke off the connection ({_innermost(error)})",
                next_step="see `journalctl -u sysreg-agent`",
            ) from None
        if response.status_code >= 300:
            raise self._error(response)
        return response

    def renew_token(self) -> None:
        """Ask for another token with the next call: the one in use was refused, it may have expired."""
        if self._token:
            self._token.cache_clear()

    def fetch(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Like ``request``, and the JSON object of the answer. Raises ProtocolError for anything else."""
        response = self.request(method, path, **options)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.status_code != 200 or not isinstance(answer, dict):
            raise ProtocolError(f"what answers at {self._shown} is not sysreg-agent")
        return answer

    def _error(self, response: requests.Response) -> SysregError:
        kind = BY_STATUS.get(response.status_code, SysregError)
        try:
            text = json.loads(response.json()["error_message"])["faultstring"]
        except (ValueError, TypeError, KeyError):
            return ProtocolError(
                f"the agent at {self._shown} answered {response.status_code} without a reason"
            )
        return kind(str(text)[:_LONGEST_ERROR])


_CREDENTIALS = ("os_username", "os_password", "os_auth_token", "os_application_credential_id")


class _Adapter(HTTPAdapter):
    """requests' transport over one pool of connections, which knows where to and whom to trust."""

    def __init__(self, pool: urllib3.HTTPConnectionPool) -> None:
        self._pool = pool
        super().__init__()

    def get_connection_with_tls_context(self, *_args: Any, **_options: Any) -> Any:
        return self._pool

    def cert_verify(self, *_args: Any, **_options: Any) -> None:
        """requests would add the certificates of certifi to those that we trust."""

    def close(self) -> None:
        self._pool.close()
        super().close()


def _tls_pool(where: str, trust: ssl.SSLContext) -> urllib3.HTTPSConnectionPool:
    """Raises UsageError for what is no https URL."""
    try:
        url = urlsplit(where)
        if url.hostname:
            return urllib3.HTTPSConnectionPool(url.hostname, url.port or 443, ssl_context=trust)
    except ValueError:
        pass
    raise UsageError(f"--agent: {where} is not an https URL")


class _UnixPool(urllib3.HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("sysreg-agent")
        self._path = path

    def _new_conn(self) -> Any:
        return _UnixConnection(self._path)


class _UnixConnection(urllib3.connection.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("sysreg-agent")
        self._path = path

    def _new_conn(self) -> socket.socket:
        # errors of our own tree: urllib3 would try again, and wrap the reason until nobody can read it
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if isinstance(self.timeout, (int, float)):
                connection.settimeout(self.timeout)
            connection.connect(self._path)
        except PermissionError:
            raise NotAuthorized(
                f"you may not connect to the agent's socket {self._path}",
                next_step=f"it needs root or a member of the unix group {_group_of(self._path)}",
            ) from None
        except OSError as error:
            raise Unavailable(
                f"no agent answers at {self._path} ({error.strerror or error})",
                next_step="start it: systemctl start sysreg-agent",
            ) from None
        return connection


def _group_of(path: str) -> str:
    try:
        return Path(path).group()
    except (OSError, KeyError):
        return "sysreg"


def _innermost(error: BaseException) -> str:
    """The reason at the bottom of requests' and urllib3's wrappings, without the addresses of objects."""
    reason: Any = error
    while True:
        inner = getattr(reason, "reason", None) or (reason.args[-1] if getattr(reason, "args", ()) else None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    return getattr(reason, "verify_message", "") or getattr(reason, "strerror", "") or type(reason).__name__
