"""Docker and containerd on this host, which read the system's CA certificates only when they start.

Go's crypto/x509 loads them once in a process. So a daemon that runs trusts neither a new CA certificate nor
distrusts a removed one before its restart.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from sysreg_cli.host.processes import unit_of

#: the name of the process -> the unit, unless the process belongs to another one, such as that of k3s
_UNITS = {"dockerd": "docker.service", "containerd": "containerd.service"}


def running_units(proc: Path = Path("/proc")) -> tuple[str, ...]:
    """Return the units of the client daemons that run on this host, in the order of their names."""
    units = set()
    for process in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end meanwhile
            name = (process / "comm").read_text().strip()
            if name in _UNITS:
                units.add(unit_of(process) or _UNITS[name])
    return tuple(sorted(units))
