"""Waiting, under the write fence, until no write can be under way in the registry (CONTRACTS 5.2).

A request is authorised when it starts, so two things must be over: the time for which the latest write
token is accepted, and then the requests that began before. The registry counts requests in flight by
handler. Handlers that write serve reads as well, so each has to be seen at zero once: later requests can't
be writes any more.
"""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Callable

from sysreg_cli.agent.garbage.registry_config import RegistryConfig
from sysreg_cli.errors import Unavailable

# Handlers of distribution 2.8 through which something is written. `blob` deletes a link at most.
_WRITERS = ("manifest", "blob_upload", "blob_upload_chunk")
_GAUGE = re.compile(r'^registry_http_in_flight_requests\{handler="(\w+)"\} (\S+)$', re.MULTILINE)
_TIMEOUT = 5.0


def wait_for_writes(config: RegistryConfig, pause: Callable[[float, str], None]) -> None:
    """Return once every handler that writes was seen idle. ``pause`` waits, and ends the wait by raising.

    Raises Unavailable if the registry runs but doesn't show its gauges. One that doesn't run writes nothing.
    """
    busy = set(_WRITERS)
    while True:
        gauges = _in_flight(config)
        if gauges is None:
            return
        busy -= {handler for handler in busy if gauges.get(handler, 0.0) == 0}
        if not busy:
            return
        pause(0.05, f"pushes under way ({', '.join(sorted(busy))})")


def is_idle(config: RegistryConfig) -> bool:
    """Whether at this moment no request is in flight that may write. Raises Unavailable as above."""
    gauges = _in_flight(config)
    return gauges is None or not any(gauges.get(handler, 0.0) for handler in _WRITERS)


def _in_flight(config: RegistryConfig) -> dict[str, float] | None:
    """Requests in flight by handler, or None if the registry doesn't run."""
    advice = "set http.debug.addr and http.debug.prometheus in it, as sysreg-deploy does"
    if not config.debug:
        if not _listens(config.listen):
            return None
        raise Unavailable(
            f"whether a push is under way can't be seen: {config.path} has no http.debug.prometheus",
            next_step=advice,
        )
    host, port = _address(config.debug)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", config.metrics)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except ConnectionRefusedError:
        if not _listens(config.listen):
            return None
        raise Unavailable(
            f"the registry runs, but doesn't answer at its debug address {config.debug}",
            next_step="restart it",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the registry's debug address {config.debug}: {error}") from None
    finally:
        connection.close()
    gauges = {handler: float(value) for handler, value in _GAUGE.findall(text)}
    if answer.status != 200 or not gauges:
        raise Unavailable(f"{config.debug}{config.metrics} shows no requests in flight", next_step=advice)
    return gauges


def _listens(address: str) -> bool:
    try:
        with socket.create_connection(_address(address), timeout=_TIMEOUT):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return True  # unknown: rather too careful


def _address(text: str) -> tuple[str, int]:
    """Go's host:port: an empty host, or the unspecified address, is this machine; no port means 80."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    return ("127.0.0.1" if host in ("", "0.0.0.0") else "::1" if host == "::" else host), int(port or 80)  # noqa: S104
