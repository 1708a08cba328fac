"""Checks of the names of the registry, and of what listens there."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from ipaddress import ip_address
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from sysreg_cli.addresses import HostPort
from sysreg_cli.errors import SysregError
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.remedies import AGENT_UNIT, DEPLOY, restart, take_port
from sysreg_cli.health.results import Remedy, Result, Skipped, failed, ok
from sysreg_cli.host import processes
from sysreg_cli.host.probe import Endpoint, NoResponse, Response
from sysreg_cli.registry.challenge import parse_bearer

_VERSION_HEADER = "Docker-Distribution-Api-Version"
_REPAIR_NAMES = Remedy("correct that in /etc/hosts, DNS or sysreg.conf, then repair it", "sysreg-deploy")


def names(readings: Readings) -> Result:
    """Each of ``host_names`` leads to this host."""
    found = {name: _addresses(name) for name in readings.settings.registry.host_names}
    unknown = [name for name, addresses in found.items() if not addresses]
    if unknown:
        return failed(f"{', '.join(unknown)}: no address is known on this host", DEPLOY)
    elsewhere = [
        f"{name} is {address}" if name != address else name
        for name, addresses in found.items()
        for address in addresses
        if not _is_own(address)
    ]
    if elsewhere:
        return failed(f"{', '.join(elsewhere)}, which is no address of this host", _REPAIR_NAMES)
    return ok(", ".join(f"{name} is {' and '.join(addresses)}" for name, addresses in found.items()))


def _addresses(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_own(address: str) -> bool:
    """Whether an interface of this host has the address: only then can a socket be bound to it.

    A loopback address is its own even if the kernel has no IPv6.
    """
    if ip_address(address.partition("%")[0]).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as test:
            test.bind((address, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def registry(readings: Readings) -> Result:
    """The registry answers, and wants tokens of the token server."""
    endpoint, settings = readings.registry_endpoint, readings.settings
    response = _response(readings, endpoint, readings.registry)
    if isinstance(response, Result):
        return response
    if not response.headers.get(_VERSION_HEADER):
        return _other_program(readings, endpoint, "what answers is no registry")
    if response.status == 200:
        return failed(f"the registry at {endpoint.address} serves everybody without a token", DEPLOY)
    challenge = parse_bearer(response.headers.get_all("WWW-Authenticate", []))
    if response.status != 401 or challenge is None:
        what = f"the registry at {endpoint.address} answers GET {endpoint.path} with {response.status}"
        return failed(what, restart(settings, endpoint.name))
    realm = urlsplit(challenge.realm)
    server = str(HostPort(realm.hostname or "", realm.port or 443))
    if server not in settings.token_servers:
        what = f"the registry sends clients to the token server {server}, not to {settings.token_servers[0]}"
        return failed(what, DEPLOY)
    return ok(f"it answers at {endpoint.address}")


def token_server(readings: Readings) -> Result:
    """The token server answers."""
    endpoint = readings.token_server_endpoint
    response = _response(readings, endpoint, readings.token_server)
    if isinstance(response, Result):
        return response
    if not readings.token_server_health:
        return _other_program(readings, endpoint, "what answers is no token server of sysreg")
    return ok(f"it answers at {endpoint.address}")


def agent(readings: Readings) -> Result:
    """The agent answers on its unix socket, and over TLS if it has that listener."""
    where, settings = readings.settings.agent.socket, readings.settings
    answering = []
    try:
        if json.loads(readings.agent_socket()) != {"status": "ok"}:
            return failed(f"what answers at {where} is no agent of sysreg", restart(settings, AGENT_UNIT))
        answering.append(str(where))
    except PermissionError:
        if readings.agent_endpoint is None:
            raise Skipped(f"only root and the group of {where} may ask the agent; try with sudo") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", "") or type(error).__name__
        return failed(f"the agent does not answer at {where} ({reason})", restart(settings, AGENT_UNIT))
    if (endpoint := readings.agent_endpoint) is not None:
        response = _response(readings, endpoint, readings.agent_tls, AGENT_UNIT)
        if isinstance(response, Result):
            return response
        if response.status != 200:
            return _other_program(readings, endpoint, "what answers is no agent of sysreg", AGENT_UNIT)
        answering.append(str(endpoint.address))
    return ok(f"it answers at {' and '.join(answering)}")


def _response(
    readings: Readings, endpoint: Endpoint, read: Callable[[], Response], unit: str = ""
) -> Response | Result:
    """Return the response of an endpoint, or why there is none."""
    unit = unit or endpoint.name
    try:
        return read()
    except NoResponse as error:
        match error.cause:
            case socket.gaierror():
                what = f"{endpoint.address}: the name {endpoint.address.host} is not known on this host"
                return failed(what, DEPLOY)
            case ssl.SSLError() | http.client.HTTPException() | ConnectionResetError():
                return _other_program(readings, endpoint, "what answers does not speak HTTPS", unit)
        return failed(str(error), restart(readings.settings, unit))


def _other_program(readings: Readings, endpoint: Endpoint, problem: str, unit: str = "") -> Result:
    """Name the process that has the port, if it is not that of the service."""
    unit = unit or endpoint.name
    others = [it for it in processes.listening(endpoint.address.port) if it.unit != unit]
    what = f"{endpoint.address}: {problem}"
    if not others:
        return failed(what, restart(readings.settings, unit))
    named = ", ".join(map(str, others))
    return failed(f"{what}: {named} has the port", take_port(readings.settings, unit, others))


def listeners(readings: Readings) -> Result:
    """Each listener presents the certificate that is on the disk."""
    chain = [certificate.public_bytes(Encoding.DER) for certificate in readings.chain_or_skip()]
    asked: list[tuple[Endpoint | None, Callable[[], Response], str]] = [
        (readings.registry_endpoint, readings.registry, ""),
        (readings.token_server_endpoint, readings.token_server, ""),
        (readings.agent_endpoint, readings.agent_tls, AGENT_UNIT),
    ]
    same, other = [], {}
    for endpoint, read, unit in asked:
        try:
            presented = read().chain
        except (SysregError, Skipped):
            continue  # the check of that service says it
        assert endpoint is not None, "it has answered"
        if presented == chain:
            same.append(endpoint)
        else:
            other[unit or endpoint.name] = endpoint
    if other:
        named = " and ".join(f"{it.name} at {it.address}" for it in other.values())
        what = f"{named} present another certificate than {readings.settings.certificate.chain}"
        return failed(what, restart(readings.settings, *other))
    if not same:
        raise Skipped("no listener answers")
    return ok(f"{len(same)} listeners present {readings.settings.certificate.chain}")
