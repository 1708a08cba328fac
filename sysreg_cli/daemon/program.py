"""What the console scripts of both daemons do before they serve."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from typing import Any

from sysreg_cli import __version__, settings
from sysreg_cli.errors import SysregError
from sysreg_cli.text import log_line


def parser(program: str, description: str, *, on_sighup: str) -> argparse.ArgumentParser:
    """Return the parser of a script without arguments. ``on_sighup`` completes "SIGHUP ..."."""
    options = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=f"Settings: /etc/sysreg/sysreg.conf, or the file named by SYSREG_CONF. SIGHUP {on_sighup}.",
    )
    options.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}", help="show the version and exit"
    )
    return options


def log_to_stderr(line: str) -> None:
    """Log from INFO on, with ``line`` as the format. Of libraries only warnings or errors are logged."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsciiFormatter(line))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in ("asyncio", "keystoneauth", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # it warns of each request that is not HTTP, which anybody can send
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


class _AsciiFormatter(logging.Formatter):
    """Writes a message as one line of ASCII, and a traceback behind it as several."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of the base class
        return log_line(super().formatMessage(record))

    def formatException(self, info: Any) -> str:  # noqa: N802 - the name of the base class
        return "\n".join(map(log_line, super().formatException(info).splitlines()))


def run(program: str, serve: Callable[[settings.Settings], None]) -> int:
    """Load the settings and call ``serve``. Return the exit status: 1, after one line, if it fails."""
    try:
        serve(settings.load())
    except (SysregError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    return 0
