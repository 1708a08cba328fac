"""Which processes listen at a port, and which hold a lock."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from sysreg_cli.host import processes
from sysreg_cli.tokens.write_lock import WriteLock


def test_a_process_that_listens_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = processes.listening(port)
        assert found.pid == os.getpid()
        assert f"(pid {os.getpid()}" in str(found)
    assert processes.listening(port) == []


def test_a_process_that_inherited_a_lock_holds_it_after_its_parent_let_go(tmp_path: Path) -> None:
    path = tmp_path / "write-fence"
    shared = WriteLock(tmp_path)
    issue = shared.try_issue()
    assert issue is not None
    with issue:
        assert processes.locking(path) == [], "a shared lock holds nobody"
    shared.close()
    with WriteLock(tmp_path).hold() as hold:
        assert [it.pid for it in processes.locking(path)] == [os.getpid()]
        child = subprocess.Popen(["sleep", "60"], pass_fds=[hold.fileno()])
    try:
        assert [it.pid for it in processes.locking(path)] == [child.pid]
    finally:
        child.kill()
        child.wait()
    assert processes.locking(path) == []


def test_the_unit_is_the_service_of_the_control_group(tmp_path: Path) -> None:
    for group, unit in (
        ("0::/system.slice/docker-registry.service\n", "docker-registry.service"),
        ("0::/user.slice/session-1.scope\n", ""),
        ("", ""),
    ):
        (tmp_path / "cgroup").write_text(group)
        assert processes.unit_of(tmp_path) == unit
