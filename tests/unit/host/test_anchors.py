"""Whom docker and containerd trust before, during and after a change of the certificate."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

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
    """What the client that reads ``directory`` trusts, as it reads it: no file may be missing."""
    hosts = directory / "hosts.toml"
    if "containerd" in str(directory):
        named = tomllib.loads(hosts.read_text()) if hosts.exists() else {"host": {}}
        paths = [Path(path) for host in named["host"].values() for path in host["ca"]]
        assert all(path.is_absolute() for path in paths)
    else:
        paths = list(directory.glob("*.crt"))
    found = [one for path in paths for one in x509.load_pem_x509_certificates(path.read_bytes())]
    return sorted({one.public_bytes(Encoding.PEM) for one in found})


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
    assert len(add) == 4  # a file for each client and host
    for change in add:
        change.apply()
        for directory in directories(settings):
            assert old.pem in trusted(directory)
    drop = anchors.trust_only(settings, new.certificate)
    assert len(drop) == 4
    for change in drop:
        change.apply()
        for directory in directories(settings):
            assert new.pem in trusted(directory)


def test_no_file_that_a_client_has_seen_goes(settings: Settings, old: make.Issued, new: make.Issued) -> None:
    """docker and containerd fail if one goes between their look at its name and the read."""
    run(anchors.trust_also(settings, old.certificate))
    seen = {path for directory in directories(settings) for path in directory.iterdir()}
    for change in (anchors.trust_also, anchors.trust_only):
        run(change(settings, new.certificate))
        assert {path for directory in directories(settings) for path in directory.iterdir()} == seen


def test_the_files_of_an_earlier_version_go_with_the_next_change(
    settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    for directory in directories(settings):
        directory.mkdir(parents=True)
        earlier = directory / anchors.anchor_name(old.certificate)
        earlier.write_bytes(old.pem)
        if "containerd" in str(directory):
            (directory / "hosts.toml").write_text(anchors.hosts_toml(directory.name, [earlier]))
    for change in anchors.trust_also(settings, new.certificate):
        change.apply()
        assert all(old.pem in trusted(directory) for directory in directories(settings))
    run(anchors.trust_only(settings, new.certificate))
    for directory in directories(settings):
        assert trusted(directory) == [new.pem]
        assert [path.name for path in directory.glob("*.crt")] == [anchors.FILE]


def test_going_back_is_the_same_call_with_the_old_anchor(
    settings: Settings, old: make.Issued, new: make.Issued
) -> None:
    run(anchors.trust_also(settings, old.certificate))
    run(anchors.trust_also(settings, new.certificate)[:2])
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
    first, second, third, fourth = (directory / anchors.FILE for directory in directories(settings))
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
    assert (docker / anchors.FILE).read_bytes() == new.pem


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
