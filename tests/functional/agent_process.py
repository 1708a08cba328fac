"""An agent that is forked from a process that has imported it.

The sweeps start hundreds of agents, and imports are four fifths of a start.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from sysreg_cli.agent import main as agent
from sysreg_cli.agent.renewal.renewal import Pace
from sysreg_cli.host import failpoint

# Short times: a sweep renews a certificate dozens of times.
_PACE = Pace(poll=0.02, rest=0.25, long_rest=0.25, first_look=0.25)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([agent.__name__])


class AgentProcess:
    """``sysreg-agent`` as a process of its own with just this ``environment``. ``log`` gets its output."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._faults, faults = _FORKS.Pipe()
        self._process = _FORKS.Process(target=_run_agent, args=(environment, log, faults), daemon=True)
        self._process.start()
        faults.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while the agent runs."""
        return self._process.exitcode

    def set_fault(self, fault: str) -> None:
        """Give the running agent a value of its failpoint variable. Failpoints count from here."""
        self._faults.send(fault)
        assert self._faults.poll(30), "the agent does not take the fault"
        self._faults.recv()

    def send(self, number: int) -> None:
        """Send a signal, unless the agent has ended."""
        if self.status is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> int:
        """Wait for the agent's end, and return its exit status. Raises TimeoutError."""
        self._process.join(seconds)
        if self.status is None:
            raise TimeoutError(f"the agent {self.pid} still runs after {seconds:g} s")
        return self.status


def _run_agent(environment: Mapping[str, str], log: Path, faults: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    threading.Thread(target=_take_faults, args=(faults,), daemon=True).start()
    sys.exit(agent.main([], pace=_PACE))


def _take_faults(faults: Connection) -> None:
    while True:
        try:
            fault = faults.recv()
        except EOFError:
            return
        failpoint.reset()
        os.environ[failpoint.VARIABLE] = fault
        faults.send(None)
