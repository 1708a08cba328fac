"""The commands in README and the operator's guide, typed in by a new operator, print what these show."""

from __future__ import annotations

import re

import pytest

from tests.controller.clients import start_runtimes
from tests.controller.debian_root import PACKAGES, RELEASES
from tests.controller.installation import listen_for_keystone, openrc, passwords
from tests.controller.machine import Machine
from tests.controller.machine_factory import MachineFactory
from tests.controller.wheels import CHECKOUT, wheels
from tests.examples import check, script_of, steps_of

_WHEEL = "A wheel in place of the packages"


def _section(text: str, title: str) -> str:
    """The section ``title`` of a document, without its title."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def _type_in(machine: Machine, steps: list[tuple[str, str]], preparation: str) -> None:
    """Type the commands into a shell, in /root. Raises AssertionError unless each prints what it shows."""
    script = script_of(steps, f"{preparation}\ncd /root")
    check(steps, machine.run("bash", "-c", script, timeout=400).stdout)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", RELEASES)
def test_every_command_of_readme_and_guide_prints_what_it_shows(
    machines: MachineFactory, release: str
) -> None:
    guide = (CHECKOUT / "docs/controller.rst").read_text()
    text = _section((CHECKOUT / "README.rst").read_text(), "A controller")
    steps = list(steps_of(text + guide.replace(_section(guide, _WHEEL), "")))
    assert len(steps) >= 20
    with machines.fresh(release) as machine:
        machine.boot()
        listen_for_keystone(machine, now=True)
        start_runtimes(machine)
        machine.file("/root/password").write_text(passwords(machine)["testuser"])
        variables = openrc(machine, "admin", "admin").items()
        machine.file("/root/openrc").write_text(
            "".join(f"export {name}={value}\n" for name, value in variables)
        )
        # the layer has what the packages depend on, and not what that recommends
        recommends = machine.file("/etc/apt/apt.conf.d/90tests")
        recommends.write_text('APT::Install-Recommends "false";\n')
        _type_in(machine, steps, f"export DEBIAN_FRONTEND=noninteractive; cp {PACKAGES}/*.deb /root")


@pytest.mark.timeout(500)
def test_the_wheel_is_installed_as_the_guide_shows(installed: Machine) -> None:
    steps = list(steps_of(_section((CHECKOUT / "docs/controller.rst").read_text(), _WHEEL)))
    installed.shell("rm -r /etc/sysreg /opt/sysreg")
    # machines have no network: pip finds the wheels where we put them
    pip = f"export PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels()} PIP_DISABLE_PIP_VERSION_CHECK=1"
    _type_in(installed, steps, f"{pip}\ncp {wheels()}/sysreg_cli-*.whl {CHECKOUT}/constraints.txt /root")
