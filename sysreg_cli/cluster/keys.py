"""The keys of the store: their names, and which host a key belongs to.

Hosts watch everything below ``DESIRED``, and nothing else: a watch needs a connection of its own. A host may
write its own two keys ``status`` and ``alive``. Nothing in the store is secret.
"""

from __future__ import annotations

import re
from enum import StrEnum

from sysreg_cli.cluster.port import PREFIX
from sysreg_cli.errors import UsageError
from sysreg_cli.settings.schema import HOST_NAME
from sysreg_cli.text import shorten

#: what each host is to have
DESIRED = PREFIX + "desired/"
#: the state of the registry's certificate: a ``DesiredCertificate``
CERTIFICATE = DESIRED + "certificate/docker_registry"
#: the CA certificates that ``certificate-install -m ssl_ca`` added: a ``DesiredAuthorities``
AUTHORITIES = DESIRED + "certificate/ssl_ca"
#: what each host is and does
HOSTS = PREFIX + "hosts/"

#: how a host joins; see ``joining``
JOINING = PREFIX + "joining/"

#: the longest host name of Linux, in bytes; see gethostname(2)
_MAX_HOST_NAME = 64


class Part(StrEnum):
    """The keys of one host."""

    SPEC = "spec"  # a ``HostSpec``, written by registry-host-add
    STATUS = "status"  # a ``HostStatus``, written by the host
    ALIVE = "alive"  # an ``Alive``, written by the host; it has a lease, and so ends with the host


class JoinPart(StrEnum):
    """The keys by which one host joins. They are gone when it has joined."""

    OFFER = "offer"  # an ``Offer``, written by registry-host-add
    REQUEST = "request"  # a ``JoinRequest``, written by the host with the join file
    ANSWER = "answer"  # a ``JoinAnswer``, written by the controller


def host_key(host: str, part: Part) -> str:
    """Return the name of a host's key."""
    return f"{HOSTS}{host}/{part}"


def parse_host_key(key: str) -> tuple[str, Part] | None:
    """Return host and part of a key; None for a key that is not one of a host."""
    host, _, part = key.removeprefix(HOSTS).rpartition("/")
    if not key.startswith(HOSTS) or part not in list(Part) or not _is_host_name(host):
        return None
    return host, Part(part)


def joining_prefix(host: str) -> str:
    """Return the prefix of the keys by which a host joins."""
    return f"{JOINING}{host}/"


def join_key(host: str, part: JoinPart) -> str:
    """Return the name of a key by which a host joins."""
    return f"{joining_prefix(host)}{part}"


def parse_join_key(key: str) -> tuple[str, JoinPart] | None:
    """Return host and part of a key; None for a key by which no host joins."""
    host, _, part = key.removeprefix(JOINING).rpartition("/")
    if not key.startswith(JOINING) or part not in list(JoinPart) or not _is_host_name(host):
        return None
    return host, JoinPart(part)


def check_host_name(host: str) -> str:
    """Return ``host`` in lower case. Raises UsageError if it is no host name."""
    name = host.lower()
    if not _is_host_name(name):
        raise UsageError(
            f"{shorten(host)} is not a host name",
            next_step=f"give letters, digits, hyphens and dots, {_MAX_HOST_NAME} characters at most",
        )
    return name


def _is_host_name(name: str) -> bool:
    return len(name) <= _MAX_HOST_NAME and re.fullmatch(HOST_NAME, name) is not None
