"""The commands in README and the operator's guide, typed in by a new operator, print what these show."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.controller.clients import start_runtimes
from tests.controller.installation import openrc, passwords
from tests.controller.machine import Machine
from tests.controller.wheels import CHECKOUT, wheels


def _walk_through() -> Iterator[tuple[str, str]]:
    """Each command of README's section and of the guide, and what it prints; ``...`` stands for anything."""
    readme, guide = (CHECKOUT / "README.rst").read_text(), (CHECKOUT / "docs/controller.rst").read_text()
    section = readme.partition("\nA controller\n")[2].partition("\nWhere to read on\n")[0]
    for block in re.findall(r"::\n\n((?:    .*\n)+)", section + guide):
        for step in re.split(r"^    \$ ", block, flags=re.MULTILINE)[1:]:  # a block without prompt has none
            command, _, output = step.partition("\n")
            yield command, re.sub("^    ", "", output, flags=re.MULTILINE)


@pytest.mark.timeout(500)
def test_every_command_of_the_walk_through_prints_what_it_shows(installed: Machine) -> None:
    steps = list(_walk_through())
    assert len(steps) > 20
    installed.file("/etc/sysreg/sysreg.conf").unlink()
    installed.file("/etc/sysreg").rmdir()
    start_runtimes(installed)
    installed.file("/root/password").write_text(passwords(installed)["testuser"])
    variables = openrc(installed, "admin", "admin").items()
    installed.file("/root/openrc").write_text(
        "".join(f"export {name}={value}\n" for name, value in variables)
    )
    # machines have no network: pip finds the wheels where we put them
    script = f"export PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels()} PIP_DISABLE_PIP_VERSION_CHECK=1\ncd /root\n"
    script += f"cp {wheels()}/sysreg_cli-*.whl {CHECKOUT}/constraints.txt .\n"
    script += "".join(f"echo '@@ {number}'\n{command}\n" for number, (command, _) in enumerate(steps))
    done = installed.run("bash", "-c", f"exec 2>&1\n{script}", timeout=240)
    printed = re.split(r"^@@ \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    assert len(printed) == len(steps), done.stdout
    for (command, expected), actual in zip(steps, printed, strict=True):
        pattern = ".*".join(re.escape(part) for part in expected.split("..."))
        assert re.fullmatch(pattern, actual, re.DOTALL), f"$ {command}\n{actual}\nshown:\n{expected}"
