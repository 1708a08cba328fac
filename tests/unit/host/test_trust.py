"""Whom docker, containerd and the system trust before, during and after a change of the certificate."""

from __future__ import annotations

import dataclasses
import os
import signal
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysreg_cli.errors import SysregError
from sysreg_cli.host import failpoint, trust
from sysreg_cli.pki.check import check_authorities, read_certificates
from sysreg_cli.settings import PathSettings, RegistrySettings, Settings, load
from tests import certificates as make
from tests.unit.pki.conftest import NOW

HOSTS = ("registry.local", "registry.central")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "state").mkdir()
    paths = PathSettings(
        state=tmp_path / "state",
        docker_trust=tmp_path / "docker",
        containerd_trust=tmp_path / "containerd",
        system_trust=tmp_path / "system",
        system_trust_command="true",
    )
    return Settings(registry=RegistrySettings(host_names=HOSTS, port=9443), paths=paths)


@pytest.fixture(scope="module")
def old() -> make.Issued:
    return make.authority("Old")


@pytest.fixture(scope="module")
def new() -> make.Issued:
    return make.authority("New")


@pytest.fixture(autouse=True)
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def run(steps: list[trust.Step]) -> None:
    for step in steps:
        step.run()


def directories(settings: Settings) -> list[Path]:
    roots = (settings.paths.docker_trust, settings.paths.containerd_trust)
    return [root / f"{host}:9443" for root in roots for host in HOSTS]


def anchors(directory: Path) -> list[bytes]:
    """What the client that reads ``directory`` trusts, as that client reads it."""
    hosts = directory / "hosts.toml"
    if "containerd" in str(directory):
        named = tomllib.loads(hosts.read_text()) if hosts.exists() else {"host": {}}
        paths = [Path(path) for host in named["host"].values() for path in host["ca"]]
        assert all(path.is_absolute() for path in paths)
    else:
        paths = list(directory.glob("*.crt"))
    return sorted(path.read_bytes() for path in paths)


def test_a_new_anchor_is_trusted_beside_the_old_for_every_host_name(
    settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    run(trust.add_anchor(settings, old.certificate))
    run(trust.add_anchor(settings, new.certificate))
    for directory in directories(settings):
        assert anchors(directory) == sorted([old.pem, new.pem])


def test_after_the_commit_only_the_new_one_is_trusted(
    settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    run(trust.add_anchor(settings, old.certificate))
    run(trust.add_anchor(settings, new.certificate))
    run(trust.drop_other_anchors(settings, new.certificate))
    for directory in directories(settings):
        assert anchors(directory) == [new.pem]
        assert len(list(directory.glob("*.crt"))) == 1


def test_cut_short_anywhere_both_clients_still_trust_what_is_presented(
    tmp_path: Path, settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    run(trust.add_anchor(settings, old.certificate))
    add = trust.add_anchor(settings, new.certificate)
    assert len(add) == 6  # docker: a file a host; containerd: a file and hosts.toml a host
    for step in add:
        step.run()
        for directory in directories(settings):
            assert old.pem in anchors(directory)
    drop = trust.drop_other_anchors(settings, new.certificate)
    assert len(drop) == 6
    for step in drop:
        step.run()
        for directory in directories(settings):
            assert new.pem in anchors(directory)


def test_going_back_is_the_same_call_with_the_old_anchor(
    settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    run(trust.add_anchor(settings, old.certificate))
    run(trust.add_anchor(settings, new.certificate)[:3])
    run(trust.drop_other_anchors(settings, old.certificate))
    for directory in directories(settings):
        assert anchors(directory) == [old.pem]


def test_what_is_done_is_not_done_again(settings: Settings, old: make.Issued, new: make.Issued) -> None:
    run(trust.add_anchor(settings, old.certificate))
    assert trust.add_anchor(settings, old.certificate) == []
    assert trust.drop_other_anchors(settings, old.certificate) == []
    for step in trust.add_anchor(settings, new.certificate):
        step.run()
        step.run()
    assert trust.add_anchor(settings, new.certificate) == []


def test_an_anchor_that_is_damaged_or_gone_comes_back(settings: Settings, old: make.Issued) -> None:
    run(trust.add_anchor(settings, old.certificate))
    first, second, third, fourth = (
        directory / trust.anchor_name(old.certificate) for directory in directories(settings)
    )
    first.write_bytes(b"")
    third.unlink()
    fourth.with_name("hosts.toml").unlink()
    run(trust.drop_other_anchors(settings, old.certificate))
    for directory in directories(settings):
        assert anchors(directory) == [old.pem]
    assert second.exists()


def test_what_an_administrator_put_there_stays(
    settings: Settings, old: make.Issued, new: make.Issued, caplog: pytest.LogCaptureFixture
) -> None:
    docker, _, containerd, _ = directories(settings)
    foreign = {
        docker / "ca.crt": b"an administrator's",
        docker / "client.cert": b"c",
        docker / "client.key": b"k",
        docker / "sysreg-own.crt": b"named like ours",
        containerd / "hosts.toml": b'server = "https://mirror.example.org"\n',
    }
    for path, data in foreign.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    run(trust.add_anchor(settings, old.certificate))
    run(trust.add_anchor(settings, new.certificate))
    run(trust.drop_other_anchors(settings, new.certificate))
    assert {path: path.read_bytes() for path in foreign} == foreign
    assert trust.foreign_files(settings) == [containerd / "hosts.toml"]
    assert "is not ours" in caplog.text
    assert (docker / trust.anchor_name(new.certificate)).read_bytes() == new.pem


def test_everybody_may_read_them_whatever_the_umask(settings: Settings, old: make.Issued) -> None:
    run(trust.add_anchor(settings, old.certificate))
    trust.install_authorities(settings, check_authorities(old.pem, now=NOW))
    found = [settings.paths.docker_trust, settings.paths.containerd_trust, settings.paths.system_trust]
    for path in [below for top in found for below in (top, *top.rglob("*"))]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_odd_paths_are_quoted_in_hosts_toml() -> None:
    text = trust.hosts_toml("registry.local:9001", [Path('/a "b"\\c/é.crt')])
    read = tomllib.loads(text)
    assert read["host"]["https://registry.local:9001"]["ca"] == ['/a "b"\\c/é.crt']
    assert read["server"] == "https://registry.local:9001"


# mode ssl_ca


def with_command(settings: Settings, command: str) -> Settings:
    return dataclasses.replace(
        settings, paths=dataclasses.replace(settings.paths, system_trust_command=command)
    )


def test_several_authorities_are_added_once(settings: Settings, old: make.Issued, new: make.Issued) -> None:
    first = trust.install_authorities(settings, check_authorities(old.pem, now=NOW))
    assert [one.certificate for one in first] == [old.certificate]
    second = trust.install_authorities(settings, check_authorities(new.pem + old.pem, now=NOW))
    assert [one.certificate for one in second] == [new.certificate]
    assert set(trust.installed_authorities(settings)) == {old.certificate, new.certificate}
    assert sorted(path.read_bytes() for path in settings.paths.system_trust.iterdir()) == sorted(
        [old.pem, new.pem]
    )


def test_the_bundle_is_rebuilt_each_time(tmp_path: Path, settings: Settings, old: make.Issued) -> None:
    log = tmp_path / "log"
    counting = with_command(settings, f"sh -c 'echo ran >> {log}'")
    for _ in range(2):
        trust.install_authorities(counting, check_authorities(old.pem, now=NOW))
    assert log.read_text() == "ran\nran\n"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("sh -c 'echo no room >&2; exit 3'", "sh failed with status 3: no room"),
        ("/nowhere/update-ca-certificates", "cannot be run"),
        ("", "cannot be run"),
    ],
)
def test_a_failing_rebuild_is_undone_and_said(
    command: str, reason: str, settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    trust.install_authorities(settings, check_authorities(old.pem, now=NOW))
    with pytest.raises(SysregError, match="CA certificates not installed") as caught:
        trust.install_authorities(
            with_command(settings, command), check_authorities(old.pem + new.pem, now=NOW)
        )
    assert reason in str(caught.value)
    assert trust.installed_authorities(settings) == (old.certificate,)


def test_a_rebuild_that_hangs_is_given_up(
    settings: Settings, old: make.Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_COMMAND_TIMEOUT", 0.2)
    with pytest.raises(SysregError, match="did not end within"):
        trust.install_authorities(with_command(settings, "sleep 30"), check_authorities(old.pem, now=NOW))
    assert trust.installed_authorities(settings) == ()


def test_authorities_of_an_administrator_are_neither_listed_nor_touched(
    settings: Settings, old: make.Issued
) -> None:
    settings.paths.system_trust.mkdir()
    own = settings.paths.system_trust / "corporate.crt"
    own.write_bytes(old.pem)
    assert trust.installed_authorities(settings) == ()
    with pytest.raises(SysregError):
        trust.install_authorities(with_command(settings, "false"), check_authorities(old.pem, now=NOW))
    assert own.read_bytes() == old.pem


_INSTALL = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from sysreg_cli import settings
from sysreg_cli.host import failpoint
from sysreg_cli.host import trust
from sysreg_cli.pki.check import check_authorities, read_certificates

loaded = settings.load(Path(sys.argv[1]))
trust.install_authorities(loaded, check_authorities(sys.stdin.buffer.read(), now=datetime.now(UTC)))
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
    trust.install_authorities(settings, check_authorities(before.pem, now=NOW))
    outcomes = []
    for place in range(1, 30):
        done = subprocess.run(
            [sys.executable, "-c", _INSTALL, str(file)],
            input=old.pem + new.pem, timeout=60, check=False,
            env={**os.environ, failpoint.VARIABLE: f"{place}:kill"},
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL)
        trust.recover_authorities(settings)
        found = set(trust.installed_authorities(settings))
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
    trust.install_authorities(settings, check_authorities(old.pem + new.pem, now=NOW))
    text = bundle.read_bytes()
    assert text.count(old.pem) == text.count(new.pem) == 1
    leaf = tmp_path / "leaf.crt"
    leaf.write_bytes(make.server(new).pem)
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", bundle, leaf], capture_output=True, timeout=30, check=False
    )
    assert verified.returncode == 0, verified.stderr
