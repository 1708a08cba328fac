"""The commands in README and the operator's guide, typed in by a new operator, print what these show."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.controller.clients import start_runtimes
from tests.controller.debian_root import PACKAGES, RELEASES
from tests.controller.installation import listen_for_keystone, openrc, passwords
from tests.controller.machine import Machine
from tests.controller.machine_factory import MachineFactory
from tests.controller.wheels import CHECKOUT, wheels

_WHEEL = "A wheel in place of the packages"


def _steps(text: str) -> Iterator[tuple[str, str]]:
    """Each command of the examples in ``text``, and what it prints; ``...`` stands for anything."""
    for block in re.findall(r"::\n\n((?:    .*\n)+)", text):
        for step in re.split(r"^    \$ ", block, flags=re.MULTILINE)[1:]:  # a block without prompt has none
            command, _, output = step.partition("\n")
            yield command, re.sub("^    ", "", output, flags=re.MULTILINE)


def _section(text: str, title: str) -> str:
    """The section ``title`` of a document, without its title."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def _pattern(shown: str) -> str:
    """What matches the output ``shown``: ``...`` is anything, on a line of its own also no line."""
    parts = re.split(r"^(\.\.\.\n)|(\.\.\.)", shown, flags=re.MULTILINE)
    forms = {"...\n": "(?:.*\n)?", "...": ".*", None: ""}
    return "".join(forms[part] if part in forms else re.escape(part) for part in parts)


def _type_in(machine: Machine, steps: list[tuple[str, str]], preparation: str) -> None:
    """Type the commands into a shell, in /root. Raises AssertionError unless each prints what it shows."""
    script = f"{preparation}\ncd /root\n"
    script += "".join(f"echo '@@ {number}'\n{command}\n" for number, (command, _) in enumerate(steps))
    done = machine.run("bash", "-c", f"exec 2>&1\n{script}", timeout=400)
    printed = re.split(r"^@@ \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    assert len(printed) == len(steps), done.stdout
    for (command, expected), actual in zip(steps, printed, strict=True):
        assert re.fullmatch(_pattern(expected), actual, re.DOTALL), (
            f"$ {command}\n{actual}\nshown:\n{expected}"
        )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", RELEASES)
def test_every_command_of_readme_and_guide_prints_what_it_shows(
    machines: MachineFactory, release: str
) -> None:
    guide = (CHECKOUT / "docs/controller.rst").read_text()
    text = _section((CHECKOUT / "README.rst").read_text(), "A controller")
    steps = list(_steps(text + guide.replace(_section(guide, _WHEEL), "")))
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
    steps = list(_steps(_section((CHECKOUT / "docs/controller.rst").read_text(), _WHEEL)))
    installed.shell("rm -r /etc/sysreg /opt/sysreg")
    # machines have no network: pip finds the wheels where we put them
    pip = f"export PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels()} PIP_DISABLE_PIP_VERSION_CHECK=1"
    _type_in(installed, steps, f"{pip}\ncp {wheels()}/sysreg_cli-*.whl {CHECKOUT}/constraints.txt /root")
