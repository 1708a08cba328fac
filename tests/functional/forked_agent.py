"""An agent forked from a process that has already imported it.

The sweeps start hundreds of agents, and four fifths of a start are imports.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sysreg_cli.agent import main as agent

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([agent.__name__])


class ForkedAgent:
    """``sysreg-agent`` as a process of its own, with just ``environment``; its output is added to ``log``."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._process = _FORKS.Process(target=_be_the_agent, args=(environment, log), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.status is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> int:
        """Wait for its end, and return the exit status. Raises TimeoutError."""
        self._process.join(seconds)
        if self.status is None:
            raise TimeoutError(f"the agent {self.pid} still runs after {seconds:g} s")
        return self.status


def _be_the_agent(environment: Mapping[str, str], log: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.exit(agent.main([]))
