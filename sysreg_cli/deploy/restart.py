"""Restart the registry or the token server, and refuse no client meanwhile.

The registry reads its configuration only at its start, and both read their code only then. New connections
wait meanwhile (``host.connections``). Without nftables, the daemon is restarted all the same, and the
operator is told that clients may be refused.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sysreg_cli.addresses import HostPort
from sysreg_cli.deploy.machine import CommandFailed, Programs
from sysreg_cli.deploy.resource import Context
from sysreg_cli.errors import Unavailable
from sysreg_cli.host import failpoint
from sysreg_cli.host.connections import HOLD_SECONDS, TABLE, hold_rules, listens
from sysreg_cli.registry.metrics import RegistryMetrics, fetch

# Clients give a connection some 30 s, and send their SYN again after 1, 3, 7 and 15 s. The wait for a quiet
# moment, the end of the requests (10 s) and the start have to be over by the last of these. The limits of the
# kernel's rule, before and during the restart, are for a run that is killed.
_MAX_WAIT_FOR_QUIET = 4.0
_HOLD_BEFORE = 8
#: for a moment without a request in flight: a restart does not cut a long upload short
_MAX_WAIT_FOR_IDLE = 60.0
#: Without a request for so long, no client is between two requests on a connection that it keeps open.
_QUIET = 0.3
_PAUSE = 0.03
_MAX_START = 20.0
_RESTART_TIMEOUT = 240.0


@dataclass(frozen=True)
class Listener:
    """A unit that listens on a TCP port. The registry also has ``metrics``."""

    unit: str
    port: int
    metrics: HostPort | None = None

    def restart(self, context: Context) -> None:
        """Restart it, and return when it listens again. Raises CommandFailed."""
        if not listens(self.port):
            context.programs.change("systemctl", "restart", self.unit, timeout=_RESTART_TIMEOUT)
            return
        _wait_for(lambda: not ((reading := self._reading()) and reading.busy), _MAX_WAIT_FOR_IDLE)
        with self._connections_held(context) as held:
            if held:
                self._wait_until_quiet()
                context.programs.change("nft", hold_rules(self.port, HOLD_SECONDS))
            context.programs.change("systemctl", "restart", self.unit, timeout=_RESTART_TIMEOUT)
            _wait_for(lambda: listens(self.port), _MAX_START)

    @contextlib.contextmanager
    def _connections_held(self, context: Context) -> Iterator[bool]:
        """Make new connections wait. Yields whether they do."""
        try:
            context.programs.change("nft", hold_rules(self.port, _HOLD_BEFORE))
        except CommandFailed as error:
            context.report(
                f"connections may be refused for a moment while {self.unit} restarts: {error.reason}"
            )
            yield False
            return
        try:
            yield True
        finally:
            failpoint.reach("admit connections")
            admit_connections(context.programs)

    def _reading(self) -> RegistryMetrics | None:
        with contextlib.suppress(Unavailable):
            return fetch(self.metrics, timeout=2.0) if self.metrics else None
        return None

    def _wait_until_quiet(self) -> None:
        """Wait until no request began or ended for a while. Without metrics, wait for that while alone."""
        deadline = time.monotonic() + _MAX_WAIT_FOR_QUIET
        before, since = self._reading(), time.monotonic()
        while time.monotonic() < deadline:
            reading = self._reading()
            if reading is not None and (reading != before or reading.busy):
                before, since = reading, time.monotonic()
            elif time.monotonic() - since >= _QUIET:
                return
            time.sleep(_PAUSE)


def admit_connections(programs: Programs) -> None:
    """Remove the rule that a killed run may have left."""
    with contextlib.suppress(CommandFailed):
        programs.query("nft", f"delete table {TABLE}")


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(_PAUSE)
