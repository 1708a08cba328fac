"""From an Invocation to the registry's client: address, trust, credentials."""

from __future__ import annotations

import re
from collections.abc import Collection

from sysreg_cli.cli.completion_cache import Identity
from sysreg_cli.cli.options import Invocation
from sysreg_cli.errors import UsageError
from sysreg_cli.registry.authorization import TokenServerAuthorizer
from sysreg_cli.registry.client import RegistryClient
from sysreg_cli.registry.credentials import RegistryCredentials
from sysreg_cli.registry.transport import Transport
from sysreg_cli.registry.trust import client_context
from sysreg_cli.text import shorten

# The token server holds a request for a write token while a collection runs, at most 300 s
# (docs/contracts.rst, "Tokens").
_WRITE_WAIT = 310.0
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


def address(invocation: Invocation) -> str:
    """The registry's host:port."""
    return invocation.text("registry") or invocation.settings.registry.base_url.removeprefix("https://")


def own_hosts(invocation: Invocation) -> Collection[str]:
    """Every host:port that means our registry in front of an image name."""
    return {address(invocation).lower(), *invocation.settings.registry.addresses}


def is_own(invocation: Invocation) -> bool:
    """Whether the registry that is asked is the one of sysreg.conf, and not one that the caller names."""
    configured = invocation.settings.registry.base_url.removeprefix("https://").lower()
    return address(invocation).lower() in {configured, *invocation.settings.registry.addresses}


def credentials(invocation: Invocation) -> RegistryCredentials:
    """What the caller gave: a token, an application credential, or user and password.

    Raises CredentialsMissing, UsageError.
    """
    kind = invocation.credential_kind()
    if kind == "token":
        return RegistryCredentials(token=_token(invocation.text("os_auth_token")))
    if kind == "application_credential":
        return RegistryCredentials(
            invocation.required("os_application_credential_id"),
            invocation.required("os_application_credential_secret"),
        )
    return RegistryCredentials(invocation.required("os_username"), invocation.password())


def identity(invocation: Invocation) -> Identity | None:
    """Whose names and tags completion may keep; None for a token, which doesn't say whose it is."""
    if invocation.text("os_auth_token"):
        return None
    return Identity(
        registry=invocation.text("registry"),
        settings_file=invocation.environ.get("SYSREG_CONF", ""),
        auth_url=invocation.text("os_auth_url"),
        user_domain=invocation.text("os_user_domain_name"),
        user=invocation.text("os_username"),
        application_credential=invocation.text("os_application_credential_id"),
    )


def _token(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise UsageError("the Keystone token has characters that none can have")
    return text


def open_registry(invocation: Invocation) -> RegistryClient:
    """The registry's client with the caller's credentials; nothing is sent yet.

    Raises CredentialsMissing, SettingsError, UsageError, CertificateNotTrusted (an unreadable CA file).
    """
    where = address(invocation)
    if not (found := _ADDRESS.fullmatch(where)) or not 0 < int((found[2] or ":443")[1:]) < 65536:
        raise UsageError(f"the registry's address {shorten(where)} is not host:port, or not https")
    who = credentials(invocation)
    context = client_context(
        invocation.text("registry_ca"), invocation.settings.paths.docker_trust / where.lower()
    )
    wait = invocation.timeout if "timeout" in invocation.given else max(invocation.timeout, _WRITE_WAIT)
    authorizer = TokenServerAuthorizer(who, context, timeout=invocation.timeout, write_wait=wait)
    return RegistryClient(Transport(f"https://{where}", context, timeout=invocation.timeout), authorizer)
