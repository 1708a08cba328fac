"""What the console scripts of both daemons do before they serve."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from sysreg_cli import __version__, settings
from sysreg_cli.errors import SysregError


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
    """Log from INFO on, with ``line`` as the format. Of libraries only warnings are logged."""
    logging.basicConfig(level=logging.INFO, format=line, stream=sys.stderr)
    for library in ("asyncio", "keystoneauth", "urllib3", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)


def run(program: str, serve: Callable[[settings.Settings], None]) -> int:
    """Load the settings and call ``serve``. Return the exit status: 1, after one line, if it fails."""
    try:
        serve(settings.load())
    except (SysregError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    return 0
