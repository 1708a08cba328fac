"""What may be wrong on a host, and what the operator does about it."""

from __future__ import annotations

from enum import StrEnum


class Problem(StrEnum):
    """Why a host is not as desired. A status names the problem, and the file or address in ``reason``."""

    DISK_FULL = "disk-full"
    READ_ONLY = "read-only"
    NOT_WRITABLE = "not-writable"
    FOREIGN_FILE = "foreign-file"  # a hosts.toml of the administrator decides whom containerd trusts
    NO_ADDRESS = "no-address"
    UNREACHABLE = "unreachable"
    NO_REGISTRY = "no-registry"
    OTHER_CERTIFICATE = "other-certificate"
    NOT_TRUSTED = "not-trusted"
    CLOCK = "clock"
    SYSTEM_TRUST = "system-trust"  # the command that rebuilds the system's bundle fails
    DAMAGED = "damaged"
    AHEAD = "ahead"
    INTERNAL = "internal"


_HEALS = "; sysreg-host tries again by itself"
_OTHER_REGISTRY = "have that name lead to this controller; if it does, restart sysreg-agent there"
_REMEDIES = {
    Problem.DISK_FULL: "free space on that file system" + _HEALS,
    Problem.READ_ONLY: "mount that file system writable" + _HEALS,
    Problem.NOT_WRITABLE: "let root write there" + _HEALS,
    Problem.FOREIGN_FILE: "have its `ca` name the file sysreg-registry.crt beside it, or remove it" + _HEALS,
    Problem.NO_ADDRESS: "have that name resolve to the controller on this host, in /etc/hosts or in DNS",
    Problem.UNREACHABLE: "check the network between this host and the controller, and that the registry runs",
    Problem.NO_REGISTRY: "have that name and port lead to the registry on the controller",
    Problem.OTHER_CERTIFICATE: _OTHER_REGISTRY,
    Problem.NOT_TRUSTED: _OTHER_REGISTRY,
    Problem.CLOCK: "set the clock of this host",
    Problem.SYSTEM_TRUST: "run update-ca-certificates on that host, and repair what it reports" + _HEALS,
    Problem.DAMAGED: "restart sysreg-agent on the controller: it publishes the certificate anew",
    Problem.AHEAD: (
        "the store was restored from an older state: if certificate-list shows the right certificates,"
        " restart sysreg-agent on the controller, which publishes them as the latest change"
    ),
    Problem.INTERNAL: "see `journalctl -u sysreg-host` on that host",
}


def remedy(problem: Problem | str) -> str:
    """Return what to do about a problem. One of a newer version has none here but the host's journal."""
    return _REMEDIES.get(Problem(problem) if problem in list(Problem) else Problem.INTERNAL, "")
