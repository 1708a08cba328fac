"""A controller that is alone, and a command, load nothing of a cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "program", ["cli.main", "cli.commands", "agent.main", "token_server.main", "deploy.main"]
)
def test_a_program_imports_nothing_of_a_cluster_at_its_start(program: str) -> None:
    script = f"import sys, sysreg_cli.{program}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.splitlines() if name.startswith("sysreg_cli.cluster")]
