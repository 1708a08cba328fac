"""The checks run side by side: one that hangs, or fails in an unforeseen way, costs only its own row."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysreg_cli.errors import SysregError
from sysreg_cli.health import runner
from sysreg_cli.health.checks import CHECKS, Check
from sysreg_cli.health.readings import Agent, Readings
from sysreg_cli.health.results import Name, Remedy, Result, Skipped, Status, failed, ok, warning
from sysreg_cli.settings import CertificateSettings, Settings
from tests import certificates as make


def no_agent() -> Agent:
    raise SysregError("no agent")


def test_every_name_has_a_check_in_the_order_of_the_names() -> None:
    assert list(CHECKS) == list(Name)


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def run(checks: dict[Name, Check], *, seconds: float = 60.0) -> dict[Name, Result]:
    return dict(runner.run(Readings(Settings(), no_agent), checks, seconds=seconds))


def test_a_check_that_hangs_is_failed_and_the_others_have_their_results(released: threading.Event) -> None:
    def hang(_readings: Readings) -> Result:
        released.wait(60)
        return ok("late")

    found = run({Name.NAMES: hang, Name.SPACE: lambda _: ok("free")}, seconds=0.2)
    assert found[Name.SPACE] == ok("free")
    assert found[Name.NAMES].status is Status.FAILED
    assert found[Name.NAMES].what == "no result within 0.2 s"


def test_what_a_check_raises_is_its_row() -> None:
    def skip(_readings: Readings) -> Result:
        raise Skipped("not here")

    def refuse(_readings: Readings) -> Result:
        raise SysregError("it is broken", next_step="mend it")

    def lack(_readings: Readings) -> Result:
        raise FileNotFoundError(2, "No such file or directory", "/nowhere")

    def crash(_readings: Readings) -> Result:
        raise ZeroDivisionError("by zero")

    found = run({Name.NAMES: skip, Name.SPACE: refuse, Name.INODES: lack, Name.TOKEN: crash})
    assert (found[Name.NAMES].status, found[Name.NAMES].detail) == (Status.SKIPPED, "not here")
    assert found[Name.SPACE].detail == "it is broken; mend it"
    assert found[Name.INODES].what == "/nowhere: No such file or directory"
    assert found[Name.TOKEN].what == "internal error, please report it: ZeroDivisionError: by zero"
    assert [it.status for it in list(found.values())[1:]] == [Status.FAILED] * 3


def test_what_several_checks_need_is_read_once_also_if_it_cannot_be_read(tmp_path: Path) -> None:
    settings = Settings(certificate=CertificateSettings(directory=tmp_path))
    readings = Readings(settings, no_agent)
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            readings.chain()
        settings.certificate.chain.parent.mkdir(exist_ok=True)
        settings.certificate.chain.write_bytes(make.server(make.authority()).pem)
    later = Readings(settings, no_agent)
    assert later.chain() is later.chain()


def test_a_detail_ends_in_the_command() -> None:
    assert failed("it is dead", Remedy("start it", "systemctl start it")).detail.endswith(
        "it is dead; start it: systemctl start it"
    )
    assert warning("it is old", Remedy("look at it")).detail == "it is old; look at it"
