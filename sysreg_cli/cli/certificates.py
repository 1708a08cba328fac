"""`system certificate-install`, `certificate-list`, `certificate-show`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

import click

from sysreg_cli.cli import hints, hosts_progress
from sysreg_cli.cli.certificate_file import CertificateFile, opened
from sysreg_cli.cli.invocation import Invocation, ask_secret, on_terminal, require_utf8
from sysreg_cli.cli.options import AGENT_VARIABLES, Number, command
from sysreg_cli.cli.output import Summarized, check_columns, check_list, say, show_list, show_properties
from sysreg_cli.errors import ProtocolError, SysregError, UsageError
from sysreg_cli.v1 import wire
from sysreg_cli.v1.certificates import (
    MAX_BYTES,
    MAX_HOSTS_WAIT,
    Certificate,
    ClientRestart,
    Installation,
    Mode,
    PlannedChange,
    RestartState,
)

if TYPE_CHECKING:
    from sysreg_cli.cli.agent_client import AgentClient

_SOURCE = ["source", "source_seen", "source_problem"]
_LEFT_OUT = ("name", "warnings", "hosts", *_SOURCE)
PROPERTIES = [field.name for field in fields(Certificate) if field.name not in _LEFT_OUT]
_LISTED = ["Name", "Expiry Date", "Subject", "UUID"]
# Scripts count the columns of the other formats; in json and yaml a further key disturbs nobody.
_FORMATS_WITH_UUID = ("json", "yaml")
# column -> field of HistoryEntry
_HISTORY = {
    "Name": "name",
    "Serial": "serial",
    "Installed At": "installed_at",
    "Installed By": "installed_by",
    "Expiry Date": "expiry_date",
    "State": "state",
}
# what --dry-run shows
_PLANNED = [field.name for field in fields(PlannedChange)]
RESTART_CLIENTS_HELP = (
    "Restart docker and containerd on this controller: they read CA certificates only when they start."
)
REQUIRE_ALL_HELP = "Refuse if a host of the cluster is down."
HOSTS_WAIT_HELP = "How long to wait for the hosts of the cluster to have it; 10 if not given."
HOSTS_WAIT = Number(0, MAX_HOSTS_WAIT, "seconds")
# before it answers, the agent may have to restart the registry twice and wait for it
INSTALL_SECONDS = 300.0


@command(
    "certificate-install",
    argument_help=[("CERTIFICATE_FILE", "PEM file with the certificates; `-` reads standard input.")],
    columns=[*dict.fromkeys([*PROPERTIES, "hosts", "warnings", *_PLANNED])],
    variables=[*AGENT_VARIABLES, "SYSREG_PASSPHRASE"],
    examples=[
        (
            "system certificate-install -m docker_registry registry.pem",
            "Give the registry a new certificate. The file holds its private key, the certificate and the"
            " intermediates; it is removed once the new certificate is in use.",
        ),
        (
            "system certificate-install -m docker_registry --dry-run registry.pem",
            "Check the file, and say what its install would change.",
        ),
        ("system certificate-install -m ssl_ca ca.pem", "Trust one more certificate authority."),
    ],
)
@click.argument("certificate_file", metavar="CERTIFICATE_FILE")
@click.option(
    "-m",
    "--mode",
    required=True,
    type=click.Choice([mode.value for mode in Mode]),
    help="docker_registry: the registry's own certificate with its key. ssl_ca: CAs that the system trusts.",
)
@click.option(
    "-p",
    "--passphrase",
    metavar="PASSPHRASE",
    help="Passphrase of the private key. Better in SYSREG_PASSPHRASE or at the prompt: every user of the"
    " machine can see an argument.",
)
@click.option("--keep-file", is_flag=True, help="Do not remove the file, although it holds the private key.")
@click.option(
    "--dry-run", is_flag=True, help="Check the file as an install does, and say what would change; no more."
)
@click.option("--restart-clients", is_flag=True, help=RESTART_CLIENTS_HELP)
@click.option("--require-all-hosts", is_flag=True, help=REQUIRE_ALL_HELP)
@click.option("--wait", "hosts_wait", type=HOSTS_WAIT, metavar="SECONDS", help=HOSTS_WAIT_HELP)
@click.pass_obj
def install(
    invocation: Invocation,
    certificate_file: str,
    mode: str,
    passphrase: str | None,
    keep_file: bool,
    dry_run: bool,
    restart_clients: bool,
    require_all_hosts: bool,
    hosts_wait: int | None,
) -> None:
    """Install a certificate.

    CERTIFICATE_FILE is PEM: for docker_registry the private key, the server certificate, then its
    intermediates; - reads standard input. A key that certificate-request made is not in the file. A file that
    holds a private key is removed once the new certificate is in use, and never before. If anything fails,
    the old certificate stays in use, and the file is kept.

    In a cluster, each host that is there has to trust the new certificate of the registry before it comes
    into use. CA certificates are installed on this controller, then on every host; a host that cannot do it
    is named. Hosts that are down get the certificates when they are back. On each of them docker and
    containerd read CA certificates only when they start.
    """
    check_columns(invocation, _PLANNED if dry_run else [*PROPERTIES, "hosts", "warnings"])
    kind = Mode(mode)
    if restart_clients and kind is not Mode.SSL_CA:
        raise UsageError("--restart-clients is for ssl_ca: of docker_registry the clients learn at once")
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(opened(certificate_file, MAX_BYTES[kind]))
        except OSError as error:
            raise UsageError(f"{certificate_file}: {error.strerror}") from None
        if dry_run:
            _preview(invocation, file, kind, _passphrase(invocation, file, passphrase))
        else:
            options = _Options(restart_clients, require_all_hosts, hosts_wait)
            _install(invocation, file, kind, passphrase, keep_file, options)


@dataclass(frozen=True, slots=True)
class _Options:
    """What the agent is asked for beside the install."""

    restart_clients: bool
    require_all_hosts: bool
    hosts_wait: int | None


def _install(
    invocation: Invocation,
    file: CertificateFile,
    mode: Mode,
    passphrase: str | None,
    keep_file: bool,
    options: _Options,
) -> None:
    removes = mode is Mode.DOCKER_REGISTRY and file.holds_key and not keep_file and file.status is not None
    if removes and (reason := file.reason_to_keep()):
        say(invocation, f"{file.path} holds the private key and is not removed: {reason}.")
        removes = False
    elif removes:
        say(invocation, f"{file.path} holds the private key: the file will be removed once it is installed.")
    secret = _passphrase(invocation, file, passphrase)

    from sysreg_cli.cli.agent_client import AgentClient

    agent = AgentClient.from_invocation(invocation)
    timeout = invocation.given_timeout or INSTALL_SECONDS
    with hosts_progress.shown(agent, invocation):
        installation = _send(agent, file, mode, secret, timeout, options)
    first, *others = installation.certificates
    refused = _say_refused(invocation, file, installation.refused)
    installed = [replace(first, warnings=(*first.warnings, *refused)), *others]
    if mode is Mode.DOCKER_REGISTRY or invocation.format == "table":
        for certificate in installed:
            properties = {**properties_of(certificate), **hosts_of(invocation, certificate)}
            show_properties(invocation, properties, warnings=certificate.warnings)
    else:
        titles = [*PROPERTIES, *hosts_of(invocation, first), "warnings"]
        rows = [
            [*properties_of(one).values(), *hosts_of(invocation, one).values(), one.warnings]
            for one in installed
        ]
        show_list(invocation, titles, rows)
    show_clients(invocation, installation.clients)
    if mode is Mode.SSL_CA and first.hosts:
        hints.restarts_on_hosts()
    if removes:
        try:
            file.remove()
        except SysregError as error:
            invocation.report(error)
    done = "the certificate is in use" if mode is Mode.DOCKER_REGISTRY else "installed on this controller"
    require_hosts(invocation, installation.hosts_problem, done=done)


def hosts_of(invocation: Invocation, certificate: Certificate) -> dict[str, Summarized]:
    """Return the property ``hosts``: each with its state, in a table how many are in which one.

    A controller without a cluster has none, unless -c names it.
    """
    hosts = certificate.hosts
    if not hosts and "hosts" not in [column.lower() for column in invocation.columns]:
        return {}
    by_state: dict[str, list[str]] = {}
    for host in hosts:
        by_state.setdefault(host.state, []).append(host.host)
    counts = (
        f"{len(names)} {state}" + ("" if state == "live" else f" ({', '.join(names)})")
        for state, names in sorted(by_state.items(), key=lambda item: item[0] != "live")
    )
    return {"hosts": Summarized(map(wire.to_json, hosts), ", ".join(counts))}


def require_hosts(invocation: Invocation, problem: str, *, done: str = "the certificate is in use") -> None:
    """Report an error if there is a ``problem`` on a host that was there. ``done`` is so all the same."""
    if problem:
        next_step = "registry-host-show says what to do there; then the host goes on by itself"
        invocation.report(SysregError(f"{done}, but not on every host: {problem}", next_step=next_step))


def show_clients(invocation: Invocation, clients: Sequence[ClientRestart]) -> None:
    """Say which daemons were restarted, and which have to be. One that failed is an error."""
    for client in clients:
        if client.state == RestartState.DONE:
            say(invocation, f"{client.unit} restarted")
        elif client.state == RestartState.FAILED:
            invocation.report(
                SysregError(
                    f"{client.unit} was not restarted: {client.reason}",
                    next_step="restart it; it reads CA certificates only when it starts",
                )
            )
    hints.restarts(client.unit for client in clients if client.state == RestartState.NEEDED)


def _preview(invocation: Invocation, file: CertificateFile, mode: Mode, passphrase: str) -> None:
    """Show what an install would change. Raises SysregError as the install would."""
    from sysreg_cli.cli.agent_client import AgentClient

    preview = AgentClient.from_invocation(invocation).preview_certificate(
        file.data, mode, passphrase, read_timeout=invocation.timeout
    )
    if preview.error:
        raise SysregError(f"{file.path}: {preview.error}")
    if not preview.changes:
        raise ProtocolError("the agent's response says nothing about the file")
    first, *others = preview.changes
    refused = _say_refused(invocation, file, preview.refused)
    planned = [replace(first, warnings=(*first.warnings, *refused)), *others]
    changes = [{name: getattr(change, name) for name in _PLANNED} for change in planned]
    if mode is Mode.DOCKER_REGISTRY or invocation.format == "table":
        for change in changes:
            show_properties(invocation, change)
    else:
        show_list(invocation, _PLANNED, [list(change.values()) for change in changes])


def _say_refused(invocation: Invocation, file: CertificateFile, refused: Sequence[str]) -> tuple[str, ...]:
    """Say which certificates of a bundle were refused. Returns the same as warnings for other formats."""
    lines = tuple(f"{file.path}: not installed: {reason}" for reason in refused)
    for line in lines:
        say(invocation, line)
    return () if invocation.format == "table" else lines


def _passphrase(invocation: Invocation, file: CertificateFile, given: str | None) -> str:
    """Return the passphrase from the option, the environment or a prompt; "" if there is none."""
    passphrase = given or invocation.environ.get("SYSREG_PASSPHRASE", "")
    if not passphrase and file.is_encrypted and on_terminal():
        passphrase = ask_secret("Passphrase of the private key: ")
    require_utf8(passphrase, "the passphrase (--passphrase, SYSREG_PASSPHRASE)")
    return passphrase


def _send(
    agent: AgentClient,
    file: CertificateFile,
    mode: Mode,
    passphrase: str,
    read_timeout: float,
    options: _Options,
) -> Installation:
    """Have the agent install the certificate. Raises SysregError unless the response says that it did."""
    look = "look with certificate-list; the file is kept"
    try:
        installation = agent.install_certificate(
            file.data, mode, passphrase, read_timeout=read_timeout, **asdict(options)
        )
    except ProtocolError as error:
        raise ProtocolError(
            f"{error.message}: it is not known whether the certificate is installed", next_step=look
        ) from error
    if installation.error:
        raise SysregError(f"{file.path}: {installation.error}")
    installed = installation.certificates
    if not installed or (mode is Mode.DOCKER_REGISTRY and installed[0].signature != _signature(file.data)):
        raise ProtocolError("the agent's response is about another certificate", next_step=look)
    return installation


def _signature(pem: bytes) -> str:
    from sysreg_cli.pki.check import read_certificates

    return f"{Mode.DOCKER_REGISTRY}_{read_certificates(pem)[0].serial_number}"


@command(
    "certificate-list",
    columns=[*dict.fromkeys([*_LISTED, *_HISTORY])],
    variables=AGENT_VARIABLES,
    sorts=True,
    examples=[
        ("system certificate-list", "Show all installed certificates."),
        ("system certificate-list --history", "Show which were installed, when, by whom, and what is kept."),
        ("system certificate-list -f json | jq -r '.[].expiry_date'", "Only the dates, for a script."),
    ],
)
@click.option("--history", is_flag=True, help="List every install, the oldest first.")
@click.pass_obj
def list_all(invocation: Invocation, history: bool) -> None:
    """List the installed certificates.

    The formats json and yaml show the uuid, too; the others show it with -c uuid.

    With --history: every install with the time, the user and what has become of it.
    """
    with_uuid = invocation.columns or invocation.format in _FORMATS_WITH_UUID
    listed = _LISTED if with_uuid else _LISTED[:-1]
    check_list(invocation, list(_HISTORY) if history else listed)

    from sysreg_cli.cli.agent_client import AgentClient

    agent = AgentClient.from_invocation(invocation)
    if history:
        installs = agent.certificate_history().history
        rows = [[getattr(install, field) for field in _HISTORY.values()] for install in installs]
        show_list(invocation, list(_HISTORY), rows, ordered=True)
        return
    certificates = agent.certificates().certificates
    rows = [[shown.name, shown.expiry_date, shown.subject, shown.uuid] for shown in certificates]
    show_list(invocation, listed, [row[: len(listed)] for row in rows])
    hints.expiry((certificate.name, certificate.expiry_date) for certificate in certificates)


@command(
    "certificate-show",
    argument_help=[("NAME_OR_UUID", "Name (docker_registry, ssl_ca_<serial>) or uuid of the certificate.")],
    columns=[*PROPERTIES, *_SOURCE, "hosts", "warnings"],
    variables=AGENT_VARIABLES,
    examples=[("system certificate-show docker_registry", "Show the registry's certificate.")],
)
@click.argument("certificate", metavar="NAME_OR_UUID")
@click.pass_obj
def show(invocation: Invocation, certificate: str) -> None:
    """Show an installed certificate.

    NAME_OR_UUID is a name that certificate-list shows (docker_registry, ssl_ca_<serial>), or a UUID. If the
    agent renews the certificate from a source (source in section [certificate] of sysreg.conf), the
    properties say which, when the agent read it last, and why its certificate is not in use.
    """
    from sysreg_cli.cli.agent_client import AgentClient

    require_utf8(certificate, "NAME_OR_UUID")
    installed = AgentClient.from_invocation(invocation).certificate(certificate)
    source = {name: getattr(installed, name) for name in _SOURCE}
    properties = {**properties_of(installed), **source, **hosts_of(invocation, installed)}
    show_properties(invocation, properties, warnings=installed.warnings)
    hints.expiry([(certificate, installed.expiry_date)])


def properties_of(certificate: Certificate) -> dict[str, str]:
    return {name: getattr(certificate, name) for name in PROPERTIES}
