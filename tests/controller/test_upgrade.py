"""An upgrade restarts exactly the daemons whose code changed, and no pull fails meanwhile."""

from __future__ import annotations

import pytest

from tests.controller.load import PULLS, load, prepare
from tests.controller.machine import Machine
from tests.controller.machine_factory import DEPLOY
from tests.controller.test_deploy import started
from tests.controller.wheels import changed_wheel

_AGENT, _TOKEN_SERVER = "sysreg-agent.service", "sysreg-token-server.service"


def upgrade(machine: Machine, module: str) -> set[str]:
    """Install a wheel of the same version that differs in ``module``. Return the units that restarted."""
    wheel = changed_wheel(machine.share, f"sysreg_cli/{module}")
    install = ("install", "--quiet", "--no-index", "--no-deps", "--force-reinstall")
    before = started(machine)
    machine.run("/opt/sysreg/bin/pip", *install, f"/run/share/{wheel.name}")
    machine.run(DEPLOY)
    return {unit for unit, when in started(machine).items() if when != before[unit]}


@pytest.mark.timeout(300)
def test_an_upgrade_restarts_the_daemons_that_it_concerns_and_no_pull_fails(deployed: Machine) -> None:
    prepare(deployed)
    with load(deployed, PULLS) as clients:
        clients.another_round()
        assert upgrade(deployed, "cli/main.py") == set()
        assert upgrade(deployed, "agent/main.py") == {_AGENT}
        clients.another_round()
        # this wheel has no change of the agent any more
        assert upgrade(deployed, "token_server/app.py") == {_AGENT, _TOKEN_SERVER}
        clients.another_round()
        assert upgrade(deployed, "token_server/main.py") == {_TOKEN_SERVER}
        clients.another_round()
        assert clients.failures() == []
        print(f"rounds: {clients.rounds()}")
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"
