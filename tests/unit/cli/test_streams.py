"""Standard streams that are closed, or whose reader is gone: no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SYSTEM = Path(sys.executable).with_name("system")


def shell(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    (tmp_path / "sysreg.conf").touch()
    variables = {
        "PATH": f"{SYSTEM.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "SYSREG_CONF": str(tmp_path / "sysreg.conf"),
        "SYSREG_REGISTRY": "localhost:1",
        "OS_USERNAME": "admin",
    }
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, timeout=60, env=variables
    )


@pytest.mark.parametrize(
    ("line", "code"), [("--version", 0), ("--help", 0), ("help", 0), ("", 2), ("registry-image-list", 1)]
)
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_nothing_but_that_nobody_reads_it(
    tmp_path: Path, line: str, code: int, closed: str
) -> None:
    whole = shell(f"system {line}", tmp_path)
    done = shell(f"system {line} {closed}", tmp_path)
    streams = closed.split()
    assert (whole.returncode, done.returncode) == (code, code)
    assert done.stdout == ("" if ">&-" in streams else whole.stdout)
    assert done.stderr == ("" if "2>&-" in streams else whole.stderr)


@pytest.mark.parametrize("line", ["--version", "--help", "help registry-image-list", "bash-completion"])
def test_a_reader_that_never_reads_is_no_reason_to_complain(tmp_path: Path, line: str) -> None:
    assert shell(f"system {line} | head -c 0", tmp_path).stderr == ""
    assert shell(f"system {line} 2>&1 >/dev/full | head -c 0", tmp_path).stderr == ""


def test_an_error_that_nobody_reads_keeps_its_exit_status(tmp_path: Path) -> None:
    done = shell("system registry-image-list 2> >(exec true); echo $?", tmp_path)
    assert done.stdout == "1\n"
