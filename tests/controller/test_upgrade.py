"""An upgrade restarts exactly the daemons whose code changed, and no pull fails meanwhile."""

from __future__ import annotations

import pytest

from tests.controller.clients import REGISTRY, archive, copy
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


def test_the_write_lock_and_its_record_become_the_token_servers_alone(deployed: Machine) -> None:
    """Before 0.2.0, they belonged to the group that may use the agent's socket."""
    files = "/var/lib/sysreg/write-fence /var/lib/sysreg/latest-write-token"
    older = (
        f"chgrp sysreg /var/lib/sysreg {files}",
        "usermod --append --groups sysreg sysreg-token",
        """sed -i '/"accounts": \\[/a "member sysreg-token of sysreg",' /var/lib/sysreg/deploy.json""",
    )
    before = started(deployed)
    deployed.shell("; ".join(older))
    changes = deployed.run(DEPLOY).stdout
    assert "remove member sysreg-token of sysreg\n" in changes
    assert started(deployed) == before, "the token server has had its access all the time"
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"
    for file in files.split():
        member = f"setpriv --reuid=nobody --regid=sysreg --clear-groups sh -c 'echo 0 >{file}'"
        assert "Permission denied" in deployed.shell(member, status=2).stderr
        state = f"setpriv --reuid=nobody --regid=sysreg --clear-groups flock {file} true"
        assert "Permission denied" in deployed.shell(state, status=66).stderr
    copy(deployed, "testuser", archive(deployed, "small", 1000), f"docker://{REGISTRY}/testuser/small:latest")
