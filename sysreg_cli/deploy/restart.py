"""Restarting the registry without turning a client away.

The registry reads ``rootcertbundle`` and its configuration only at its start. Its ``draintimeout`` lets
requests under way come to their end, but whoever connects meanwhile would be refused. So the kernel drops the
first packet (SYN) of new connections for that while, and clients send it again after a second, as TCP has it.

That is a rule of nftables whose port stands in a set with a time limit: whatever dies, the kernel lets
connections in again by itself. Without nftables the registry is restarted all the same, and the line
that ``report`` gets says what that means.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sysreg_cli.deploy.items import ask, command
from sysreg_cli.errors import SysregError
from sysreg_cli.host import failpoint

_TABLE = "inet sysreg"
#: Clients give a connection some 30 s and send their SYN after 1, 3, 7 and 15 s: quiet, drain (10 s) and
#: start have to be over by the last of these. The kernel's own limits, before and during the restart, are for
#: a run that was killed.
_QUIET_SECONDS = 4.0
_HELD_BEFORE = 8
_HELD_DURING = 14
#: How long to wait, before that, for a moment without a request in flight: a long upload is not cut short.
_IDLE_SECONDS = 60.0
#: Without a request for so long, a connection that is kept open is not between two requests of a client.
_QUIET = 0.3
_PAUSE = 0.03
_START_SECONDS = 20.0
_LISTEN = "0A"
_REQUESTS = re.compile(r"^registry_http_\w+(?:\{.*\})? \S+$", re.MULTILINE)
_IN_FLIGHT = re.compile(r'^registry_http_in_flight_requests\{handler="\w+"\} (\S+)$', re.MULTILINE)


def restart_registry(unit: str, port: int, debug: str, report: Callable[[str], None]) -> None:
    """Restart ``unit``, which listens on ``port`` and shows its metrics at ``debug`` (host:port).

    Returns when it listens again. Raises SysregError if it can't be restarted.
    """
    if not listens(port):
        command("systemctl", "restart", unit, timeout=240)
        return
    _wait_for(lambda: in_flight(_metrics(debug)) == 0, _IDLE_SECONDS)
    with _held(port, report) as held:
        if held:
            _wait_until_quiet(debug)
            command("nft", hold_rules(port, _HELD_DURING))
        command("systemctl", "restart", unit, timeout=240)
        _wait_for(lambda: listens(port), _START_SECONDS)


def let_in() -> None:
    """Take back what a run that was killed has told the kernel; nothing if there is nothing."""
    with contextlib.suppress(SysregError):
        ask("nft", f"delete table {_TABLE}")


@contextlib.contextmanager
def _held(port: int, report: Callable[[str], None]) -> Iterator[bool]:
    """New connections to ``port`` wait meanwhile; yields whether that is so."""
    rules = hold_rules(port, _HELD_BEFORE)
    try:
        command("nft", rules)
    except SysregError as error:
        why = str(error).replace(f" {rules}", "")
        report(f"connections may be refused for a moment while the registry restarts: {why}")
        yield False
        return
    try:
        yield True
    finally:
        failpoint.reach("let in")
        let_in()


def hold_rules(port: int, seconds: int) -> str:
    """What tells the kernel to drop the first packets of new connections to ``port`` for so many seconds.

    One transaction, whatever was left there before. Only pure SYNs: connections that stand are not touched.
    """
    return (
        f"add table {_TABLE}; delete table {_TABLE}; add table {_TABLE};"
        f" add set {_TABLE} held {{ type inet_service; flags timeout; }};"
        f" add chain {_TABLE} arriving {{ type filter hook input priority -150; policy accept; }};"
        f" add rule {_TABLE} arriving tcp flags & (fin | syn | rst | ack) == syn tcp dport @held drop;"
        f" add element {_TABLE} held {{ {port} timeout {seconds}s }}"
    )


def listens(port: int) -> bool:
    """Whether somebody listens on the TCP port, as the kernel says: connecting may be held up by our rule."""
    for name in ("tcp", "tcp6"):
        table = Path("/proc/net") / name
        if table.exists() and is_listening(table.read_text(), port):
            return True
    return False


def is_listening(table: str, port: int) -> bool:
    """Whether a table of proc(5)'s /proc/net/tcp has a listener on ``port``."""
    for line in table.splitlines()[1:]:
        words = line.split()
        if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
            return True
    return False


def in_flight(metrics: str) -> int:
    """Requests that the registry is at work on, from the text of its metrics."""
    return int(sum(float(value) for value in _IN_FLIGHT.findall(metrics)))


def _wait_until_quiet(debug: str) -> None:
    """Wait until no request has come or ended for a while, so that no idle connection is about to be used."""
    deadline = time.monotonic() + _QUIET_SECONDS
    before, since = "", time.monotonic()
    while time.monotonic() < deadline:
        metrics = _metrics(debug)
        present = "\n".join(_REQUESTS.findall(metrics))
        if present != before or in_flight(metrics):
            before, since = present, time.monotonic()
        elif time.monotonic() - since >= _QUIET:
            return
        time.sleep(_PAUSE)


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def _metrics(debug: str) -> str:
    """The registry's metrics; empty if it doesn't show any."""
    connection = http.client.HTTPConnection(debug, timeout=2)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
