"""`system certificate-rollback` and `certificate-uninstall`: what undoes an install."""

from __future__ import annotations

from typing import Any

import click

from sysreg_cli.cli import hints, hosts_progress
from sysreg_cli.cli.certificates import (
    HOSTS_WAIT,
    HOSTS_WAIT_HELP,
    INSTALL_SECONDS,
    PROPERTIES,
    REQUIRE_ALL_HELP,
    RESTART_CLIENTS_HELP,
    hosts_of,
    properties_of,
    require_hosts,
    show_clients,
)
from sysreg_cli.cli.invocation import Invocation, require_utf8
from sysreg_cli.cli.options import AGENT_VARIABLES, Command, command
from sysreg_cli.cli.output import check_columns, say, show_properties, show_report
from sysreg_cli.errors import ProtocolError, SysregError, UsageError
from sysreg_cli.text import shorten
from sysreg_cli.v1.certificates import Mode


@command(
    "certificate-rollback",
    argument_help=[("NAME", "docker_registry; no other certificate has earlier ones.")],
    columns=[*PROPERTIES, "hosts", "warnings"],
    variables=AGENT_VARIABLES,
    examples=[
        ("system certificate-rollback docker_registry", "Go back to the certificate before this one."),
        ("system certificate-list --history", "Show which certificates are kept, with their serial numbers."),
    ],
)
@click.argument("name", metavar="NAME", type=click.Choice([Mode.DOCKER_REGISTRY.value]))
@click.option(
    "--to", "serial", metavar="SERIAL", help="Serial number of the certificate; if not given, the last one."
)
@click.pass_obj
def rollback(invocation: Invocation, name: str, serial: str | None) -> None:
    """Go back to an earlier certificate of the registry.

    The agent keeps the last certificates with their keys. It checks the earlier one, and installs it as
    certificate-install does. If anything fails, the certificate in use stays.
    """
    del name
    check_columns(invocation, [*PROPERTIES, "hosts", "warnings"])
    if serial is not None and not (serial.isascii() and serial.isdecimal() and len(serial) <= 60):
        raise UsageError(
            f"--to: {shorten(serial)} is not a serial number in decimal",
            next_step="see certificate-list --history",
        )

    from sysreg_cli.cli.agent_client import AgentClient

    agent = AgentClient.from_invocation(invocation)
    timeout = invocation.given_timeout or INSTALL_SECONDS
    with hosts_progress.shown(agent, invocation):
        installation = agent.roll_back_certificate(serial, read_timeout=timeout)
    if installation.error:
        raise SysregError(f"{Mode.DOCKER_REGISTRY}: {installation.error}")
    if not installation.certificates:
        raise ProtocolError("the agent's response names no certificate", next_step="see certificate-list")
    installed = installation.certificates[0]
    properties = {**properties_of(installed), **hosts_of(invocation, installed)}
    show_properties(invocation, properties, warnings=installed.warnings)
    require_hosts(invocation, installation.hosts_problem)


def _uninstall_command(name: str) -> Command:
    """Declare the command that uninstalls under one of its names."""
    declare = command(
        name,
        argument_help=[("NAME_OR_UUID", "Name (ssl_ca_<serial>) or uuid of the CA certificate.")],
        columns=[*PROPERTIES, "hosts", "warnings"],
        variables=AGENT_VARIABLES,
        examples=[
            (f"system {name} ssl_ca_4711", "End the trust in a CA."),
            ("system certificate-list", "Show the names of the installed certificates."),
        ],
    )
    argument = click.argument("certificate", metavar="NAME_OR_UUID")
    restart = click.option("--restart-clients", is_flag=True, help=RESTART_CLIENTS_HELP)
    require_all = click.option("--require-all-hosts", is_flag=True, help=REQUIRE_ALL_HELP)
    wait = click.option("--wait", "hosts_wait", type=HOSTS_WAIT, metavar="SECONDS", help=HOSTS_WAIT_HELP)

    def function(*arguments: Any, **options: Any) -> None:
        _uninstall(*arguments, **options)

    function.__doc__ = _uninstall.__doc__
    return declare(argument(restart(require_all(wait(click.pass_obj(function))))))


def _uninstall(
    invocation: Invocation,
    certificate: str,
    restart_clients: bool,
    require_all_hosts: bool,
    hosts_wait: int | None,
) -> None:
    """Remove a CA certificate that certificate-install added.

    This controller stops to trust it. If that fails, it stays trusted. In a cluster every host stops to trust
    it, too; hosts that are down do it when they are back. The certificate of the registry cannot be removed,
    only replaced.
    """
    check_columns(invocation, [*PROPERTIES, "hosts", "warnings"])
    require_utf8(certificate, "NAME_OR_UUID")

    from sysreg_cli.cli.agent_client import AgentClient

    agent = AgentClient.from_invocation(invocation)
    timeout = invocation.given_timeout or INSTALL_SECONDS
    with hosts_progress.shown(agent, invocation):
        done = agent.uninstall_certificate(
            certificate,
            read_timeout=timeout,
            restart_clients=restart_clients,
            require_all_hosts=require_all_hosts,
            hosts_wait=hosts_wait,
        )
    removed = done.certificate
    say(invocation, f"Certificate {removed.signature} uninstalled: {removed.subject}")
    hosts = hosts_of(invocation, removed)
    if removed.hosts:
        say(invocation, f"Hosts: {hosts['hosts'].text}")
    for warning in removed.warnings:
        say(invocation, f"Warning: {warning}")
    asked = "warnings" in (column.lower() for column in invocation.columns)
    warnings = {"warnings": list(removed.warnings)} if hosts or asked else {}
    show_report(invocation, [{**properties_of(removed), **hosts, **warnings}])
    show_clients(invocation, done.clients)
    if removed.hosts:
        hints.restarts_on_hosts()
    require_hosts(invocation, done.hosts_problem, done="removed on this controller")


uninstall = _uninstall_command("certificate-uninstall")
ca_uninstall = _uninstall_command("ca-certificate-uninstall")
