"""Runs the checks side by side, so that one that waits does not hold the others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from functools import partial

from sysreg_cli.errors import SysregError, text_of
from sysreg_cli.health.checks import Check
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.results import Name, Remedy, Result, Skipped, failed, skipped

#: seconds for all checks but the one that reads every blob
SECONDS = 12.0
_SEE_OTHERS = Remedy("mend what the other checks name first")


def run(
    readings: Readings, checks: Mapping[Name, Check], *, seconds: float = SECONDS
) -> Mapping[Name, Result]:
    """Run the checks. One that has no result within ``seconds`` is failed, but the reading of all blobs."""
    results: dict[Name, Result] = {}
    done: queue.SimpleQueue[tuple[Name, Result]] = queue.SimpleQueue()
    for name, check in checks.items():
        # a daemon: one that hangs, as with a dead NFS server, must not keep the process from ending
        target = partial(_put, done, name, check, readings)
        threading.Thread(target=target, name=name, daemon=True).start()
    deadline = time.monotonic() + seconds
    while missing := [name for name in checks if name not in results]:
        is_endless = readings.deep and missing == [Name.BLOBS]
        try:
            name, result = done.get(timeout=None if is_endless else max(0.0, deadline - time.monotonic()))
            results.setdefault(name, result)
        except queue.Empty:
            late = failed(f"no result within {seconds:g} s", _SEE_OTHERS)
            results |= {name: late for name in missing if not (readings.deep and name is Name.BLOBS)}
    return {name: results[name] for name in checks}


def _put(done: queue.SimpleQueue[tuple[Name, Result]], name: Name, check: Check, readings: Readings) -> None:
    done.put((name, _result(check, readings)))


def _result(check: Check, readings: Readings) -> Result:
    try:
        return check(readings)
    except Skipped as reason:
        return skipped(str(reason))
    except SysregError as error:
        return failed(error.message, Remedy(error.next_step) if error.next_step else _SEE_OTHERS)
    except OSError as error:
        return failed(text_of(error), _SEE_OTHERS)
    except Exception as error:
        return failed(f"internal error, please report it: {type(error).__name__}: {error}", _SEE_OTHERS)
