"""The first code of the `system` process. It does the cheap things before it imports anything heavy."""

from __future__ import annotations

import gc
import os
import sys

# mypy takes this name for typing's; importing typing would cost as much as all else here
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run `system` with the arguments of the process, and end the process."""
    # Imports make no garbage, and looking for it takes a tenth of the start. ``main`` enables it again.
    gc.disable()
    try:
        _open_closed_streams()
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130  # before the command began: nothing was done, and nothing needs to be said
    _end(code)


def _open_closed_streams() -> None:
    """Open /dev/null for each standard stream that the caller closed (`>&-`).

    Python sets such a stream to None, and the next file or connection would get its descriptor.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
            mode = "w" if descriptor else "r"
            setattr(sys, name, open(descriptor, mode, errors="backslashreplace"))  # noqa: SIM115, PTH123


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        from sysreg_cli import __version__

        print(f"system {__version__}")
        return 0

    from sysreg_cli.cli.delegation import delegate

    delegate(arguments, os.environ, sys.argv[0])

    from sysreg_cli.cli.main import run

    return run(arguments)


def _end(code: int) -> NoReturn:
    """Flush and leave at once, without waiting for a thread that waits for a silent server."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)
