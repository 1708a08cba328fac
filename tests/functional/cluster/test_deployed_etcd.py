"""The etcd that sysreg-deploy sets up: it runs as its files say, and lets nobody in who should not be."""

from __future__ import annotations

import dataclasses
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.gateway import TlsFiles
from sysreg_cli.cluster.membership import access
from sysreg_cli.cluster.port import EPOCH, PREFIX, Expected, Put, Rights, User
from sysreg_cli.cluster.users import EtcdAdministration, enable_passwords
from sysreg_cli.deploy.etcd import ClusterKeys, Passwords
from sysreg_cli.errors import NotAuthenticated, Unavailable
from sysreg_cli.settings import ClusterSettings
from tests.deployed_etcd import ACTIVE, OWN_GROUP, deployed_etcd
from tests.etcd_cluster import RELEASES
from tests.unit.deploy.machine import FakePrograms, context_of


@pytest.fixture(scope="module", params=RELEASES)
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterSettings]:
    with deployed_etcd(request.param) as etcd:
        yield etcd.settings


def test_the_controller_has_a_store_with_an_epoch(cluster: ClusterSettings) -> None:
    store = EtcdStore(access(cluster))
    epoch = store.get(EPOCH)
    assert epoch is not None
    assert store.list(PREFIX).identity.epoch == epoch.value.decode()
    store.transact([Expected(f"{PREFIX}a")], [Put(f"{PREFIX}a", b"1")])


def test_a_second_run_changes_nothing(cluster: ClusterSettings, tmp_path: Path) -> None:
    context = context_of(tmp_path, FakePrograms({ACTIVE: "active\n"}))
    assert Passwords(cluster).compare(context) is None
    enable_passwords(access(cluster))  # a run that was killed before it wrote the epoch calls it again
    assert ClusterKeys(cluster, OWN_GROUP).compare(context) is None


def test_another_password_than_etcd_s_is_not_overwritten(cluster: ClusterSettings, tmp_path: Path) -> None:
    other = dataclasses.replace(cluster, directory=tmp_path)
    for name in ("ca.crt", "client.crt", "client.key"):
        (tmp_path / name).write_bytes((cluster.directory / name).read_bytes())
    (tmp_path / "password").write_text("another")
    context = context_of(tmp_path / "state", FakePrograms({ACTIVE: "active\n"}))
    with pytest.raises(NotAuthenticated, match="refuses the password of user root"):
        Passwords(other).compare(context)


def test_a_host_has_its_own_rights_with_the_same_certificate(
    cluster: ClusterSettings, tmp_path: Path
) -> None:
    reached = access(cluster)
    user = User("host-worker1", "a random password")
    EtcdAdministration(reached).put_user(user, Rights(writes=(f"{PREFIX}hosts/worker1/status",)))
    (tmp_path / "password").write_text(user.password)
    host = EtcdStore(dataclasses.replace(reached, user=user.name, password_file=tmp_path / "password"))
    host.transact([], [Put(f"{PREFIX}hosts/worker1/status", b"{}")])


@pytest.mark.parametrize("certificate", [None, "client"])
def test_nobody_gets_in_without_certificate_and_password(
    cluster: ClusterSettings, certificate: str | None
) -> None:
    """Compaction is open to everybody who may connect, so the certificate decides about it."""
    tls = access(cluster).tls
    context = ssl.create_default_context(cafile=str(tls.ca))
    if certificate:
        context.load_cert_chain(tls.certificate, tls.key)
    with urllib3.PoolManager(ssl_context=context, retries=False) as pool:
        for path, body in (("kv/range", b'{"key":"YQ=="}'), ("kv/put", b'{"key":"YQ=="}')):
            url = f"https://{cluster.listen}/v3/{path}"
            if certificate:
                assert pool.request("POST", url, body=body).status in (400, 403)
            else:
                with pytest.raises((urllib3.exceptions.HTTPError, OSError)):
                    pool.request("POST", url, body=body)


def test_the_key_of_a_client_is_no_server(cluster: ClusterSettings) -> None:
    """A stolen worker cannot stand in for etcd: its certificate is for clients, and for no name."""
    tls: TlsFiles = access(cluster).tls
    shown = subprocess.run(
        ["openssl", "verify", "-purpose", "sslserver", "-CAfile", tls.ca, tls.certificate],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode != 0
    assert "unsuitable certificate purpose" in shown.stderr.lower() + shown.stdout.lower()


def test_an_etcd_that_asks_for_no_password_is_refused() -> None:
    with (
        deployed_etcd("trixie", passwords=False) as etcd,
        pytest.raises(Unavailable, match="does not ask for passwords"),
    ):
        EtcdStore(access(etcd.settings)).get(EPOCH)
