"""The hosts of a cluster, and how each stands to the registry's certificate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RegistryHost:
    """One host. ``state`` is that of docs/contracts.rst, "Hosts".

    ``certificate`` is the one that the host's own probe has seen: its signature, or the begin of its
    fingerprint if it is not the one in use. ``since`` is when the host came into this state. ``reason`` and
    ``remedy`` are empty if all is well. ``reported_at`` is when the host said something new last.
    """

    host: str
    role: str
    state: str
    certificate: str = ""
    since: str = ""
    reason: str = ""
    remedy: str = ""
    created: str = ""
    reported_at: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class RegistryHosts:
    """The response to a request for all hosts, the controller first."""

    hosts: tuple[RegistryHost, ...]


@dataclass(frozen=True, slots=True)
class HostsReport:
    """What came of a change on the hosts.

    ``warnings`` has a line for each host that is not live. ``problem`` names those that were there at the
    start, and is empty if each of them is live.
    """

    hosts: tuple[RegistryHost, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class JoinFile:
    """The response to a new host: what ``sysreg-deploy --join`` takes, as text. It is secret."""

    host: RegistryHost
    expires_at: str
    content: str
