"""Each host has a certificate of its own, and that of a deleted or replaced host is revoked."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest
from cryptography import x509

from sysreg_cli.addresses import HostPort
from sysreg_cli.agent.hosts.certificates import HostCertificates
from sysreg_cli.cluster.membership import AuthorityFiles
from sysreg_cli.deploy.etcd import ClusterKeys
from sysreg_cli.errors import SysregError
from sysreg_cli.settings import ClusterSettings
from tests.unit.deploy.machine import apply, context_of


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterSettings:
    cluster = ClusterSettings(listen=HostPort("192.0.2.1", 2479), directory=tmp_path / "cluster")
    apply(ClusterKeys(cluster, grp.getgrgid(os.getegid()).gr_name), context_of(tmp_path / "state"))
    return cluster


@pytest.fixture
def certificates(cluster: ClusterSettings) -> HostCertificates:
    return HostCertificates(cluster)


def serial(pem: str) -> int:
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def revoked(cluster: ClusterSettings) -> set[int]:
    path = AuthorityFiles(cluster.directory).revoked
    return {entry.serial_number for entry in x509.load_pem_x509_crl(path.read_bytes())}


def test_a_host_has_neither_the_controller_s_key_nor_another_host_s(
    certificates: HostCertificates, cluster: ClusterSettings
) -> None:
    pairs = {certificates.issue(host) for host in ("worker-1", "worker-2")}
    tls = AuthorityFiles(cluster.directory).tls
    pairs.add((tls.certificate.read_text(), tls.key.read_text()))
    assert len({certificate for certificate, _ in pairs}) == len({key for _, key in pairs}) == 3
    assert revoked(cluster) == set()
    assert not [key for _, key in pairs if key in str(list(cluster.directory.rglob("hosts/*")))]


def test_a_deleted_host_s_certificate_is_revoked_once(
    certificates: HostCertificates, cluster: ClusterSettings
) -> None:
    first, _ = certificates.issue("worker-1")
    other, _ = certificates.issue("worker-2")
    for _ in range(2):
        certificates.revoke("worker-1")
        assert revoked(cluster) == {serial(first)}
    again, _ = certificates.issue("worker-1")
    assert serial(again) not in revoked(cluster)
    assert serial(other) not in revoked(cluster)


def test_a_second_join_file_revokes_the_certificate_of_the_first(
    certificates: HostCertificates, cluster: ClusterSettings
) -> None:
    first, _ = certificates.issue("worker-1")
    certificates.issue("worker-1")
    assert revoked(cluster) == {serial(first)}


@pytest.mark.parametrize("damaged", ["ca.key", "revoked.crl", "hosts/worker-1.crt"])
def test_damage_is_named_and_nothing_is_lost(
    certificates: HostCertificates, cluster: ClusterSettings, damaged: str
) -> None:
    certificates.issue("worker-1")
    (cluster.directory / damaged).write_text("garbage")
    with pytest.raises(SysregError, match=rf"{damaged.rpartition('/')[2]}.*restore"):
        certificates.revoke("worker-1")
    assert (cluster.directory / "hosts/worker-1.crt").exists()


def test_with_an_etcd_of_somebody_else_hosts_share_the_controller_s(
    certificates: HostCertificates, cluster: ClusterSettings
) -> None:
    files = AuthorityFiles(cluster.directory)
    files.ca_key.unlink()
    assert certificates.issue("worker-1") == (files.tls.certificate.read_text(), files.tls.key.read_text())
    certificates.revoke("worker-1")
