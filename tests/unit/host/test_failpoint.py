"""The values of the failpoint variable. Kill and stop are used by the sweeps of the functional tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysreg_cli.host import failpoint


def reached(names: str) -> list[str]:
    """Reach failpoints; returns those that did not fail."""
    passed = []
    for name in names.split(","):
        try:
            failpoint.reach(name)
        except OSError:
            continue
        passed.append(name)
    return passed


@pytest.mark.parametrize(
    ("fault", "passed"),
    [
        ("", ["write a", "rename a", "write b", "rename b"]),
        ("2:EIO", ["write a", "write b", "rename b"]),
        ("1:ENOSPC+", ["rename a", "rename b"]),
        ("3:ENOSPC+", ["write a", "rename a", "rename b"]),
        ("9:EIO", ["write a", "rename a", "write b", "rename b"]),
    ],
)
def test_the_nth_fails_and_with_a_plus_all_later_ones_of_its_kind(
    monkeypatch: pytest.MonkeyPatch, fault: str, passed: list[str]
) -> None:
    failpoint.reset()
    monkeypatch.setenv(failpoint.VARIABLE, fault)
    assert reached("write a,rename a,write b,rename b") == passed


def test_a_trace_names_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(failpoint.VARIABLE, f"trace:{tmp_path}/trace")
    assert reached("write a,rename a") == ["write a", "rename a"]
    assert (tmp_path / "trace").read_text() == "write a\nrename a\n"
