"""What both daemons do before they serve."""

from __future__ import annotations

import logging
import subprocess
import sys

from sysreg_cli.daemon import program

ODD = "\x1b[2J\x9b\x85\u202e\u2028\u00e9\nsecond"


def test_a_log_line_is_printable_ascii_and_a_traceback_stays_readable() -> None:
    code = (
        "import logging\n"
        "from sysreg_cli.daemon import program\n"
        "program.log_to_stderr('%(name)s: %(message)s')\n"
        f"logging.getLogger('x').error('%s', {ODD!r})\n"
        "try:\n"
        f"    raise ValueError({ODD!r})\n"
        "except ValueError:\n"
        "    logging.getLogger('x').exception('failed')\n"
        "logging.getLogger('uvicorn.error').warning('Invalid HTTP request received.')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    lines = done.stderr.decode("ascii").splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[0] == r"x: \x1b[2J\x9b\x85\u202e\u2028\xe9\nsecond"
    assert lines[1] == "x: failed"
    assert any(line.startswith("Traceback") for line in lines)
    assert not any("Invalid HTTP" in line for line in lines)
    assert logging.getLogger().name == "root"
    assert program.parser("x", "y", on_sighup="z").prog == "x"
