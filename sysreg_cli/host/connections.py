"""Makes new connections to a port wait while its listener restarts, so that no client is refused.

A daemon that stops finishes the requests that it has, but a client that connects between stop and start would
be refused. So the kernel drops the first packet (SYN) of each new connection during that time. TCP sends that
packet again after a second.

A rule of nftables does that. Its port is in a set with a time limit: if this program dies, the kernel admits
connections again by itself. Without nftables, or the right to use it, clients may be refused.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from sysreg_cli.errors import Unavailable
from sysreg_cli.host.services import run_command

TABLE = "inet sysreg"
# Clients give a connection some 30 s, and send their SYN again after 1, 3, 7 and 15 s. A restart has to be
# over by the last of these.
HOLD_SECONDS = 14
_NFT_SECONDS = 10.0
_PAUSE = 0.03
_LISTEN_STATE = "0A"

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def held(port: int) -> Iterator[None]:
    """Let new connections to ``port`` wait. Afterwards, wait until something listens there again.

    If the restart fails and nothing listens, connections wait until their time is over: another try may
    follow at once, and a client that is refused does not come again.
    """
    try:
        _nft(hold_rules(port, HOLD_SECONDS))
    except Unavailable as error:
        _log.info("connections may be refused for a moment: %s", error)
        yield
        return
    deadline = time.monotonic() + HOLD_SECONDS
    try:
        yield
        while not listens(port) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
    finally:
        if listens(port):
            with contextlib.suppress(Unavailable):
                _nft(f"delete table {TABLE}")


def _nft(rules: str) -> None:
    """Raises Unavailable."""
    run_command(["nft", rules], "nftables", timeout=_NFT_SECONDS)


def hold_rules(port: int, seconds: int) -> str:
    """The commands for nft that drop the first packets of new connections to ``port`` for so many seconds.

    They are one transaction, and replace earlier ones. They match only SYN packets, so they leave connections
    that exist alone.
    """
    return (
        f"add table {TABLE}; delete table {TABLE}; add table {TABLE};"
        f" add set {TABLE} held {{ type inet_service; flags timeout; }};"
        f" add chain {TABLE} arriving {{ type filter hook input priority -150; policy accept; }};"
        f" add rule {TABLE} arriving tcp flags & (fin | syn | rst | ack) == syn tcp dport @held drop;"
        f" add element {TABLE} held {{ {port} timeout {seconds}s }}"
    )


def listens(port: int) -> bool:
    """Whether a process listens on the TCP port. The kernel says so: the rule could hold a connection."""
    tables = [path for name in ("tcp", "tcp6") if (path := Path("/proc/net") / name).exists()]
    return any(is_listening(path.read_text(), port) for path in tables)


# The tests have psutil for this; a dependency of the product for ten lines would not be worth it.
def is_listening(table: str, port: int) -> bool:
    """Whether ``table``, the text of proc(5)'s /proc/net/tcp, has a listener on ``port``."""
    for line in table.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == _LISTEN_STATE and int(local.rpartition(":")[2], 16) == port:
            return True
    return False
