"""Run `system`, and send the process a signal right before its Nth HTTP request.

    python -m tests.functional.images.killed SIGNAL N ARGUMENTS...

If `system` needs fewer requests, it ends as usual.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from typing import Any

from devstack.controller import Controller
from sysreg_cli.cli import start
from sysreg_cli.registry.transport import Transport


def killed_before(
    controller: Controller, number: signal.Signals, request: int, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run registry-image-delete, and send it a signal right before a request."""
    return controller.run(
        [
            sys.executable,
            "-m",
            "tests.functional.images.killed",
            number.name,
            str(request),
            "registry-image-delete",
            *arguments,
        ]
    )


def main() -> None:
    number = signal.Signals[sys.argv.pop(1)]
    last = int(sys.argv.pop(1))
    count = itertools.count(1)
    request = Transport.request

    def counted(self: Transport, *args: Any, **options: Any) -> Any:
        if next(count) == last:
            os.kill(os.getpid(), number)
        return request(self, *args, **options)

    Transport.request = counted  # type: ignore[method-assign]
    start.main()


if __name__ == "__main__":
    main()
