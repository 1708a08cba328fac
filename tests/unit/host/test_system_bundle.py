"""CA certificates are added to the system's bundle all together or not at all."""

from __future__ import annotations

import dataclasses
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from sysreg_cli.errors import SysregError
from sysreg_cli.host import failpoint
from sysreg_cli.host.anchors import anchor_name
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.check import check_authorities, read_certificates
from sysreg_cli.settings import Settings, load
from tests import certificates as make
from tests.killed import failpoints, killed
from tests.unit.pki.conftest import NOW

pytestmark = pytest.mark.usefixtures("strict_umask")


def bundle_of(settings: Settings, **options: float) -> SystemBundle:
    return SystemBundle(settings.paths, **options)


def install(settings: Settings, *authorities: make.Issued, **options: float) -> None:
    pem = b"".join(authority.pem for authority in authorities)
    bundle_of(settings, **options).install(check_authorities(pem, now=NOW).accepted)


def with_command(settings: Settings, command: str) -> Settings:
    return dataclasses.replace(
        settings, paths=dataclasses.replace(settings.paths, system_trust_command=command)
    )


def test_several_authorities_are_added_once(settings: Settings, old: make.Issued, new: make.Issued) -> None:
    install(settings, old)
    assert bundle_of(settings).installed() == (old.certificate,)
    install(settings, new, old)
    assert set(bundle_of(settings).installed()) == {old.certificate, new.certificate}
    assert sorted(path.read_bytes() for path in settings.paths.system_trust.iterdir()) == sorted(
        [old.pem, new.pem]
    )


def test_the_bundle_is_rebuilt_each_time(tmp_path: Path, settings: Settings, old: make.Issued) -> None:
    log = tmp_path / "log"
    counting = with_command(settings, f"sh -c 'echo ran >> {log}'")
    for _ in range(2):
        install(counting, old)
    assert log.read_text() == "ran\nran\n"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("sh -c 'echo no room >&2; exit 3'", "failed with status 3: no room"),
        ("/nowhere/update-ca-certificates", "cannot be run"),
        ("", "system_trust_command in section [paths]: is empty"),
    ],
)
def test_a_failing_rebuild_is_undone_and_said(
    command: str, reason: str, settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    install(settings, old)
    with pytest.raises(SysregError, match="CA certificates not installed") as caught:
        install(with_command(settings, command), old, new)
    assert reason in str(caught.value)
    assert bundle_of(settings).installed() == (old.certificate,)


def test_a_rebuild_that_hangs_is_given_up(settings: Settings, old: make.Issued) -> None:
    with pytest.raises(SysregError, match="did not end within"):
        install(with_command(settings, "sleep 30"), old, command_timeout=0.2)
    assert bundle_of(settings).installed() == ()


@pytest.mark.parametrize("name", ["corporate.crt", "sysreg-registry.crt"])
def test_authorities_of_an_administrator_are_neither_listed_nor_touched(
    settings: Settings, old: make.Issued, name: str
) -> None:
    settings.paths.system_trust.mkdir()
    own = settings.paths.system_trust / name
    own.write_bytes(old.pem)
    assert bundle_of(settings).installed() == ()
    with pytest.raises(SysregError):
        install(with_command(settings, "false"), old)
    assert own.read_bytes() == old.pem


def test_everybody_may_read_them_whatever_the_umask(settings: Settings, old: make.Issued) -> None:
    install(settings, old)
    root = settings.paths.system_trust
    for path in (root, *root.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_the_journal_of_version_0_1_0_is_replayed(settings: Settings, old: make.Issued) -> None:
    """Its records had no format number. This one names a file whose install did not end."""
    install(settings, old)
    left = settings.paths.system_trust / "sysreg-0123456789abcdef0123456789abcdef.crt"
    left.write_bytes(old.pem)
    (settings.paths.state / "authorities-journal").write_text(
        '{"record": "{\\"sysreg-0123456789abcdef0123456789abcdef.crt\\": \\"new\\"}",'
        ' "sha256": "bd641ebac9141123a956950da4600a227b4daf6ce0467c9aeabe1bd22840f5e9"}\n'
    )
    bundle_of(settings).recover()
    assert [path.name for path in settings.paths.system_trust.iterdir()] == [anchor_name(old.certificate)]
    assert not list(settings.paths.state.iterdir())


_INSTALL = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from sysreg_cli import settings
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.check import check_authorities

authorities = check_authorities(sys.stdin.buffer.read(), now=datetime.now(UTC)).accepted
SystemBundle(settings.load(Path(sys.argv[1])).paths).install(authorities)
"""


def test_killed_anywhere_the_next_start_leaves_all_of_them_or_none(
    tmp_path: Path, old: make.Issued, new: make.Issued
) -> None:
    """Every place where the agent changes something, one SIGKILL each; the bundle is what the files say."""
    directory, bundle, state = (tmp_path / name for name in ("system", "bundle", "state"))
    state.mkdir()
    script = tmp_path / "rebuild"
    script.write_text(f"#!/bin/sh\ncat {directory}/*.crt > {bundle}\n")
    script.chmod(0o755)
    file = tmp_path / "sysreg.conf"
    file.write_text(
        f"[paths]\nstate = {state}\nsystem_trust = {directory}\nsystem_trust_command = {script}\n"
    )
    settings = load(file)
    before = make.authority("Before")
    install(settings, before)
    outcomes = []
    for place in range(1, 30):
        done = subprocess.run(
            [sys.executable, "-c", _INSTALL, str(file)],
            input=old.pem + new.pem, timeout=60, check=False,
            env={**os.environ, failpoint.VARIABLE: f"{place}:kill"},
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL)
        bundle_of(settings).recover()
        found = set(bundle_of(settings).installed())
        assert found in ({before.certificate}, {before.certificate, old.certificate, new.certificate})
        assert set(read_certificates(bundle.read_bytes())) == found
        assert not list(state.glob("authorities-journal"))
        if done.returncode == 0:
            break
        outcomes.append(len(found))
        for path in directory.glob("*.crt"):
            if path.read_bytes() != before.pem:
                path.unlink()
        for leftover in [*directory.glob(".sysreg-*"), *state.glob(".sysreg-*")]:
            leftover.unlink()
        script_run = subprocess.run([script], check=True, timeout=10)
        assert script_run.returncode == 0
    assert done.returncode == 0
    assert len(outcomes) >= 6
    assert 1 in outcomes


def test_debians_own_command_puts_them_into_the_bundle(
    tmp_path: Path, settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    bundle = tmp_path / "etc" / "ca-certificates.crt"
    bundle.parent.mkdir()
    (tmp_path / "hooks").mkdir()
    (tmp_path / "conf").write_text("")
    settings = with_command(
        settings,
        f"update-ca-certificates --localcertsdir {settings.paths.system_trust}"
        f" --etccertsdir {bundle.parent} --hooksdir {tmp_path / 'hooks'} --certsconf {tmp_path / 'conf'}",
    )
    install(settings, old, new)
    text = bundle.read_bytes()
    assert text.count(old.pem) == text.count(new.pem) == 1
    leaf = tmp_path / "leaf.crt"
    leaf.write_bytes(make.server(new).pem)
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", bundle, leaf], capture_output=True, timeout=30, check=False
    )
    assert verified.returncode == 0, verified.stderr


class Rebuilt:
    """A directory of CA certificates, and the bundle that a command rebuilds from its files."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.bundle = directory / "bundle"
        script = directory / "rebuild"
        script.write_text(f"#!/bin/sh\ncat {settings.paths.system_trust}/*.crt > {self.bundle}\n")
        script.chmod(0o755)
        self.settings = with_command(settings, str(script))

    def remove(self, authority: make.Issued) -> None:
        bundle_of(self.settings).remove(authority.certificate)

    def trusted(self) -> set[x509.Certificate]:
        """What the bundle holds after the next start, when nothing else is left."""
        bundle_of(self.settings).recover()
        found = set(bundle_of(self.settings).installed())
        assert set(read_certificates(self.bundle.read_bytes())) == found
        left = [path.name for path in self.settings.paths.system_trust.iterdir()]
        assert sorted(left) == sorted(anchor_name(certificate) for certificate in found)
        assert not (self.settings.paths.state / "authorities-journal").exists()
        return found


@pytest.fixture
def rebuilt(tmp_path: Path, settings: Settings, old: make.Issued, new: make.Issued) -> Rebuilt:
    rebuilt = Rebuilt(tmp_path, settings)
    install(rebuilt.settings, old, new)
    return rebuilt


def test_one_is_removed_and_the_others_stay(rebuilt: Rebuilt, old: make.Issued, new: make.Issued) -> None:
    rebuilt.remove(old)
    assert rebuilt.trusted() == {new.certificate}


def test_a_removal_that_is_killed_anywhere_is_done_or_undone(
    rebuilt: Rebuilt, old: make.Issued, new: make.Issued
) -> None:
    outcomes = []
    for place in range(1, len(_failpoints(rebuilt, old)) + 2):
        was_killed = killed(place, lambda: rebuilt.remove(old))
        for leftover in rebuilt.settings.paths.state.glob(".sysreg-*"):
            leftover.unlink()
        outcomes.append(rebuilt.trusted())
        install(rebuilt.settings, old)
    assert not was_killed
    assert outcomes[-1] == {new.certificate}
    assert len(outcomes) > 5
    assert all(outcome in ({new.certificate}, {old.certificate, new.certificate}) for outcome in outcomes)
    assert {old.certificate, new.certificate} in outcomes


@pytest.mark.parametrize("fault", ["ENOSPC", "ENOSPC+", "EIO", "EROFS+"])
def test_a_removal_that_fails_anywhere_is_done_or_undone(
    rebuilt: Rebuilt, old: make.Issued, new: make.Issued, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(1, len(_failpoints(rebuilt, old)) + 1):
        monkeypatch.setenv(failpoint.VARIABLE, f"{place}:{fault}")
        failpoint.reset()
        try:
            rebuilt.remove(old)
            expected = {new.certificate}
        except SysregError as error:
            assert "CA certificate not removed" in str(error)
            expected = {old.certificate, new.certificate}
        monkeypatch.delenv(failpoint.VARIABLE)
        assert rebuilt.trusted() == expected, f"{fault} at failpoint {place}"
        install(rebuilt.settings, old)


def test_a_failing_rebuild_undoes_a_removal(rebuilt: Rebuilt, old: make.Issued, new: make.Issued) -> None:
    failing = with_command(rebuilt.settings, "false")
    with pytest.raises(SysregError, match="CA certificate not removed"):
        bundle_of(failing).remove(old.certificate)
    assert rebuilt.trusted() == {old.certificate, new.certificate}


def test_a_removal_whose_journal_is_damaged_is_undone(
    rebuilt: Rebuilt, old: make.Issued, new: make.Issued
) -> None:
    assert killed(_failpoints(rebuilt, old).index("rebuild bundle") + 1, lambda: rebuilt.remove(old))
    (rebuilt.settings.paths.state / "authorities-journal").write_text("{}")
    assert rebuilt.trusted() == {old.certificate, new.certificate}


def _failpoints(rebuilt: Rebuilt, authority: make.Issued) -> list[str]:
    """The failpoints of an undisturbed removal, in order."""
    names = failpoints(rebuilt.bundle.parent, lambda: rebuilt.remove(authority))
    install(rebuilt.settings, authority)
    return names


def test_all_are_replaced_at_once_and_those_of_an_administrator_stay(
    rebuilt: Rebuilt, old: make.Issued, new: make.Issued
) -> None:
    bundle, later = bundle_of(rebuilt.settings), make.authority("Later")
    own = rebuilt.settings.paths.system_trust / "corporate.crt"
    own.write_bytes(make.authority("Own").pem)
    assert bundle.holds_only([old.certificate, new.certificate])
    wanted = [new.certificate, later.certificate]
    assert not bundle.holds_only(wanted)
    bundle.replace_all(wanted)
    assert bundle.holds_only(wanted)
    assert own.exists()
    own.unlink()
    bundle.replace_all(wanted)
    assert rebuilt.trusted() == set(wanted)


def test_a_file_that_somebody_damaged_is_written_anew(rebuilt: Rebuilt, old: make.Issued) -> None:
    bundle = bundle_of(rebuilt.settings)
    bundle.path(old.certificate).write_text("damaged")
    assert not bundle.holds_only([old.certificate])
    bundle.replace_all([old.certificate])
    assert rebuilt.trusted() == {old.certificate}


def test_a_replacement_that_is_killed_or_fails_anywhere_is_done_or_undone(
    rebuilt: Rebuilt, old: make.Issued, new: make.Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, later = bundle_of(rebuilt.settings), make.authority("Later")
    before, after = {old.certificate, new.certificate}, {new.certificate, later.certificate}

    def replace() -> None:
        bundle.replace_all(list(after))

    outcomes = []
    for place in range(1, 40):
        was_killed = killed(place, replace)
        for leftover in rebuilt.settings.paths.state.glob(".sysreg-*"):
            leftover.unlink()
        for leftover in rebuilt.settings.paths.system_trust.glob(".sysreg-*"):
            leftover.unlink()
        outcomes.append(rebuilt.trusted())
        bundle.replace_all(list(before))
        if not was_killed:
            break
        monkeypatch.setenv(failpoint.VARIABLE, f"{place}:EROFS")
        failpoint.reset()
        try:
            replace()
            expected = after
        except OSError:
            expected = before
        monkeypatch.delenv(failpoint.VARIABLE)
        assert rebuilt.trusted() == expected, f"failpoint {place}"
        bundle.replace_all(list(before))
    assert not was_killed
    assert outcomes[-1] == after
    assert before in outcomes
    assert all(outcome in (before, after) for outcome in outcomes)
