"""What systemctl says of a unit's environment. tests/controller asks a real systemd."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysreg_cli.host.unit_environment import UnitEnvironment
from sysreg_cli.settings import AgentSettings


def test_files_win_over_the_unit_and_later_files_over_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "1.env").write_text("# a comment\n; another\nA=file\nB='a b' # no comment\n\nC=\"open\n")
    (tmp_path / "2.env").write_text("A=of a \\\n later file\nno assignment\n")
    found = UnitEnvironment.parse(
        "ExecStart={ path=/usr/bin/docker-registry ; argv[]=/usr/bin/docker-registry serve /etc/c.yml ;"
        " ignore_errors=no ; start_time=[n/a] }\n"
        'Environment=A=unit "D=with a blank" E=\n'
        f"EnvironmentFiles={tmp_path}/[12].env (ignore_errors=no)\n"
        f"EnvironmentFiles={tmp_path}/missing (ignore_errors=yes)\n"
    )
    assert found.arguments == ("/usr/bin/docker-registry", "serve", "/etc/c.yml")
    assert found.variables == {
        "A": "of a later file",
        "B": "a b # no comment",
        "C": '"open',
        "D": "with a blank",
        "E": "",
    }


@pytest.mark.parametrize("command", ["supervisorctl restart {unit}", "/usr/bin/sm-restart service {unit}"])
def test_systemd_is_not_asked_where_something_else_starts_the_services(command: str) -> None:
    settings = AgentSettings(restart_command=command)
    assert UnitEnvironment.read(settings, "ssh.service") == UnitEnvironment()
