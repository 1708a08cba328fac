"""etcd on a controller: what is written, what is kept, and what is refused."""

from __future__ import annotations

import grp
import os
import subprocess
from pathlib import Path

import pytest

from sysreg_cli.addresses import HostPort
from sysreg_cli.cluster.membership import AuthorityFiles
from sysreg_cli.deploy import etcd
from sysreg_cli.deploy.etcd import ClusterKeys, Installed, MaskedUnit
from sysreg_cli.deploy.units import ETCD, WithdrawnUnit
from sysreg_cli.errors import Conflict, SysregError
from sysreg_cli.settings import ClusterSettings
from tests.unit.deploy.machine import FakePrograms, apply, context_of, required

GROUP = grp.getgrgid(os.getegid()).gr_name


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterSettings:
    return ClusterSettings(listen=HostPort("192.0.2.1", 2479), directory=tmp_path / "cluster")


@pytest.fixture
def keys(cluster: ClusterSettings) -> ClusterKeys:
    return ClusterKeys(cluster, GROUP)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_keys_are_made_once_and_secret(keys: ClusterKeys, tmp_path: Path) -> None:
    context = context_of(tmp_path / "state")
    apply(keys, context)
    modes = {path.name: path.stat().st_mode & 0o777 for path in keys.files.directory.iterdir()}
    assert modes == {
        "ca.crt": 0o644, "client.crt": 0o644, "server.crt": 0o644, "revoked.crl": 0o644,
        "ca.key": 0o600, "client.key": 0o600, "password": 0o600, "server.key": 0o640,
    }  # fmt: skip
    assert keys.compare(context_of(tmp_path / "state")) is None
    assert keys.remove(context).count("removed") == 8
    assert list(keys.files.directory.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["server.key", "server.crt", "client.key", "client.crt", "password", "revoked.crl"]
)
@pytest.mark.parametrize("damage", ["missing", "damaged", "mode"])
def test_what_is_damaged_is_made_anew_and_the_ca_is_kept(
    keys: ClusterKeys, tmp_path: Path, name: str, damage: str
) -> None:
    context = context_of(tmp_path / "state")
    apply(keys, context)
    before = contents(keys.files.directory)
    path = keys.files.directory / name
    if damage == "missing":
        path.unlink()
    elif damage == "mode":
        path.chmod(0o666)
    elif name in ("password", "revoked.crl"):
        return  # only its reader knows
    else:
        path.write_text("garbage")
    apply(keys, context)
    after = contents(keys.files.directory)
    assert (before["ca.crt"], before["ca.key"]) == (after["ca.crt"], after["ca.key"])
    if damage == "mode":
        assert before == after


def test_another_address_gets_another_certificate(
    keys: ClusterKeys, cluster: ClusterSettings, tmp_path: Path
) -> None:
    context = context_of(tmp_path / "state")
    apply(keys, context)
    moved = ClusterSettings(listen=HostPort("192.0.2.2", 2479), directory=cluster.directory)
    before = contents(cluster.directory)
    assert "has other names" in apply(ClusterKeys(moved, GROUP), context)
    after = contents(cluster.directory)
    assert before["server.crt"] != after["server.crt"]
    assert (before["ca.crt"], before["password"]) == (after["ca.crt"], after["password"])


@pytest.mark.parametrize("damage", [None, b"garbage"], ids=["missing", "damaged"])
def test_without_the_ca_s_key_nothing_changes_and_the_operator_is_told(
    keys: ClusterKeys, tmp_path: Path, damage: bytes | None
) -> None:
    context = context_of(tmp_path / "state")
    apply(keys, context)
    keys.files.ca_key.unlink()
    if damage:
        keys.files.ca_key.write_bytes(damage)
        keys.files.ca_key.chmod(0o600)
    assert keys.compare(context) is None  # nothing has to be issued
    keys.files.server_key.unlink()
    before = contents(keys.files.directory)
    with pytest.raises(SysregError, match="restore it from a backup"):
        required(keys, context).apply(context)
    assert contents(keys.files.directory) == before


def test_a_damaged_ca_is_not_replaced(keys: ClusterKeys, tmp_path: Path) -> None:
    context = context_of(tmp_path / "state")
    apply(keys, context)
    keys.files.tls.ca.write_text("garbage")
    with pytest.raises(SysregError, match="restore it from a backup"):
        keys.compare(context)


def test_a_run_that_was_killed_is_continued(keys: ClusterKeys, tmp_path: Path) -> None:
    """Whichever of the files it had written, in the order in which it writes them."""
    context = context_of(tmp_path / "state")
    apply(keys, context)
    files = keys.files
    order = [
        *(files.ca_key, files.tls.ca, files.server_key, files.server_certificate),
        *(files.tls.key, files.tls.certificate, files.revoked, files.password),
    ]
    for written in range(len(order)):
        for path in order[written:]:
            path.unlink()
        apply(keys, context)
        assert all(path.exists() for path in order)


def test_the_environment_names_files_and_limits(cluster: ClusterSettings) -> None:
    files = AuthorityFiles(cluster.directory)
    files.directory.mkdir()
    files.tls.ca.write_bytes(b"a CA")
    values = dict(
        line.split("=", 1) for line in etcd.environment(cluster).decode().splitlines() if line[0] != "#"
    )
    assert values["ETCD_LISTEN_CLIENT_URLS"] == "https://192.0.2.1:2479"
    assert values["ETCD_LISTEN_PEER_URLS"] == "https://127.0.0.1:2480"
    assert values["ETCD_CLIENT_CERT_AUTH"] == values["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    assert all(value for value in values.values())
    token = values["ETCD_INITIAL_CLUSTER_TOKEN"]
    files.tls.ca.write_bytes(b"another CA")
    assert token not in etcd.environment(cluster).decode()


def test_the_members_of_the_example_have_the_same_limits(cluster: ClusterSettings, tmp_path: Path) -> None:
    files = AuthorityFiles(cluster.directory)
    files.directory.mkdir()
    files.tls.ca.write_bytes(b"a CA")
    example = Path(__file__).parents[3] / "docs/examples/etcd-members"
    subprocess.run([example, tmp_path / "members", "192.0.2.1", "2001:db8::2", "192.0.2.3"], check=True)
    made = (tmp_path / "members/2001:db8::2/etcd.env").read_text()
    one = set(etcd.environment(cluster).decode().splitlines()[1:])
    differing = {line.split("=")[0] for line in one - set(made.splitlines())}
    places = ("_URLS", "_FILE", "_CLUSTER", "_TOKEN", "ETCD_NAME", "_DIR")
    assert {name for name in differing if not name.endswith(places)} == set()
    assert {line.split("=")[0] for line in one} == {line.split("=")[0] for line in made.splitlines()}
    assert "ETCD_LISTEN_PEER_URLS=https://[2001:db8::2]:2480" in made
    wrong = subprocess.run([example, tmp_path / "other", "a.name"], capture_output=True, check=False)
    assert (wrong.returncode, b"a.name is no address" in wrong.stderr) == (2, True)


STATE, ACTIVE = (
    f"systemctl is-enabled {etcd.DEBIAN_UNIT}",
    f"systemctl show --value --property ActiveState {etcd.DEBIAN_UNIT}",
)


def test_debian_s_unit_is_masked(tmp_path: Path) -> None:
    programs = FakePrograms({STATE: "not-found\n", ACTIVE: "inactive\n"})
    context = context_of(tmp_path / "state", programs)
    required(MaskedUnit(etcd.DEBIAN_UNIT), context).apply(context)
    assert programs.changes == ["systemctl mask --quiet etcd.service"]
    programs.outputs[STATE] = "masked\n"
    assert MaskedUnit(etcd.DEBIAN_UNIT).compare(context) is None


def test_an_etcd_that_runs_is_not_touched(tmp_path: Path) -> None:
    programs = FakePrograms({STATE: "enabled\n", ACTIVE: "active\n"})
    with pytest.raises(Conflict, match="not sysreg's; in section"):
        MaskedUnit(etcd.DEBIAN_UNIT).compare(context_of(tmp_path / "state", programs))
    assert not programs.changes


def test_etcd_that_is_not_installed_is_named_with_the_command(tmp_path: Path) -> None:
    context = context_of(tmp_path / "state")
    with pytest.raises(SysregError, match="apt-get install etcd-server"):
        required(Installed(tmp_path / "etcd"), context).apply(context)


def test_a_unit_that_the_settings_do_not_ask_for_any_more_is_stopped(tmp_path: Path) -> None:
    context, unit = context_of(tmp_path / "state"), tmp_path / ETCD
    assert WithdrawnUnit(ETCD, unit).compare(context) is None
    unit.touch()
    assert WithdrawnUnit(ETCD, unit).compare(context) is None  # it is somebody else's
    context.record.take(unit)
    context.record.enabled.append(ETCD)
    apply(WithdrawnUnit(ETCD, unit), context)
    assert not unit.exists()
    assert ETCD not in context.record.enabled
