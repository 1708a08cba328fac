"""Which units have to be restarted before a new CA certificate counts."""

from pathlib import Path

import pytest

from sysreg_cli.host.clients import running_units


def process(proc: Path, number: int, name: str, group: str) -> None:
    directory = proc / str(number)
    directory.mkdir()
    (directory / "comm").write_text(f"{name}\n")
    (directory / "cgroup").write_text(group)


@pytest.mark.parametrize(
    ("name", "group", "units"),
    [
        ("dockerd", "0::/system.slice/docker.service\n", ("docker.service",)),
        ("containerd", "0::/system.slice/containerd.service\n", ("containerd.service",)),
        ("containerd", "0::/system.slice/k3s.service\n", ("k3s.service",)),
        ("dockerd", "0::/user.slice/session-1.scope\n", ("docker.service",)),
        ("dockerd", "", ("docker.service",)),
        ("bash", "0::/system.slice/docker.service\n", ()),
    ],
)
def test_the_unit_is_that_of_the_process(tmp_path: Path, name: str, group: str, units: tuple[str]) -> None:
    process(tmp_path, 7, name, group)
    (tmp_path / "self").mkdir()
    assert running_units(tmp_path) == units


def test_a_process_that_ends_meanwhile_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "8").mkdir()
    process(tmp_path, 9, "dockerd", "")
    process(tmp_path, 10, "containerd", "0::/system.slice/docker.service\n")
    assert running_units(tmp_path) == ("docker.service",)
