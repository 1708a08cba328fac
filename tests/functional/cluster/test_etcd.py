"""etcd keeps the rules of the port. What cannot work ends with one line: the server, and the reason."""

from __future__ import annotations

import dataclasses
import http.server
import re
import signal
import ssl
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from devstack.waiting import wait_until
from sysreg_cli.addresses import HostPort
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.gateway import Gateway, NoAnswer, TlsFiles, encode
from sysreg_cli.cluster.port import PREFIX, Delete, Put, Rights, User
from sysreg_cli.cluster.servers import Access, Limits, Servers
from sysreg_cli.cluster.users import EtcdAdministration
from sysreg_cli.errors import NotAuthenticated, NotAuthorized, SettingsError, SysregError, Unavailable
from tests import certificates as make
from tests.etcd_cluster import LIMITS, PATIENT, EtcdCluster
from tests.store_rules import StoreRules

KEY = f"{PREFIX}a"


class TestRules(StoreRules):
    """The rules of the port."""


_REMEDY = "; check that etcd runs at these addresses, and the network to them"


def failure(access: Access, kind: type[SysregError] = Unavailable, limits: Limits = PATIENT) -> str:
    """Return the message that every kind of call ends with."""
    with pytest.raises(kind) as caught:
        EtcdStore(access, limits).get(KEY)
    message = str(caught.value)
    assert "\n" not in message
    # each message says once that it is about etcd
    assert len(re.findall(r"\betcd (?:cannot|refuses|does|takes)", message)) <= 1, message
    if kind is not Unavailable:
        return message
    assert message.endswith(_REMEDY), message
    return message.removesuffix(_REMEDY)


def test_nobody_listens(etcd: EtcdCluster) -> None:
    access = dataclasses.replace(
        etcd.access(), endpoints=(HostPort("127.0.0.9", 1), HostPort("127.0.0.8", 2))
    )
    assert failure(access) == (
        "etcd cannot be used: 127.0.0.9:1: Connection refused; 127.0.0.8:2: Connection refused"
    )


def test_the_name_is_unknown(etcd: EtcdCluster) -> None:
    access = dataclasses.replace(etcd.access(), endpoints=(HostPort("etcd.invalid", 1),))
    assert failure(access).startswith("etcd cannot be used: etcd.invalid:1: ")


def test_every_server_has_every_user(etcd: EtcdCluster, administration: EtcdAdministration) -> None:
    """With its usual batches, Debian's 3.5.16 loses one change in a thousand on one server, for good."""
    users = [User(f"many-{number}", "a random password") for number in range(60)]
    for user in users:
        administration.put_user(user, Rights(writes=[f"{PREFIX}{user.name}"]))

    def is_known(user: User, server: int) -> bool:
        try:
            EtcdStore(etcd.access(user, numbers=[server]), PATIENT).get(f"{PREFIX}{user.name}")
        except (NotAuthenticated, NotAuthorized):
            return False
        return True

    for server in range(3):
        wait_until(lambda n=server: is_known(users[-1], n), what=f"server {server} has reached the others")  # type: ignore[misc]
        unknown = [user for user in users if not is_known(user, server)]
        assert not unknown, server
    revisions = administration.user_revisions()
    assert len(revisions) == (0 if "bookworm" in etcd.programs.parent.parent.name else 3)  # 3.4 does not tell
    assert len(set(revisions.values())) <= 1


def test_a_new_user_is_let_in_at_once_by_every_server(etcd: EtcdCluster) -> None:
    """A server that lags behind refuses the login, and each change of a user makes all tokens worthless."""
    leader = etcd.leader()
    others = [number for number in range(3) if number != leader]

    def add(number: int) -> None:
        with etcd.inside():
            user, key = User(f"new-{number}", "a random password"), f"{PREFIX}new/{number}"
            EtcdAdministration(etcd.access(numbers=[leader]), PATIENT).put_user(user, Rights(writes=[key]))
            EtcdStore(etcd.access(user, numbers=[*others, leader]), PATIENT).transact([], [Put(key, b"1")])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(60)))


def test_one_server_that_works_is_enough(etcd: EtcdCluster) -> None:
    access = etcd.access()
    for wrong in (HostPort("127.0.0.9", 1), HostPort("127.0.0.1", 2381)):
        EtcdStore(dataclasses.replace(access, endpoints=(wrong, *access.endpoints)), PATIENT).get(KEY)


def test_it_speaks_no_tls(etcd: EtcdCluster) -> None:
    access = dataclasses.replace(etcd.access(), endpoints=(HostPort("127.0.0.1", 2381),))
    assert failure(access) in (
        "etcd cannot be used: 127.0.0.1:2381: wrong version number",
        "etcd cannot be used: 127.0.0.1:2381: record layer failure",
    )


@pytest.fixture
def other_server(etcd: EtcdCluster) -> Iterator[HostPort]:
    """A server with a certificate of etcd's CA that is no etcd."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(etcd.directory / "server.crt", etcd.directory / "server.key")
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield HostPort("127.0.0.1", server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_is_no_etcd(etcd: EtcdCluster, other_server: HostPort) -> None:
    access = dataclasses.replace(etcd.access(), endpoints=(other_server,))
    assert failure(access) == f"etcd cannot be used: {other_server}: its answer (501) is not etcd's"


def test_its_certificate_is_of_another_ca(etcd: EtcdCluster, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(make.authority("another").pem)
    tls = dataclasses.replace(etcd.access().tls, ca=tmp_path / "ca.crt")
    access = dataclasses.replace(etcd.access(numbers=(0,)), tls=tls)
    assert failure(access) == (
        "etcd cannot be used: 127.0.0.1:2379: its certificate is not trusted: "
        "unable to get local issuer certificate"
    )


def test_the_client_s_certificate_is_of_another_ca(etcd: EtcdCluster, tmp_path: Path) -> None:
    stranger = make.issue("stranger", make.authority("another"))
    (tmp_path / "crt").write_bytes(stranger.pem)
    (tmp_path / "key").write_bytes(stranger.key_pem)
    tls = TlsFiles(etcd.access().tls.ca, tmp_path / "crt", tmp_path / "key")
    message = failure(dataclasses.replace(etcd.access(numbers=(0,)), tls=tls))
    assert message.startswith("etcd cannot be used: 127.0.0.1:2379: ")
    assert "accept this client's certificate" in message


@pytest.mark.parametrize("name", ["ca", "certificate", "key"])
@pytest.mark.parametrize("damage", [None, b"", b"no PEM"], ids=["missing", "empty", "damaged"])
def test_a_file_of_the_client_cannot_be_used(
    etcd: EtcdCluster, tmp_path: Path, name: str, damage: bytes | None
) -> None:
    if damage is not None:
        (tmp_path / "file").write_bytes(damage)
    tls = dataclasses.replace(etcd.access().tls, **{name: tmp_path / "file"})
    assert str(tmp_path / "file") in failure(dataclasses.replace(etcd.access(), tls=tls), SettingsError)


def test_the_password_is_wrong(etcd: EtcdCluster, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong\n")
    access = dataclasses.replace(etcd.access(), password_file=tmp_path / "password")
    assert failure(access, NotAuthenticated) == (
        f"etcd refuses the password of user root; check {tmp_path}/password, and that the user exists"
    )


def test_the_password_is_missing(etcd: EtcdCluster, tmp_path: Path) -> None:
    access = dataclasses.replace(etcd.access(), password_file=tmp_path / "password")
    assert failure(access, SettingsError) == (
        f"no login to etcd: {tmp_path}/password: No such file or directory"
    )


def test_a_replaced_password_and_certificate_are_used(etcd: EtcdCluster, tmp_path: Path) -> None:
    """What renews them needs to restart nothing."""
    (tmp_path / "password").write_text("wrong")
    (tmp_path / "ca.crt").write_bytes(make.authority("another").pem)
    tls = dataclasses.replace(etcd.access().tls, ca=tmp_path / "ca.crt")
    store = EtcdStore(
        dataclasses.replace(etcd.access(), tls=tls, password_file=tmp_path / "password"), PATIENT
    )
    with pytest.raises(Unavailable):
        store.get(KEY)
    (tmp_path / "ca.crt").write_bytes(etcd.access().tls.ca.read_bytes())
    with pytest.raises(NotAuthenticated):
        store.get(KEY)
    (tmp_path / "password").write_text(etcd.access().password())
    store.get(KEY)


def test_a_call_under_way_is_not_disturbed_when_another_finds_no_server(etcd: EtcdCluster) -> None:
    """Other threads connect anew then."""
    servers = Servers(etcd.access(), PATIENT)

    def no_answer(_gateway: Gateway, _token: str) -> None:
        raise NoAnswer("none", sent=False)

    def answer(gateway: Gateway, token: str) -> Mapping[str, Any]:
        with pytest.raises(Unavailable):
            servers.attempt(no_answer, "fail")
        servers.call("kv/range", {"key": encode(KEY)}, "read")
        return gateway.call("kv/range", {"key": encode(KEY)}, token=token)

    assert servers.attempt(answer, "read")["header"]


def test_no_secret_is_in_what_is_shown(etcd: EtcdCluster) -> None:
    access = etcd.access()
    assert access.password() not in f"{access!r} {EtcdStore(access, LIMITS)!r}"


def test_there_is_no_quorum(etcd: EtcdCluster) -> None:
    for number in (1, 2):
        etcd.signal(number, signal.SIGKILL)
    try:
        message = failure(etcd.access(numbers=(0,)), limits=LIMITS)
        assert message.startswith("etcd cannot be used: 127.0.0.1:2379: ")
        assert "it has no quorum" in message or "no answer within" in message
    finally:
        for number in (1, 2):
            etcd.start(number)
        etcd.wait_ready()


def _fill(store: EtcdStore) -> None:
    for _ in range(200):
        store.transact([], [Put(f"{PREFIX}large", bytes(1_000_000))])


def test_the_quota_is_full(etcd: EtcdCluster) -> None:
    """The message is the one to act on, reads and deletes go on, and what the guide shows heals it."""
    store = EtcdStore(etcd.access(), PATIENT)
    store.transact([], [Put(KEY, b"before")])
    with pytest.raises(Unavailable, match="quota is full; compact and defragment it, then clear its alarm"):
        _fill(store)
    assert store.get(KEY)
    with pytest.raises(Unavailable, match="its quota is full"):
        store.lease(15)
    store.transact([], [Delete(f"{PREFIX}large")])
    etcd.compact()
    for number in range(3):
        etcd.etcdctl("defrag", number=number)
    etcd.etcdctl("alarm", "disarm")
    store.transact([], [Put(KEY, b"after")])
