"""Certificates that expire soon are mentioned, to people only."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import pytest

from sysreg_cli.cli import hints


@pytest.mark.parametrize(
    ("days", "said"), [(-1, "expired"), (0.5, "0 days"), (29.5, "29 days"), (30.5, ""), (400, "")]
)
def test_a_certificate_is_mentioned_within_its_last_thirty_days(
    days: float, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    hints.expiry([("docker_registry", (datetime.now(UTC) + timedelta(days=days)).isoformat(sep=" "))])
    shown = capsys.readouterr().err
    assert said in shown
    assert bool(shown) == bool(said)


@pytest.mark.parametrize("date", ["", "soon", "2026-01-01"])
def test_a_date_that_makes_no_sense_is_no_hint(
    date: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    hints.expiry([("docker_registry", date)])
    assert capsys.readouterr().err == ""


def test_in_a_pipe_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    hints.expiry([("docker_registry", "2000-01-01 00:00:00+00:00")])
    assert capsys.readouterr().err == ""
