"""From an Invocation to the registry's client: address, trust, credentials, and the registry's storage."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from sysreg_cli.cli import global_options
from sysreg_cli.cli.completion_cache import CacheOwner
from sysreg_cli.cli.invocation import CredentialKind, Invocation
from sysreg_cli.errors import InvalidReference, NotSupported, UsageError
from sysreg_cli.reference import ImageReference, parse
from sysreg_cli.registry.authorization import TokenServerAuthorizer
from sysreg_cli.registry.client import RegistryClient, changes
from sysreg_cli.registry.credentials import RegistryCredentials
from sysreg_cli.registry.transport import Transport
from sysreg_cli.registry.trust import client_context
from sysreg_cli.text import shorten

if TYPE_CHECKING:
    from sysreg_cli.cli.agent_client import AgentClient

# The token server holds a request for a write token while a collection runs, at most 300 s
# (docs/contracts.rst, "Tokens").
_WRITE_WAIT = 310.0
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


def address(invocation: Invocation) -> str:
    """Return the registry's host:port, or its host without a port."""
    given = invocation.text(global_options.REGISTRY)
    return given or invocation.settings.registry.base_url.removeprefix("https://")


def own_hosts(invocation: Invocation) -> Collection[str]:
    """Return every host:port that may stand before an image name and means the registry."""
    return {address(invocation).lower(), *invocation.settings.registry.addresses}


def parse_with_tag(text: str, hosts: Collection[str]) -> ImageReference:
    """Parse the reference of a tag or a digest. ``hosts`` are ``own_hosts``. Raises InvalidReference."""
    image = parse(text, hosts)
    if not image.tag and not image.digest:
        raise InvalidReference(f"{text}: names no tag", next_step=f"give one, as in {text}:latest")
    return image


def is_configured(invocation: Invocation) -> bool:
    """Whether the registry is the one of sysreg.conf, and not another that the caller names."""
    configured = invocation.settings.registry.base_url.removeprefix("https://").lower()
    return address(invocation).lower() in {configured, *invocation.settings.registry.addresses}


def check_own_storage(invocation: Invocation) -> None:
    """Raise NotSupported unless the registry is that of this controller: the agent reads its storage."""
    if not is_configured(invocation):
        raise NotSupported(
            f"{address(invocation)} is not the registry of this controller:"
            " its storage cannot be read from here",
            next_step="run the command on its controller",
        )


def credentials(invocation: Invocation) -> RegistryCredentials:
    """Return the caller's credentials. Raises CredentialsMissing, UsageError."""
    kind = invocation.credential_kind()
    if kind is CredentialKind.TOKEN:
        return RegistryCredentials(token=invocation.token())
    if kind is CredentialKind.APPLICATION_CREDENTIAL:
        return RegistryCredentials(*(invocation.required(option) for option in kind.value))
    return RegistryCredentials(invocation.required(global_options.OS_USERNAME), invocation.password())


def cache_owner(invocation: Invocation) -> CacheOwner | None:
    """Return who may see cached names and tags; None for a token, which does not say whose it is."""
    if invocation.text(global_options.OS_AUTH_TOKEN):
        return None
    return CacheOwner(
        registry=invocation.text(global_options.REGISTRY),
        settings_file=invocation.environ.get("SYSREG_CONF", ""),
        auth_url=invocation.text(global_options.OS_AUTH_URL),
        user_domain=invocation.text(global_options.OS_USER_DOMAIN_NAME),
        user=invocation.text(global_options.OS_USERNAME),
        application_credential=invocation.text(global_options.OS_APPLICATION_CREDENTIAL_ID),
    )


def open_registry(invocation: Invocation) -> RegistryClient:
    """Return the registry's client with the caller's credentials. Sends nothing yet.

    Raises CredentialsMissing, SettingsError, UsageError, CertificateNotTrusted (an unreadable CA file).
    """
    where = address(invocation)
    match = _ADDRESS.fullmatch(where)
    if not match or not 0 < int((match[2] or ":443")[1:]) < 65536:
        raise UsageError(f"the registry's address {shorten(where)} is not host:port, or not https")
    timeout = invocation.timeout
    caller = credentials(invocation)
    context = client_context(
        invocation.text(global_options.REGISTRY_CA), invocation.settings.paths.docker_trust / where.lower()
    )
    write_wait = invocation.given_timeout or max(timeout, _WRITE_WAIT)
    # Somebody who can change the answers of our own registry must not get a password.
    servers = invocation.settings.token_servers if is_configured(invocation) else ()
    authorizer = TokenServerAuthorizer(
        caller, context, timeout=timeout, write_wait=write_wait, servers=servers
    )
    return RegistryClient(Transport(f"https://{where}", context, timeout=timeout), authorizer)


class AgentStorage:
    """The registry's storage (registry/repository.py, Storage), through the agent of this controller.

    The agent gets a token that ``registry`` has for the repository, so Keystone is not asked again.
    """

    def __init__(self, invocation: Invocation, registry: RegistryClient) -> None:
        self._invocation = invocation
        self._registry = registry

    @cached_property
    def _agent(self) -> AgentClient:
        from sysreg_cli.cli.agent_client import AgentClient

        # the agent of this machine cannot answer for another registry
        if not is_configured(self._invocation) and not self._invocation.text(global_options.AGENT):
            raise NotSupported(f"the registry {address(self._invocation)} is not the one of sysreg.conf")
        return AgentClient.from_invocation(self._invocation)

    def close(self) -> None:
        """Close the connection to the agent."""
        if "_agent" in self.__dict__:
            self._agent.close()

    def images(self, token: str, *, filter_out_untagged: bool = False) -> list[str]:
        """Return the names of all images, as RegistryClient.catalog does, or of those with a tag.

        ``token`` is one for the catalog. Raises SysregError if the storage cannot be read, or the token does
        not allow it.
        """
        found = self._agent.images(token, filter_out_untagged=filter_out_untagged)
        return [image.name for image in found.registry_images]

    def tags(self, repository: str) -> Mapping[str, str]:
        """Return each tag with its digest."""
        return self._agent.stored_tags(repository, self._token(repository)).tags

    def remove_tag(self, repository: str, tag: str, digest: str) -> None:
        """Remove a tag that stands for ``digest``."""
        self._agent.remove_stored_tags(repository, digest, self._token(repository), tag)

    def finish_delete(self, repository: str, digest: str) -> None:
        """Remove the tags that stand for a manifest that the registry has deleted."""
        self._agent.remove_stored_tags(repository, digest, self._token(repository))

    def _token(self, repository: str) -> str:
        return self._registry.token(changes(repository))
