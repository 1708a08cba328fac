"""An etcd of each release that the product supports. A test that damages it starts one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.port import Store, User
from sysreg_cli.cluster.users import EtcdAdministration
from tests.etcd_cluster import PATIENT, RELEASES, EtcdCluster

#: for which etcd accepts a token that is not used
TOKEN_SECONDS = 1


@pytest.fixture(scope="module", params=RELEASES)
def etcd(request: pytest.FixtureRequest) -> Iterator[EtcdCluster]:
    """The servers of a module. The test runs in their network namespace."""
    # with a short life of tokens, a test logs in more than once; a small quota is soon full
    flags = (f"--auth-token-ttl={TOKEN_SECONDS}", "--quota-backend-bytes=16777216")
    with EtcdCluster.running(request.param, *flags) as cluster:
        yield cluster


@pytest.fixture
def root(etcd: EtcdCluster) -> Iterator[EtcdStore]:
    store = EtcdStore(etcd.access(), PATIENT)
    yield store
    store.close()


@pytest.fixture
def administration(etcd: EtcdCluster) -> EtcdAdministration:
    return EtcdAdministration(etcd.access(), PATIENT)


@pytest.fixture
def clients(etcd: EtcdCluster) -> Callable[[User], Store]:
    def client(user: User) -> EtcdStore:
        return EtcdStore(etcd.access(user), PATIENT)

    return client
