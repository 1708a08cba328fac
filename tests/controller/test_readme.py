"""README's walk-through for a controller, typed in by a new operator: its output is what the README shows."""

from __future__ import annotations

import re

import pytest

from tests.controller.furnish import CHECKOUT, openrc, passwords, wheels
from tests.controller.machine import Machine
from tests.controller.people import start_runtimes


def _walk_through() -> list[tuple[str, str]]:
    """Each command of the section, and what it prints; ``...`` stands for anything."""
    section = (
        (CHECKOUT / "README.rst").read_text().partition("\nA controller\n")[2].partition("\nWork on it\n")[0]
    )
    steps: list[tuple[str, str]] = []
    for line in section.splitlines():
        if line.startswith("    $ "):
            steps.append((line[6:], ""))
        elif line.startswith("    ") and steps:
            command, output = steps[-1]
            steps[-1] = (command, f"{output}{line[4:]}\n")
    return steps


@pytest.mark.timeout(300)
def test_every_command_of_the_readme_prints_what_the_readme_says(installed: Machine) -> None:
    steps = _walk_through()
    assert len(steps) > 15
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
    script += f"cp {wheels()}/sysreg_cli-*.whl .\n"
    script += "".join(f"echo '@@ {number}'\n{command}\n" for number, (command, _) in enumerate(steps))
    done = installed.run("bash", "-c", f"exec 2>&1\n{script}", timeout=240)
    printed = re.split(r"^@@ \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    assert len(printed) == len(steps), done.stdout
    for (command, expected), actual in zip(steps, printed, strict=True):
        pattern = ".*".join(re.escape(part) for part in expected.split("..."))
        assert re.fullmatch(pattern, actual, re.DOTALL), f"$ {command}\n{actual}\nREADME says:\n{expected}"
