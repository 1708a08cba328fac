"""`system registry-host-list`, `registry-host-show`, `registry-host-add`, `registry-host-delete`."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import click

from sysreg_cli.cli.invocation import Invocation, require_utf8
from sysreg_cli.cli.options import AGENT_VARIABLES, command
from sysreg_cli.cli.output import check_columns, check_list, say, show_list, show_properties, show_report
from sysreg_cli.errors import SysregError, UsageError
from sysreg_cli.v1.hosts import RegistryHost

#: column -> field of RegistryHost
_LISTED = {"Host": "host", "Role": "role", "State": "state", "Certificate": "certificate", "Since": "since"}
PROPERTIES = [field.name for field in fields(RegistryHost)]
_HOST_HELP = [("HOST", "Name of the host.")]


@command(
    "registry-host-list",
    columns=list(_LISTED),
    variables=AGENT_VARIABLES,
    sorts=True,
    examples=[
        ("system registry-host-list", "Show which hosts have the registry's certificate."),
        ("system registry-host-list -f value -c Host -c State", "The states, for a script."),
    ],
)
@click.pass_obj
def list_all(invocation: Invocation) -> None:
    """List the hosts that use the registry.

    The state says how a host stands to the registry's certificate: live (it trusts the certificate in use,
    and has seen it itself), trusted (it trusts a certificate that is being installed), behind, failed, ahead,
    down, or joining. registry-host-show says why, and what to do.
    """
    check_list(invocation, list(_LISTED))

    from sysreg_cli.cli.agent_client import AgentClient

    hosts = AgentClient.from_invocation(invocation).hosts().hosts
    show_list(invocation, list(_LISTED), [[getattr(it, name) for name in _LISTED.values()] for it in hosts])


@command(
    "registry-host-show",
    argument_help=_HOST_HELP,
    columns=PROPERTIES,
    variables=AGENT_VARIABLES,
    examples=[
        ("system registry-host-show worker-1", "Say how this host is, and what to do if it is not well.")
    ],
)
@click.argument("host", metavar="HOST")
@click.pass_obj
def show(invocation: Invocation, host: str) -> None:
    """Show a host, and what to do if something is wrong with it."""
    check_columns(invocation, PROPERTIES)
    host = _host_name(host)

    from sysreg_cli.cli.agent_client import AgentClient

    shown = AgentClient.from_invocation(invocation).host(host)
    show_properties(invocation, {name: getattr(shown, name) for name in PROPERTIES})


def _host_name(host: str) -> str:
    """Return a name of a host in lower case. Raises SysregError for one that no host can have."""
    require_utf8(host, "HOST")
    from sysreg_cli.cluster.keys import check_host_name

    try:
        return check_host_name(host)
    except UsageError as error:
        # the line is well formed, so this is no wrong usage
        raise SysregError(error.message, next_step=error.next_step) from None


@command(
    "registry-host-add",
    argument_help=_HOST_HELP,
    columns=["host", "role", "file", "expires_at"],
    variables=AGENT_VARIABLES,
    examples=[
        ("system registry-host-add worker-1", "Make join-worker-1.json for the host worker-1."),
    ],
)
@click.option(
    "--role", type=click.Choice(["worker"]), default="worker", help="What the host is for; worker: it pulls."
)
@click.option(
    "--file", "path", metavar="FILE", help="Where to write the join file; join-HOST.json if not given."
)
@click.argument("host", metavar="HOST")
@click.pass_obj
def add(invocation: Invocation, role: str, path: str | None, host: str) -> None:
    """Add a host, and write the file with which it joins.

    Copy the file to the host, and run `sysreg-deploy --join FILE` there. It is secret, can be used once, and
    is useless after an hour. A host that has not joined yet gets a new file; the one before is useless then.
    """
    check_columns(invocation, ["host", "role", "file", "expires_at"])
    host = _host_name(host)
    target = Path(path or f"join-{host}.json")
    _require_writable(target)

    from sysreg_cli.cli.agent_client import AgentClient

    join = AgentClient.from_invocation(invocation).add_host(host)
    _write(target, join.content)
    shown = {"host": join.host.host, "role": role, "file": str(target), "expires_at": join.expires_at}
    show_properties(invocation, shown)


def _require_writable(path: Path) -> None:
    """Raise UsageError, before a host is added, if the file exists or cannot be made."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"--file: {path} exists", next_step="remove it, or give another name")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"--file: {path} cannot be written", next_step="give a file in a directory of yours")


def _write(path: Path, content: str) -> None:
    """Write a secret file that did not exist. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)


@command(
    "registry-host-delete",
    argument_help=_HOST_HELP,
    columns=["host", "deleted"],
    variables=AGENT_VARIABLES,
    examples=[("system registry-host-delete worker-1", "This host is gone for good.")],
)
@click.argument("host", metavar="HOST")
@click.pass_obj
def delete(invocation: Invocation, host: str) -> None:
    """Delete a host.

    From then on it can write nothing in the cluster, and no change of the certificate reaches it. What it
    trusts stays there until `sysreg-deploy --remove` on it.
    """
    check_columns(invocation, ["host", "deleted"])
    host = _host_name(host)

    from sysreg_cli.cli.agent_client import AgentClient

    deleted = AgentClient.from_invocation(invocation).delete_host(host).host
    say(invocation, f"Host {deleted} deleted")
    show_report(invocation, [{"host": deleted, "deleted": True}])
