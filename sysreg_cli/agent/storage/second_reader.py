"""The second process that reads a storage (see ``readers``). Its arguments: a socket, a user and a group."""

from __future__ import annotations

import gc
import os
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from sysreg_cli import __version__
from sysreg_cli.agent.storage.files import go_on
from sysreg_cli.host.ownership import as_user

# what the parts of the work are made of: imported before the first one comes
from sysreg_cli.agent.storage import blobs, manifest, repositories  # noqa: F401  # isort: skip


def main() -> None:
    """Do parts of the work with the rights of the user, until the other process closes the socket."""
    connection, user, group = Connection(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
    parts: SimpleQueue[Any] = SimpleQueue()
    # Parts are received while an answer is sent: so neither process waits for the other to receive first.
    threading.Thread(target=_receive, args=(connection, parts), daemon=True).start()
    gc.disable()
    connection.send(__version__)
    with as_user(user, group):
        while True:
            read, items = parts.get()
            try:
                connection.send([read(item, go_on) for item in items])
            except ConnectionError:
                return
            except Exception:
                # The first process reads these items itself, meets the same error, and raises it.
                connection.send(None)


def _receive(connection: Connection, parts: SimpleQueue[Any]) -> None:
    try:
        while True:
            parts.put(connection.recv())
    finally:
        # The first process has closed the socket, or its part cannot be understood: it reads that itself.
        os._exit(0)


if __name__ == "__main__":
    main()
