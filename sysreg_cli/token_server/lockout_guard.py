"""The lockout guard: it keeps refused credentials away from Keystone.

Keystone counts failed logins without a time window. A stale imagePullSecret that a kubelet tries every minute
would lock its account.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import replace

from sysreg_cli.token_server.refusal_store import Refusal, RefusalStore

# Seconds after the first, the second and every further refusal before Keystone is asked again.
_BACK_OFF = (600, 3600, 86400)


class LockoutGuard:
    """The refusals of credentials, by fingerprint. Times are seconds of the wall clock.

    It decides by its memory. The store only serves the next start.
    """

    def __init__(
        self, store: RefusalStore, *, max_entries: int = 10_000, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._max_entries = max_entries
        self._clock = clock
        self._refusals = OrderedDict(store.load(max_entries))

    def seconds_left(self, fingerprint: bytes) -> float:
        """Return for how many seconds Keystone must not be asked about the credentials; 0 if it may."""
        refusal = self._refusals.get(fingerprint)
        if refusal is None:
            return 0.0
        now = self._clock()
        if now < refusal.refused_at:
            # the clock was set back: the time counts from now
            refusal = self._refusals[fingerprint] = replace(refusal, refused_at=now)
        return max(0.0, refusal.refused_at + _pause(refusal) - now)

    def add(self, fingerprint: bytes, name: bytes) -> float:
        """Record a refusal of ``name``. Return the seconds until Keystone may be asked again."""
        known = self._refusals.pop(fingerprint, None)
        times = min(known.times + 1 if known else 1, len(_BACK_OFF))
        refusal = self._refusals[fingerprint] = Refusal(name, self._clock(), times)
        surplus = max(0, len(self._refusals) - self._max_entries)
        self._store.save(
            fingerprint, refusal, dropped=[self._refusals.popitem(last=False)[0] for _ in range(surplus)]
        )
        return _pause(refusal)

    def forget_names(self, names: Collection[bytes]) -> None:
        """Forget the refusals of users who logged in, which set Keystone's counter back to zero."""
        fingerprints = [known for known, refusal in self._refusals.items() if refusal.name in names]
        for fingerprint in fingerprints:
            del self._refusals[fingerprint]
        if fingerprints:
            self._store.remove(fingerprints)

    def clear(self) -> None:
        """Forget all refusals."""
        self._refusals.clear()
        self._store.clear()

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def __len__(self) -> int:
        return len(self._refusals)


def _pause(refusal: Refusal) -> int:
    return _BACK_OFF[min(refusal.times, len(_BACK_OFF)) - 1]
