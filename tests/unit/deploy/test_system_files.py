"""Accounts, directories and lock files: what is missing is named, made by systemd's programs, and removed."""

from __future__ import annotations

from pathlib import Path

from sysreg_cli.deploy.file import File
from sysreg_cli.deploy.system_files import Accounts, MadeDirectories, Tmpfiles
from sysreg_cli.tokens.write_lock import RECORD_NAME
from tests.unit.deploy.machine import FakePrograms, apply, context_of, required

_ABSENT = "sysreg-test-absent"


def accounts(*lines: str) -> Accounts:
    return Accounts(File(Path("/etc/sysusers.d/test.conf"), "\n".join(lines).encode()))


def test_accounts_that_exist_need_nothing(tmp_path: Path) -> None:
    some = accounts("# a comment", "g root -", 'u root - "The superuser" /root')
    assert some.compare(context_of(tmp_path)) is None


def test_missing_accounts_are_named_and_made_by_systemd(tmp_path: Path) -> None:
    some = accounts(f"g {_ABSENT} -", f'u {_ABSENT} - "Somebody" /', "g root -", "m root daemon")
    programs = FakePrograms()
    context = context_of(tmp_path, programs)
    change = required(some, context)
    assert change.line == f"create group {_ABSENT}, user {_ABSENT}, member root of daemon"
    change.apply(context)
    assert programs.changes == ["systemd-sysusers /etc/sysusers.d/test.conf"]
    assert context_of(tmp_path).record.accounts == [
        f"group {_ABSENT}",
        f"user {_ABSENT}",
        "member root of daemon",
    ]


def test_only_recorded_accounts_that_exist_are_removed_and_members_first(tmp_path: Path) -> None:
    programs = FakePrograms()
    context = context_of(tmp_path, programs)
    context.record.accounts = ["group daemon", f"user {_ABSENT}", "user daemon", f"member root of {_ABSENT}"]
    assert accounts("g root -").remove(context) == "removed user daemon, group daemon"
    assert programs.changes == ["userdel daemon", "groupdel daemon"]
    assert context.record.accounts == []


def tmpfiles(directory: Path) -> Tmpfiles:
    owner = f"{directory.parent.owner()} {directory.parent.group()}"
    text = (
        "# a comment\n"
        f"d {directory} 0750 {owner} -\n"
        f"f {directory}/{RECORD_NAME} 0660 {owner} - 0\n"
        f"d {directory}/given - {owner} -\n"
    )
    return Tmpfiles(File(Path("/etc/tmpfiles.d/test.conf"), text.encode()), ("daemon.service",))


class SystemdTmpfiles(FakePrograms):
    """Makes what the file of ``tmpfiles`` lists."""

    directory: Path

    def change(self, *args: str, timeout: float = 90) -> None:
        super().change(*args)
        self.directory.mkdir(exist_ok=True)
        (self.directory / "given").mkdir(exist_ok=True)
        record = self.directory / RECORD_NAME
        if not record.exists():
            record.write_text("0")
        record.chmod(0o660)
        self.directory.chmod(0o750)


def test_what_is_missing_is_made_at_once_and_new_mount_points_restart_daemons(tmp_path: Path) -> None:
    programs, directory = SystemdTmpfiles(), tmp_path / "run"
    programs.directory = directory
    context, some = context_of(tmp_path / "state", programs), tmpfiles(directory)
    change = required(some, context)
    assert f"create {directory}; create {directory}/{RECORD_NAME}" in change.line
    assert change.restarts == ("daemon.service",)
    apply(some, context)
    assert programs.changes == ["systemd-tmpfiles --create /etc/tmpfiles.d/test.conf"]
    assert str(directory) in context.record.directories
    assert (directory / RECORD_NAME).read_text() == "0", "no token was issued before the first deployment"

    (directory / RECORD_NAME).chmod(0o600)
    change = required(some, context)
    assert (change.foreign, change.restarts) == (False, ())
    apply(some, context)


def test_a_lost_record_counts_as_a_token_issued_now(tmp_path: Path) -> None:
    programs, directory = SystemdTmpfiles(), tmp_path / "run"
    programs.directory = directory
    context = context_of(tmp_path / "state", programs)
    context.record.applied["daemon.service"] = "digest"
    apply(tmpfiles(directory), context)
    assert float((directory / RECORD_NAME).read_text()) > 0


def test_another_kind_of_file_is_foreign(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    assert required(tmpfiles(tmp_path / "run"), context_of(tmp_path / "state")).foreign


def test_directories_that_were_made_stay_roots(tmp_path: Path) -> None:
    context, made = context_of(tmp_path / "state"), MadeDirectories(frozenset({tmp_path / "other"}))
    context.record.make_directory(tmp_path / "own")
    context.record.make_directory(tmp_path / "other")
    assert made.compare(context) is None
    for name in ("own", "other"):
        (tmp_path / name).chmod(0o777)
    assert str(tmp_path / "other") not in apply(made, context)
