"""Writes one entry, also if an answer is lost, as it may be when a server of etcd fails."""

from __future__ import annotations

from sysreg_cli.cluster.port import Entry, Expected, Put, Store
from sysreg_cli.errors import Changed, OutcomeUnknown

_ATTEMPTS = 3


def put(store: Store, key: str, value: bytes, before: Entry | None) -> None:
    """Write ``value`` in the place of ``before``.

    Raises Changed if somebody else wrote since, OutcomeUnknown if it cannot be found out whether it is done,
    and what the methods of ``Store`` raise.
    """
    revision = before.revision if before else 0
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            store.transact([Expected(key, revision)], [Put(key, value)])
        except (OutcomeUnknown, Changed) as error:
            # Changed may be the work of an earlier attempt whose answer was lost
            if attempt == _ATTEMPTS or (attempt == 1 and isinstance(error, Changed)):
                raise
            present = store.get(key)
            if present is not None and present.value == value:
                return
            if (present.revision if present else 0) != revision:
                raise Changed(f"somebody else changed {key}", next_step="read it and try again") from None
        else:
            return
