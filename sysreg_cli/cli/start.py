"""The first code of the `system` process: does the cheap things before anything heavy is imported."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run `system` with the words of the process's command line, and end the process."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        from sysreg_cli import __version__

        print(f"system {__version__}")
        _end(0)

    from sysreg_cli.cli.handover import hand_over

    hand_over(arguments, os.environ, sys.argv[0])

    from sysreg_cli.cli.main import run

    _end(run(arguments))


def _end(code: int) -> NoReturn:
    """Flush and leave at once: a thread that still waits for a silent server must not hold the process."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)
