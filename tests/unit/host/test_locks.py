"""One change of services at a time, also across processes; the lock falls with its holder."""

import subprocess
import sys
from pathlib import Path

import pytest

from sysreg_cli.errors import Conflict
from sysreg_cli.host.locks import services_lock

_HOLD = """
import sys, time
from pathlib import Path
from sysreg_cli.host.locks import services_lock
with services_lock(Path(sys.argv[1]), "certificate install", wait=0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_change_is_told_what_is_under_way_and_the_lock_falls_with_its_holder(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(Conflict, match="garbage collection: certificate install is under way"),
            services_lock(tmp_path, "garbage collection", wait=0.2),
        ):
            pass
    finally:
        holder.kill()
        holder.wait()
    with services_lock(tmp_path, "garbage collection", wait=10):
        pass  # a lock that its dead holder still held would raise Conflict after 10 s


def test_a_change_waits_for_the_one_before(tmp_path: Path) -> None:
    with services_lock(tmp_path, "one", wait=0):
        pass
    with services_lock(tmp_path, "two", wait=0):
        pass
