"""Failpoints: named places at which a test makes the process fail.

A test sets the environment variable ``SYSREG_AGENT_FAILPOINT`` for a process that it starts. Nothing else
sets it. Without it, a failpoint costs one look into the environment. The value says what fails; N counts the
failpoints that the process has reached:

    trace:FILE      append the name of each failpoint to FILE
    N:kill          kill the process at failpoint N
    PREFIX:stop     stop the thread at each failpoint whose name begins with PREFIX, until a SIGCONT
    N:ENOSPC        raise OSError at failpoint N; any name of the module errno
    N:ENOSPC+       raise it there and at each later failpoint whose name begins with the same word, as a disk
                    does that stays full
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

VARIABLE = "SYSREG_AGENT_FAILPOINT"


class _State:
    """``reached`` counts failpoints; ``failing`` is the first word of those that fail from now on."""

    reached = 0
    failing = ""


def reset() -> None:
    """Count failpoints from the start again."""
    _State.reached, _State.failing = 0, ""


def reach(name: str) -> None:
    """Mark a failpoint. Raises OSError, or kills or stops, if the environment variable asks for it here."""
    fault = os.environ.get(VARIABLE)
    if not fault:
        return
    _State.reached += 1
    where, _, action = fault.partition(":")
    kind = name.split()[0]
    if where == "trace":
        with Path(action).open("a") as trace:
            trace.write(f"{name}\n")
    elif action == "stop":
        if name.startswith(where):
            # stops this thread at once, where os.kill lets it run until another thread has taken the signal
            signal.raise_signal(signal.SIGSTOP)
    elif int(where) == _State.reached or kind == _State.failing:
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if action.endswith("+"):
            _State.failing = kind
        number = getattr(errno, action.rstrip("+"))
        raise OSError(number, os.strerror(number))
