"""certificate-install, certificate-list, certificate-show: the registry's certificate, by the agent."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from sysreg_cli.cli import hints
from sysreg_cli.cli.options import Invocation, command
from sysreg_cli.cli.output import check_columns, say, show_list, show_properties
from sysreg_cli.errors import ProtocolError, SysregError, UsageError

if TYPE_CHECKING:
    from sysreg_cli.cli.agent_client import AgentClient

_MODES = ("docker_registry", "ssl_ca")
_FIELDS = ("uuid", "certtype", "signature", "start_date", "expiry_date", "subject")
_MOST_BYTES = 64 * 1024
# The agent may have to restart the registry twice and wait for it before it answers.
_INSTALL_SECONDS = 300.0


@dataclass(frozen=True)
class CertificateFile:
    """What was read, and from where: enough to tell later whether the file is still the same one."""

    path: str
    data: bytes
    status: os.stat_result | None  # None: standard input

    @property
    def holds_key(self) -> bool:
        from sysreg_cli.pki import pem

        return pem.holds_private_key(self.data)

    @property
    def is_encrypted(self) -> bool:
        return b"ENCRYPTED" in self.data

    def reason_to_keep(self) -> str:
        """Why the file isn't ours to remove; empty if it is one that has just this content in it."""
        if self.status is None or not stat.S_ISREG(self.status.st_mode):
            return "it is not a file"
        if os.path.islink(self.path):  # noqa: PTH114
            return f"it is a link to {os.path.realpath(self.path)}"
        return ""

    def remove(self) -> None:
        """Remove the file if it is still the one that was read. Raises SysregError: what is left, and why."""
        left = f"the certificate is installed, but {self.path}, which holds its private key, was not removed"
        try:
            again = read(self.path)
            assert again.status is not None
            assert self.status is not None
            same = (again.status.st_dev, again.status.st_ino) == (self.status.st_dev, self.status.st_ino)
            if not same or again.data != self.data or again.reason_to_keep():
                raise SysregError(f"{left}: it has changed meanwhile", next_step="look at it")
            os.unlink(self.path)  # noqa: PTH108
        except OSError as error:
            raise SysregError(f"{left}: {error.strerror}", next_step="remove it by hand") from None
        if self.status.st_nlink > 1:
            raise SysregError(
                f"the certificate is installed and {self.path} removed, but the file with its private key"
                " has another name (hard link)",
                next_step="remove that by hand",
            )


def read(path: str) -> CertificateFile:
    """Read a certificate file, ``-``: standard input. Raises OSError; SysregError for more than 64 KiB."""
    if path == "-":
        return _bounded("standard input", sys.stdin.buffer, None)
    with open(path, "rb") as file:  # noqa: PTH123
        return _bounded(path, file, os.fstat(file.fileno()))


def _bounded(path: str, file: BinaryIO, status: os.stat_result | None) -> CertificateFile:
    data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise SysregError(f"{path}: certificate refused: it has more than {_MOST_BYTES // 1024} KiB")
    return CertificateFile(path, data, status)


@command("certificate-install", output=True)
@click.argument("certificate_file", metavar="CERTIFICATE_FILE")
@click.option(
    "-m",
    "--mode",
    required=True,
    type=click.Choice(_MODES),
    help="docker_registry: the registry's own certificate with its key. ssl_ca: CAs that the system trusts.",
)
@click.option(
    "-p",
    "--passphrase",
    metavar="PASSPHRASE",
    help="Of the private key. Better in SYSREG_PASSPHRASE, or at the prompt: every user sees an argument.",
)
@click.option(
    "--keep-file", is_flag=True, help="Leave the file where it is, although it holds the private key."
)
@click.pass_obj
def install(
    invocation: Invocation, certificate_file: str, mode: str, passphrase: str | None, keep_file: bool
) -> None:
    """Install a certificate.

    CERTIFICATE_FILE is PEM: for docker_registry the private key, the server certificate, then its
    intermediates; - reads standard input. A file that holds a private key is removed once the new certificate
    is live, and never before. If anything goes wrong, the old certificate stays in use, and the file is left.
    """
    check_columns(invocation, (*_FIELDS, "warnings"))
    try:
        certificate = read(certificate_file)
    except OSError as error:
        raise UsageError(f"{certificate_file}: {error.strerror}") from None
    removes = mode == "docker_registry" and certificate.holds_key and not keep_file
    if removes and certificate.status is not None:
        if reason := certificate.reason_to_keep():
            say(invocation, f"{certificate_file} holds the private key and is not removed: {reason}.")
            removes = False
        else:
            say(
                invocation,
                f"{certificate_file} holds the private key: the file will be removed once it is installed.",
            )
    passphrase = passphrase or invocation.environ.get("SYSREG_PASSPHRASE") or _ask(certificate)

    from sysreg_cli.cli.agent_client import AgentClient

    wait = invocation.timeout if "timeout" in invocation.given else _INSTALL_SECONDS
    installed = _send(AgentClient.from_environment(invocation), certificate, mode, passphrase, wait)
    _show(invocation, mode, installed)
    if removes and certificate.status is not None:
        try:
            certificate.remove()
        except SysregError as error:
            invocation.report(error)


def _ask(certificate: CertificateFile) -> str | None:
    """Ask for the passphrase if the key needs one and somebody is there to ask."""
    if not certificate.is_encrypted or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    import getpass

    return getpass.getpass("Passphrase of the private key: ", stream=sys.stderr) or None


def _send(
    agent: AgentClient, certificate: CertificateFile, mode: str, passphrase: str | None, wait: float
) -> list[dict[str, Any]]:
    """Have the agent install it. Raises what went wrong, unless the answer is about this very certificate."""
    form = {"mode": mode, "wait": str(wait), **({"passphrase": passphrase} if passphrase else {})}
    answer = agent.fetch(
        "POST",
        "/v1/certificate/certificate_install",
        data=form,
        files={"file": ("certificate.pem", certificate.data)},
        read_timeout=wait,
    )
    error, installed = answer.get("error"), answer.get("certificates")
    if isinstance(error, str) and error:
        raise SysregError(f"{certificate.path}: {error}")
    odd = ProtocolError(
        "the agent's answer makes no sense: nobody knows whether the certificate is installed",
        next_step="look with certificate-list; the file is kept",
    )
    if error != "" or not isinstance(installed, list) or not installed:
        raise odd
    for one in installed:
        if not isinstance(one, dict) or not all(isinstance(one.get(name), str) for name in _FIELDS):
            raise odd
    if mode == "docker_registry" and installed[0]["signature"] != f"{mode}_{_serial(certificate.data)}":
        raise odd
    return installed


def _serial(data: bytes) -> int:
    from sysreg_cli.pki.check import read_certificates

    return read_certificates(data)[0].serial_number


def _show(invocation: Invocation, mode: str, installed: list[dict[str, Any]]) -> None:
    if mode == "docker_registry" or invocation.format == "table":
        for one in installed:
            show_properties(invocation, {name: one[name] for name in _FIELDS}, warnings=_warnings(one))
        return
    show_list(
        invocation,
        [*_FIELDS, "warnings"],
        [[*(one[name] for name in _FIELDS), _warnings(one)] for one in installed],
    )


def _warnings(one: dict[str, Any]) -> list[str]:
    found = one.get("warnings")
    return [str(warning) for warning in found] if isinstance(found, list) else []


@command("certificate-list", output=True)
@click.pass_obj
def list_all(invocation: Invocation) -> None:
    """List the installed certificates."""
    from sysreg_cli.cli.agent_client import AgentClient

    answer = AgentClient.from_environment(invocation).fetch("GET", "/v1/certificate")
    try:
        rows = [[one["name"], one["expiry_date"], one["subject"]] for one in answer["certificates"]]
    except (KeyError, TypeError):
        raise ProtocolError("the agent's list of certificates makes no sense") from None
    show_list(invocation, ["Name", "Expiry Date", "Subject"], rows)
    hints.expiry((name, date) for name, date, _ in rows)


@command("certificate-show", output=True)
@click.argument("certificate", metavar="NAME_OR_UUID")
@click.pass_obj
def show(invocation: Invocation, certificate: str) -> None:
    """Show an installed certificate.

    NAME_OR_UUID is what certificate-list names (docker_registry, ssl_ca_<serial>), or a UUID.
    """
    from urllib.parse import quote

    from sysreg_cli.cli.agent_client import AgentClient

    one = AgentClient.from_environment(invocation).fetch(
        "GET", f"/v1/certificate/{quote(certificate, safe='')}"
    )
    if any(name not in one for name in _FIELDS):
        raise ProtocolError("the agent's answer about the certificate makes no sense")
    show_properties(invocation, {name: one[name] for name in _FIELDS})
    hints.expiry([(certificate, one["expiry_date"])])
