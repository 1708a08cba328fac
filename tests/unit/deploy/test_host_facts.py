"""What sysreg-deploy refuses to deploy on, and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysreg_cli import settings as settings_module
from sysreg_cli.deploy import host_facts
from sysreg_cli.errors import SettingsError, SysregError
from sysreg_cli.settings import Settings


def test_a_unit_that_is_not_deployed_cannot_be_asked_for() -> None:
    host_facts.require_settings(Settings())
    settings = settings_module.parse("[registry]\nunit = other.service\nconfig = /srv/config.yml\n", "x")
    with pytest.raises(SettingsError) as refused:
        host_facts.require_settings(settings)
    assert [problem.split(":")[1].split()[0] for problem in refused.value.problems] == ["config", "unit"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("source = files:/etc/letsencrypt/live/x", ""),
        ("source = files:/home/x/certificates", "source in section [certificate] is below /home"),
        (
            "source = secret:a/b\nkubeconfig = /root/.kube/config",
            "kubeconfig in section [certificate] is below",
        ),
        ("kubeconfig = /root/.kube/config", ""),
    ],
)
def test_a_source_that_the_agents_service_cannot_see_is_refused(text: str, problem: str) -> None:
    settings = settings_module.parse(f"[certificate]\n{text}\n", "x")
    if not problem:
        host_facts.require_settings(settings)
        return
    with pytest.raises(SettingsError) as refused:
        host_facts.require_settings(settings)
    assert problem in str(refused.value)


def test_the_unit_of_the_agent_hides_what_is_said() -> None:
    unit = (Path(__file__).parents[3] / "etc/systemd/system/sysreg-agent.service").read_text()
    assert "\nProtectHome=tmpfs\n" in unit
    assert "\nPrivateTmp=yes\n" in unit


def test_without_the_registrys_package_the_message_says_what_to_install() -> None:
    host_facts.require_registry("root")
    with pytest.raises(SysregError, match="there is no user no-such-user; install it"):
        host_facts.require_registry("no-such-user")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The program directory of a virtual environment that is root's all the way up."""
    tmp_path.chmod(0o755)
    directory = tmp_path / "venv/bin"
    directory.mkdir(parents=True)
    return directory


def test_a_program_directory_of_roots_is_accepted(programs: Path) -> None:
    host_facts.require_protected(programs, os.geteuid())


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_program_directory_that_others_may_write_is_refused(programs: Path, mode: int) -> None:
    programs.chmod(mode)
    with pytest.raises(SysregError, match=rf"others than root can change {programs}, .*/opt/sysreg"):
        host_facts.require_protected(programs, os.geteuid())


def test_so_is_one_that_others_can_replace(programs: Path) -> None:
    parent = programs.parent
    parent.chmod(0o777)
    with pytest.raises(SysregError, match=f"can change {parent},"):
        host_facts.require_protected(programs, os.geteuid())
    parent.chmod(0o1777)  # as /tmp: others can't rename what is root's
    host_facts.require_protected(programs, os.geteuid())


@pytest.mark.parametrize("hidden", ["/root/venv/bin", "/home/operator/sysreg/bin", "/tmp/venv/bin"])
def test_a_program_directory_that_the_daemons_do_not_see_is_refused(hidden: str) -> None:
    with pytest.raises(SysregError, match=f"could not run from {hidden}.*/opt/sysreg"):
        host_facts.require_visible(Path(hidden))
    host_facts.require_visible(Path("/opt/sysreg/bin"))


def test_so_is_one_of_another_user(programs: Path) -> None:
    if os.geteuid() == 0:
        os.chown(programs, 1, 1)
    with pytest.raises(SysregError, match=f"can change {programs},"):
        host_facts.require_protected(programs)
