"""Whom docker and containerd trust before, during and after a change of the certificate."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from sysreg_cli.host import anchors
from sysreg_cli.settings import Settings
from tests import certificates as make
from tests.unit.host.conftest import HOSTS

pytestmark = pytest.mark.usefixtures("strict_umask")


def run(changes: list[anchors.FileChange]) -> None:
    for change in changes:
        change.apply()


def directories(settings: Settings) -> list[Path]:
    roots = (settings.paths.docker_trust, settings.paths.containerd_trust)
    return [root / f"{host}:9443" for root in roots for host in HOSTS]


def trusted(directory: Path) -> list[bytes]:
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
    run(anchors.trust_also(settings, old.certificate))
    run(anchors.trust_also(settings, new.certificate))
    for directory in directories(settings):
        assert trusted(directory) == sorted([old.pem, new.pem])


def test_after_the_commit_only_the_new_one_is_trusted(
    settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    run(anchors.trust_also(settings, old.certificate))
    run(anchors.trust_also(settings, new.certificate))
    run(anchors.trust_only(settings, new.certificate))
    for directory in directories(settings):
        assert trusted(directory) == [new.pem]
        assert len(list(directory.glob("*.crt"))) == 1


def test_cut_short_anywhere_both_clients_still_trust_what_is_presented(
    tmp_path: Path, settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    run(anchors.trust_also(settings, old.certificate))
    add = anchors.trust_also(settings, new.certificate)
    assert len(add) == 6  # docker: a file a host; containerd: a file and hosts.toml a host
    for change in add:
        change.apply()
        for directory in directories(settings):
            assert old.pem in trusted(directory)
    drop = anchors.trust_only(settings, new.certificate)
    assert len(drop) == 6
    for change in drop:
        change.apply()
        for directory in directories(settings):
            assert new.pem in trusted(directory)


def test_going_back_is_the_same_call_with_the_old_anchor(
    settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    run(anchors.trust_also(settings, old.certificate))
    run(anchors.trust_also(settings, new.certificate)[:3])
    run(anchors.trust_only(settings, old.certificate))
    for directory in directories(settings):
        assert trusted(directory) == [old.pem]


def test_what_is_done_is_not_done_again(settings: Settings, old: make.Issued, new: make.Issued) -> None:
    run(anchors.trust_also(settings, old.certificate))
    assert anchors.trust_also(settings, old.certificate) == []
    assert anchors.trust_only(settings, old.certificate) == []
    for change in anchors.trust_also(settings, new.certificate):
        change.apply()
        change.apply()
    assert anchors.trust_also(settings, new.certificate) == []


def test_an_anchor_that_is_damaged_or_gone_comes_back(settings: Settings, old: make.Issued) -> None:
    run(anchors.trust_also(settings, old.certificate))
    first, second, third, fourth = (
        directory / anchors.anchor_name(old.certificate) for directory in directories(settings)
    )
    first.write_bytes(b"")
    third.unlink()
    fourth.with_name("hosts.toml").unlink()
    run(anchors.trust_only(settings, old.certificate))
    for directory in directories(settings):
        assert trusted(directory) == [old.pem]
    assert second.exists()


def test_what_an_administrator_put_there_stays(
    settings: Settings, old: make.Issued, new: make.Issued, caplog: pytest.LogCaptureFixture
) -> None:
    docker, _, containerd, _ = directories(settings)
    foreign = {
        docker / "ca.crt": b"an administrator's",
        docker / "client.cert": b"c",
        docker / "client.key": b"k",
        docker / "sysreg-own.crt": b"not the name of an anchor",
        containerd / "hosts.toml": b'server = "https://mirror.example.org"\n',
    }
    for path, data in foreign.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    run(anchors.trust_also(settings, old.certificate))
    run(anchors.trust_also(settings, new.certificate))
    run(anchors.trust_only(settings, new.certificate))
    assert {path: path.read_bytes() for path in foreign} == foreign
    assert anchors.foreign_files(settings) == [containerd / "hosts.toml"]
    assert "is not from sysreg" in caplog.text
    assert (docker / anchors.anchor_name(new.certificate)).read_bytes() == new.pem


def test_everybody_may_read_them_whatever_the_umask(settings: Settings, old: make.Issued) -> None:
    run(anchors.trust_also(settings, old.certificate))
    roots = [settings.paths.docker_trust, settings.paths.containerd_trust]
    for path in [below for root in roots for below in (root, *root.rglob("*"))]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_odd_paths_are_quoted_in_hosts_toml() -> None:
    text = anchors.hosts_toml("registry.local:9001", [Path('/a "b"\\c/é.crt')])
    read = tomllib.loads(text)
    assert read["host"]["https://registry.local:9001"]["ca"] == ['/a "b"\\c/é.crt']
    assert read["server"] == "https://registry.local:9001"
