"""Which generation the start of an agent leaves in use after a change that was cut short."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sysreg_cli.agent.certificate.transaction import ChangePhase
from sysreg_cli.errors import SysregError
from sysreg_cli.host.journal import FORMAT, Journal
from tests.unit.agent.certificate.host import LATER, NEW, OLD, Host

# What version 0.1.0 wrote: records without a format number.
OLD_JOURNALS = {
    ChangePhase.PREPARED: (
        '{"record": "{\\"new\\": \\"000002\\", \\"old\\": \\"000001\\", \\"phase\\": \\"prepared\\"}",'
        ' "sha256": "e105ac3a1ec1890bff58f62ed2338971d6931d1da8d600e7f88eeb8c6dff6aa5"}\n'
    ),
    ChangePhase.COMMITTED: (
        '{"record": "{\\"new\\": \\"000002\\", \\"old\\": \\"000001\\", \\"phase\\": \\"committed\\"}",'
        ' "sha256": "61af0aa365cf0672e31af10df23ce64c069e32466c18b67b5f471bd0c4db6726"}\n'
    ),
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def new_journal(host: Host, phase: ChangePhase) -> None:
    Journal(host.journal).write({"phase": phase, "old": OLD, "new": NEW, "a field of the future": [1]})


def old_journal(host: Host, phase: ChangePhase) -> None:
    host.journal.write_text(OLD_JOURNALS[phase])


def damaged_journal(host: Host, _phase: ChangePhase) -> None:
    host.journal.write_text("{}")


def newer_journal(host: Host, phase: ChangePhase) -> None:
    """A format that this version does not know."""
    text = json.dumps({"phase": phase, "old": OLD, "new": NEW, "format": FORMAT + 1})
    host.journal.write_text(json.dumps({"record": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}))


def unknown_phase(host: Host, _phase: ChangePhase) -> None:
    Journal(host.journal).write({"phase": "of the future", "old": OLD, "new": NEW})


Writer = Callable[[Host, ChangePhase], None]
WHOLE: list[Writer] = [new_journal, old_journal]
DAMAGED: list[Writer] = [damaged_journal, newer_journal, unknown_phase]


@pytest.mark.parametrize("write", [*WHOLE, *DAMAGED])
def test_before_the_switch_the_old_one_stays(host: Host, write: Writer) -> None:
    write(host, ChangePhase.PREPARED)
    host.recover()
    assert host.in_use() == OLD


@pytest.mark.parametrize("write", WHOLE)
def test_a_prepared_one_that_is_not_live_goes_back(host: Host, write: Writer) -> None:
    write(host, ChangePhase.PREPARED)
    host.switch()
    host.recover()
    assert host.in_use() == OLD


@pytest.mark.parametrize("write", [*WHOLE, *DAMAGED])
def test_a_prepared_one_that_is_live_stays(host: Host, write: Writer) -> None:
    write(host, ChangePhase.PREPARED)
    host.switch()
    host.services.live = NEW
    host.recover()
    assert host.in_use() == NEW


@pytest.mark.parametrize("write", WHOLE)
def test_a_committed_one_stays_without_a_look_at_the_services(host: Host, write: Writer) -> None:
    write(host, ChangePhase.COMMITTED)
    host.switch()
    host.recover()
    assert not host.journal.exists()
    assert host.generations.current() == NEW
    host.services.live = NEW
    assert host.in_use() == NEW


@pytest.mark.parametrize("write", DAMAGED)
def test_without_a_record_the_current_one_stays_if_it_can_be_made_live(host: Host, write: Writer) -> None:
    write(host, ChangePhase.PREPARED)
    host.switch()
    host.recover()
    assert host.in_use() == NEW


@pytest.mark.parametrize("write", DAMAGED)
def test_without_a_record_the_one_before_comes_back_if_not(host: Host, write: Writer) -> None:
    write(host, ChangePhase.PREPARED)
    host.switch()
    host.services.broken = {NEW}
    host.recover()
    assert host.in_use() == OLD


@pytest.mark.parametrize("phase", ChangePhase)
@pytest.mark.parametrize("write", WHOLE)
def test_a_generation_that_came_after_an_interrupted_change_stays(
    host: Host, write: Writer, phase: ChangePhase
) -> None:
    write(host, phase)
    host.add(LATER)
    host.generations.use(LATER)
    host.services.broken = {OLD, NEW}
    host.recover()
    assert host.in_use() == LATER


@pytest.mark.parametrize("write", WHOLE)
def test_a_committed_change_that_somebody_reverted_stays_reverted(host: Host, write: Writer) -> None:
    write(host, ChangePhase.COMMITTED)
    host.recover()
    assert host.generations.current() == host.services.live == OLD
    assert not host.journal.exists()


def test_a_start_without_a_journal_changes_nothing(host: Host) -> None:
    host.recover()
    assert host.generations.current() == OLD
    assert host.generations.names() == [OLD, NEW]
    assert not list(host.settings.paths.docker_trust.iterdir())


def test_what_cannot_be_ended_now_is_left_to_the_next_start(host: Host) -> None:
    new_journal(host, ChangePhase.PREPARED)
    host.switch()
    whole = host.generations.path(OLD) / "server.crt"
    pem = whole.read_bytes()
    whole.unlink()
    with pytest.raises(SysregError, match="not undone yet"):
        host.recover()
    assert host.journal.exists()
    whole.write_bytes(pem)
    host.recover()
    assert host.in_use() == OLD
