"""Tells the store that this host lives: a key with a lease, which ends soon after the host does.

The lease is a hint for the controller. What this host does never depends on it.
"""

from __future__ import annotations

import contextlib
import logging
import threading

from sysreg_cli.cluster.keys import Part, host_key
from sysreg_cli.cluster.port import Expected, Put, Store
from sysreg_cli.cluster.records import Alive, encode
from sysreg_cli.errors import SysregError

#: seconds after which a host that says nothing is shown as down
LEASE_SECONDS = 15

_log = logging.getLogger(__name__)


class Presence:
    """Keeps the key ``alive`` of a host, in a thread of its own."""

    def __init__(self, store: Store, host: str, boot_id: str, *, seconds: int = LEASE_SECONDS) -> None:
        self._store = store
        self._key = host_key(host, Part.ALIVE)
        self._value = encode(Alive(boot_id))
        self._seconds = seconds
        self._lease = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it. The host counts as down at once, if the store answers."""
        self._stopping.set()
        self._thread.join()
        if self._lease:
            with contextlib.suppress(SysregError):
                self._store.revoke(self._lease)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._keep()
            except SysregError as error:
                # the thread that follows the store says it once
                _log.debug("not shown as alive: %s", error)
            except Exception:
                _log.exception("not shown as alive")
            self._stopping.wait(self._seconds / 3)

    def _keep(self) -> None:
        """Prolong the lease, and write the key if it is not there. Raises SysregError."""
        if self._lease and not self._store.keep(self._lease):
            self._lease = 0
        entry = self._store.get(self._key)
        if self._lease and entry and (entry.lease, entry.value) == (self._lease, self._value):
            return
        self._lease = self._lease or self._store.lease(self._seconds)
        expected = Expected(self._key, entry.revision if entry else 0)
        self._store.transact([expected], [Put(self._key, self._value, self._lease)])
