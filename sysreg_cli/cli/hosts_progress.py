"""Shows on a terminal how far the hosts of a cluster are, while the agent changes certificates."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sysreg_cli.errors import SysregError
from sysreg_cli.text import printable

if TYPE_CHECKING:
    from sysreg_cli.cli.agent_client import AgentClient
    from sysreg_cli.cli.invocation import Invocation
    from sysreg_cli.v1.hosts import RegistryHost

#: between two looks at the hosts, in seconds
_PAUSE = 0.5
#: a look that hangs does not delay the end of the command for longer, in seconds
_LAST_LOOK = 1.0
_ERASE_LINE = "\r\x1b[K"


@contextlib.contextmanager
def shown(agent: AgentClient, invocation: Invocation, *, pause: float = _PAUSE) -> Iterator[None]:
    """Keep one line on standard error up to date. Without a terminal, or other hosts, there is none."""
    if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", None):
        yield
        return
    line = _Line()
    observer = agent.another(invocation)
    thread = threading.Thread(target=_watch, args=(observer, line, pause), daemon=True)
    thread.start()
    try:
        yield
    finally:
        line.end()
        thread.join(_LAST_LOOK)


def summary(hosts: Sequence[RegistryHost]) -> str:
    """Return how many of the hosts are live, and each other state with the names of its hosts."""
    by_state: dict[str, list[str]] = {}
    for host in hosts:
        by_state.setdefault(host.state, []).append(host.host)
    live = len(by_state.pop("live", ()))
    others = (f"; {state}: {', '.join(names)}" for state, names in sorted(by_state.items()))
    return f"{live} of {len(hosts)} hosts live{''.join(others)}"


class _Line:
    """The line, which two threads use: after ``end`` nothing is written any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_shown = False
        self.ended = threading.Event()

    def show(self, text: str) -> None:
        room = shutil.get_terminal_size().columns - 1
        with self._lock:
            if not self.ended.is_set():
                self._write(_ERASE_LINE + printable(text)[:room])
                self._is_shown = True

    def end(self) -> None:
        with self._lock:
            self.ended.set()
            if self._is_shown:
                self._write(_ERASE_LINE)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


def _watch(agent: AgentClient, line: _Line, pause: float) -> None:
    """Show the hosts until the line ends. What cannot be found out is not shown."""
    while not line.ended.wait(pause):
        with contextlib.suppress(SysregError, OSError):
            others = [host for host in agent.hosts().hosts if host.role != "controller"]
            if not others:
                break
            line.show(summary(others))
    agent.close()
