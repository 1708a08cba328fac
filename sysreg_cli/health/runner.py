"""Runs the checks side by side, so that one that waits does not hold the others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from sysreg_cli.errors import SysregError, text_of
from sysreg_cli.health.checks import CHECKS
from sysreg_cli.health.readings import Agent, Readings
from sysreg_cli.health.results import Name, Remedy, Result, Skipped, failed, skipped
from sysreg_cli.settings import Settings

#: seconds for all checks but the one that reads every blob
_SECONDS = 12.0
_SEE_OTHERS = Remedy("mend what the other checks name first")


def run(
    settings: Settings, agent: Callable[[], Agent], names: Iterable[Name], *, deep: bool
) -> Mapping[Name, Result]:
    """Run the checks ``names``. ``agent`` returns a client of the agent for one thread.

    A check that has no result in time is failed. ``deep`` reads every blob, however long that takes.
    """
    readings = Readings(settings, agent, deep=deep)
    results: dict[Name, Result] = {}
    done: queue.SimpleQueue[tuple[Name, Result]] = queue.SimpleQueue()
    waiting = list(names)
    for name in waiting:
        # a daemon: one that hangs, as with a dead NFS server, must not keep the process from ending
        target = partial(_put, done, name, readings)
        threading.Thread(target=target, name=name, daemon=True).start()
    deadline = time.monotonic() + _SECONDS
    while missing := [name for name in waiting if name not in results]:
        endless = deep and missing == [Name.BLOBS]
        try:
            name, result = done.get(timeout=None if endless else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            for name in missing:
                if not (deep and name is Name.BLOBS):
                    results[name] = failed(f"no result within {_SECONDS:g} s", _SEE_OTHERS)
        else:
            results.setdefault(name, result)
    return {name: results[name] for name in waiting}


def _put(done: queue.SimpleQueue[tuple[Name, Result]], name: Name, readings: Readings) -> None:
    done.put((name, _run(name, readings)))


def _run(name: Name, readings: Readings) -> Result:
    try:
        return CHECKS[name](readings)
    except Skipped as reason:
        return skipped(str(reason))
    except SysregError as error:
        return failed(error.message, Remedy(error.next_step) if error.next_step else _SEE_OTHERS)
    except OSError as error:
        return failed(text_of(error), _SEE_OTHERS)
    except Exception as error:
        return failed(f"internal error, please report it: {type(error).__name__}: {error}", _SEE_OTHERS)
