"""The first code of the `system` process: does the cheap things before anything heavy is imported."""

from __future__ import annotations

import os
import sys

# mypy takes this name for typing's; importing typing would cost as much as all else here
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run `system` with the words of the process's command line, and end the process."""
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130  # before the command had begun: nothing was done, nothing needs to be said
    _end(code)


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        from sysreg_cli import __version__

        print(f"system {__version__}")
        return 0

    from sysreg_cli.cli.handover import hand_over

    hand_over(arguments, os.environ, sys.argv[0])

    from sysreg_cli.cli.main import run

    return run(arguments)


def _end(code: int) -> NoReturn:
    """Flush and leave at once: a thread that still waits for a silent server must not hold the process."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)
