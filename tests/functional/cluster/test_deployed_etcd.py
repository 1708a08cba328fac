"""The etcd that sysreg-deploy sets up: it runs as its files say, and lets nobody in who should not be."""

from __future__ import annotations

import dataclasses
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from devstack.etcd import GROUP
from sysreg_cli.agent.hosts.certificates import HostCertificates
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.gateway import TlsFiles
from sysreg_cli.cluster.membership import access
from sysreg_cli.cluster.port import EPOCH, PREFIX, Expected, Put, Rights, User
from sysreg_cli.cluster.users import EtcdAdministration, enable_passwords
from sysreg_cli.deploy.etcd import ClusterKeys, Passwords
from sysreg_cli.deploy.units import ETCD
from sysreg_cli.errors import NotAuthenticated, Unavailable
from sysreg_cli.settings import ClusterSettings
from tests.deployed_etcd import deployed_etcd
from tests.etcd_cluster import RELEASES
from tests.functional.cluster.test_credential import OPEN, REFUSED
from tests.unit.deploy.machine import FakePrograms, context_of

_ACTIVE = f"systemctl show --value --property ActiveState {ETCD}"


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
    context = context_of(tmp_path, FakePrograms({_ACTIVE: "active\n"}))
    assert Passwords(cluster).compare(context) is None
    enable_passwords(access(cluster))  # a run that was killed before it wrote the epoch calls it again
    assert ClusterKeys(cluster, GROUP).compare(context) is None


def test_another_password_than_etcd_s_is_not_overwritten(cluster: ClusterSettings, tmp_path: Path) -> None:
    other = dataclasses.replace(cluster, directory=tmp_path)
    for name in ("ca.crt", "client.crt", "client.key"):
        (tmp_path / name).write_bytes((cluster.directory / name).read_bytes())
    (tmp_path / "password").write_text("another")
    context = context_of(tmp_path / "state", FakePrograms({_ACTIVE: "active\n"}))
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


def test_nobody_gets_in_without_a_certificate(cluster: ClusterSettings) -> None:
    """Some calls need no password, so the certificate decides about these."""
    context = ssl.create_default_context(cafile=str(access(cluster).tls.ca))
    with urllib3.PoolManager(ssl_context=context, retries=False) as pool:
        for path, _ in (*REFUSED.values(), *OPEN.values()):
            with pytest.raises((urllib3.exceptions.HTTPError, OSError)):
                pool.request("POST", f"https://{cluster.listen}/v3/{path}", body=b"{}")


def test_nobody_reads_or_writes_without_a_password(cluster: ClusterSettings) -> None:
    with urllib3.PoolManager(ssl_context=access(cluster).tls.context(), retries=False) as pool:
        for path in ("kv/range", "kv/put"):
            answer = pool.request("POST", f"https://{cluster.listen}/v3/{path}", body=b'{"key":"YQ=="}')
            assert answer.status in (400, 403)


def test_a_deleted_host_cannot_even_connect(cluster: ClusterSettings, tmp_path: Path) -> None:
    """Neither its password nor its certificate is accepted, without a restart of etcd."""
    certificates, reached = HostCertificates(cluster), access(cluster)
    tls = TlsFiles(reached.tls.ca, tmp_path / "client.crt", tmp_path / "client.key")
    for path, pem in zip((tls.certificate, tls.key), certificates.issue("worker-2"), strict=True):
        path.write_text(pem)
    EtcdStore(dataclasses.replace(reached, tls=tls)).get(EPOCH)
    certificates.revoke("worker-2")
    with pytest.raises(Unavailable, match="etcd cannot be used"):
        EtcdStore(dataclasses.replace(reached, tls=tls)).get(EPOCH)
    EtcdStore(reached).get(EPOCH)


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
