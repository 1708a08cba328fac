"""Opens the storage for one call of the API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sysreg_cli.errors import NotSupported, SysregError, text_of
from sysreg_cli.host import registry_config
from sysreg_cli.host.ownership import as_owner, no_rights
from sysreg_cli.settings import Settings


@contextlib.contextmanager
def open_root(settings: Settings, *, change: bool = False) -> Iterator[Path]:
    """Yield the root directory of the configured registry's storage, with the rights of its owner.

    Raises NotSupported unless the storage driver is ``filesystem``, and for a ``change`` if the registry
    takes no deletes; SysregError for an OSError, with a ``chown`` if rights are missing.
    """
    config = registry_config.load(settings)
    if change and not config.deletes:
        raise NotSupported(
            "the registry is read-only, or has deletes switched off",
            next_step=f"see storage.delete and storage.maintenance in {config.path}",
        )
    if config.root is None:
        raise NotSupported(
            f"the registry's storage has the driver {config.driver}, which the agent cannot read",
            next_step="registry-image-list, registry-image-tags and registry-image-delete work without it",
        )
    try:
        with as_owner(config.root):
            yield config.root
    except OSError as error:
        if isinstance(error, PermissionError) and error.filename:
            raise no_rights(config.root, str(error.filename)) from None
        raise SysregError(f"the registry's storage: {text_of(error)}") from error
