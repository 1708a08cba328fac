"""What a collection decided to free, on disk until all of it is gone.

The registry's collector deletes blobs in no order. If it is killed when a manifest is gone and its layers
are not, nothing tells these from the layers of a push under way any more, and the next collections would keep
them for the grace time. So a collection writes down what it frees before anything goes, and when it had
looked. What was in the storage then stays released; what is pushed again later is newer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from sysreg_cli.host import files

log = logging.getLogger("sysreg.agent")

_NAME = "freeing"


def remember(directory: Path, when: float, digests: Iterable[str]) -> None:
    """Write down what is freed, as seen at ``when`` (seconds since the epoch), in the place of what was
    written before. Durable; raises OSError.
    """
    files.write(directory / _NAME, "\n".join([f"{when:.6f}", *digests]).encode(), mode=0o600)


def recall(directory: Path) -> dict[str, float]:
    """What an earlier collection decided to free and may not have: digest to when it had looked.

    Empty if there is nothing, or it is damaged. Raises OSError.
    """
    try:
        when, *digests = (directory / _NAME).read_text("ascii").splitlines()
        return dict.fromkeys(digests, float(when))
    except FileNotFoundError:
        return {}
    except ValueError:
        log.warning("%s is damaged: what an interrupted collection left is kept for now", directory / _NAME)
        return {}


def forget(directory: Path) -> None:
    """All of it is gone. Raises OSError."""
    if (directory / _NAME).exists():
        files.remove(directory / _NAME)
