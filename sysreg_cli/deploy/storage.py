"""The storage of the registry: its user can use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.deploy.resource import Change, Context, Resource
from sysreg_cli.errors import SysregError
from sysreg_cli.host.ownership import require_rights


@dataclass(frozen=True)
class StorageRights(Resource):
    """The registry's user may list and change its storage. After a restore, it may be another's.

    Only the operator repairs it: sysreg-deploy does not touch images.
    """

    storage: Path
    user: str

    def compare(self, context: Context) -> Change | None:
        return None

    def refusal(self) -> SysregError | None:
        try:
            require_rights(self.storage, _directories(self.storage), self.user)
        except SysregError as error:
            return error
        except FileNotFoundError:
            return None  # nothing was pushed
        return None


def _directories(storage: Path) -> Iterator[str]:
    """Yield directories of the storage, but not the many that each hold one link or one blob.

    A restore that gives files to the wrong user does it to these as well.
    """
    pending = [str(storage)]
    while pending:
        directory = pending.pop()
        yield directory
        above, name = os.path.split(directory)
        is_prefix = os.path.basename(os.path.dirname(above)) == "blobs"  # noqa: PTH119, PTH120
        if not is_prefix and name not in ("_layers", "_uploads") and not above.endswith("/_manifests"):
            with os.scandir(directory) as entries:
                pending.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
