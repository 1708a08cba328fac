"""`system certificate-rollback`."""

from __future__ import annotations

import click

from sysreg_cli.cli.certificates import INSTALL_SECONDS, PROPERTIES, properties_of
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.options import AGENT_VARIABLES, command
from sysreg_cli.cli.output import check_columns, show_properties
from sysreg_cli.errors import ProtocolError, SysregError, UsageError
from sysreg_cli.text import shorten
from sysreg_cli.v1.certificates import Mode


@command(
    "certificate-rollback",
    argument_help=[("NAME", "docker_registry; no other certificate has earlier ones.")],
    columns=[*PROPERTIES, "warnings"],
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
    check_columns(invocation, [*PROPERTIES, "warnings"])
    if serial is not None and not (serial.isascii() and serial.isdecimal() and len(serial) <= 60):
        raise UsageError(
            f"--to: {shorten(serial)} is not a serial number in decimal",
            next_step="see certificate-list --history",
        )

    from sysreg_cli.cli.agent_client import AgentClient

    agent = AgentClient.from_invocation(invocation)
    timeout = invocation.given_timeout or INSTALL_SECONDS
    installation = agent.roll_back_certificate(serial, read_timeout=timeout)
    if installation.error:
        raise SysregError(f"{Mode.DOCKER_REGISTRY}: {installation.error}")
    if not installation.certificates:
        raise ProtocolError("the agent's response names no certificate", next_step="see certificate-list")
    installed = installation.certificates[0]
    show_properties(invocation, properties_of(installed), warnings=installed.warnings)
