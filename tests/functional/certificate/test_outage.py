"""During an install the registry is away for no longer than during two restarts."""

from __future__ import annotations

import subprocess

from tests.functional.certificate.breakable import BreakableController
from tests.functional.certificate.watcher import EVERY, Watcher


def test_an_install_costs_no_more_than_two_plain_restarts(breakable: BreakableController) -> None:
    breakable.start_agent()
    port = breakable.controller.ports["registry"]
    restarts, installs = [], []
    for _ in range(3):
        with Watcher(port) as plain:
            subprocess.run([breakable.service_script, "restart", "docker-registry.service"], check=True)
        with Watcher(port) as changed:
            assert breakable.install(breakable.certificates.new()) == ""
        restarts.append(plain.longest)
        installs.append(changed.longest)
    breakable.stop_agent()
    assert sorted(installs)[1] <= 2 * sorted(restarts)[1] + EVERY, (installs, restarts)
