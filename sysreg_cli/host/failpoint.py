"""Named places where a test may break the agent; without the environment variable each costs one lookup.

``SYSREG_AGENT_FAILPOINT`` is set by the fault sweep for the agent process it starts, and by nobody else.
Every ``reach`` is counted from the start of the process, and the variable says what happens where:

    trace:FILE      append the name of every place reached to FILE
    N:kill          SIGKILL at the Nth place
    PREFIX:stop     SIGSTOP at every place whose name begins so, until somebody sends SIGCONT
    N:ENOSPC        raise that OSError at the Nth place (any name of the errno module)
    N:ENOSPC+       the same there and at every later place of that kind (write...): a disk that stays full
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

VARIABLE = "SYSREG_AGENT_FAILPOINT"

_reached = 0
_persistent = ""


def reach(name: str) -> None:
    """Say that the place ``name`` is reached. Raises what the test asked for; else does nothing."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    global _reached, _persistent
    _reached += 1
    where, _, action = wanted.partition(":")
    if where == "trace":
        with Path(action).open("a") as trace:
            trace.write(f"{name}\n")
        return
    if action == "stop":
        if name.startswith(where):
            signal.raise_signal(
                signal.SIGSTOP
            )  # to this thread, so that it doesn't run on until another stops
        return
    if int(where) == _reached:
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        _persistent = name.split()[0] if action.endswith("+") else ""
    elif name.split()[0] != _persistent:
        return
    number = getattr(errno, action.rstrip("+"))
    raise OSError(number, os.strerror(number))
