"""Who becomes a host of the cluster: with a file that was made, once, within an hour."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.waiting import wait_until
from sysreg_cli.agent.hosts.admission import Admission
from sysreg_cli.agent.hosts.cluster import HostCluster
from sysreg_cli.cluster.joining import JOIN_SECONDS, Asker, Invitation, JoinAnswer, host_user, join_user
from sysreg_cli.cluster.keys import CERTIFICATE, DESIRED, JOINING, JoinPart, Part, host_key, join_key
from sysreg_cli.cluster.membership import CredentialFiles
from sysreg_cli.cluster.port import PREFIX, Expected, Put, User
from sysreg_cli.cluster.records import (
    ChangeId,
    HostStatus,
    Outcome,
    Phase,
    decode,
    encode,
)
from sysreg_cli.errors import Changed, Conflict, NotAuthenticated, NotAuthorized, NotFound, UsageError
from sysreg_cli.settings import ClusterSettings, Settings
from tests.memory_store import MemoryCluster, MemoryStore
from tests.unit.agent.certificate.host import Host

HOST = "worker-1"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    files = CredentialFiles(tmp_path / "cluster").tls
    files.ca.parent.mkdir()
    for path in (files.ca, files.certificate, files.key):
        path.write_text(path.name)
    controller = Host(tmp_path / "controller").settings
    section = ClusterSettings(directory=tmp_path / "cluster", host="controller-0")
    return dataclasses.replace(controller, cluster=section)


@pytest.fixture
def admission(settings: Settings, cluster: MemoryCluster, clock: Clock) -> Iterator[Admission]:
    root = cluster.administrator()
    admission = Admission(settings, root, root, clock=clock)
    admission.start()
    yield admission
    admission.stop()


def guest(cluster: MemoryCluster, invitation: Invitation) -> MemoryStore:
    """A client with the join file."""
    return cluster.client(User(join_user(HOST), invitation.password))


def ask(store: MemoryStore, asker: Asker) -> None:
    key = join_key(HOST, JoinPart.REQUEST)
    store.transact([Expected(key)], [Put(key, encode(asker.request))])


def join(cluster: MemoryCluster, invitation: Invitation) -> MemoryStore:
    """Join as sysreg-deploy does, and return the client of the host."""
    asker, store = Asker(HOST), guest(cluster, invitation)
    ask(store, asker)
    entry = wait_until(lambda: store.get(join_key(HOST, JoinPart.ANSWER)), what="the answer")
    assert entry
    password = asker.open(decode(JoinAnswer, entry.value, entry.key))
    return cluster.client(User(host_user(HOST), password))


def report(store: MemoryStore) -> None:
    status = HostStatus(ChangeId(1, "x"), Phase.SETTLE, Outcome.LIVE, "2026-11-27T00:00:00+00:00", "boot")
    store.transact([], [Put(host_key(HOST, Part.STATUS), encode(status))])


def test_a_host_joins_and_may_then_do_what_a_host_may(admission: Admission, cluster: MemoryCluster) -> None:
    _, invitation = admission.add(HOST)
    store = join(cluster, invitation)
    store.list(DESIRED)
    report(store)
    for key in (CERTIFICATE, host_key(HOST, Part.SPEC), host_key("other", Part.STATUS)):
        with pytest.raises(NotAuthorized):
            store.transact([], [Put(key, b"{}")])


def test_a_join_file_is_useless_after_its_first_use(admission: Admission, cluster: MemoryCluster) -> None:
    _, invitation = admission.add(HOST)
    join(cluster, invitation)
    with pytest.raises((Changed, NotAuthenticated)):
        ask(guest(cluster, invitation), Asker(HOST))


def test_a_copy_that_overwrites_the_request_gets_no_answer(
    admission: Admission, cluster: MemoryCluster, clock: Clock
) -> None:
    _, invitation = admission.add(HOST)
    joined = join(cluster, invitation)
    thief = Asker(HOST)
    key = join_key(HOST, JoinPart.REQUEST)
    guest(cluster, invitation).transact([], [Put(key, encode(thief.request))])
    clock.now += 120
    cluster.cut()
    wait_until(lambda: not cluster.administrator().list(JOINING).entries, what="the exchange is over")
    joined.list(DESIRED)
    with pytest.raises(NotAuthenticated):
        guest(cluster, invitation).get(key)


def test_a_listing_from_before_the_answer_does_not_replace_the_password(
    admission: Admission, cluster: MemoryCluster
) -> None:
    """When several hosts join at once, the next listing may show a request without the answer it has got."""
    _, invitation = admission.add(HOST)
    asker, store = Asker(HOST), guest(cluster, invitation)
    ask(store, asker)
    before = cluster.administrator().list(JOINING)
    entry = wait_until(lambda: store.get(join_key(HOST, JoinPart.ANSWER)), what="the answer")
    assert entry
    older = {key: one for key, one in before.entries.items() if key != entry.key}
    admission._see(dataclasses.replace(before, entries=older))
    password = asker.open(decode(JoinAnswer, entry.value, entry.key))
    cluster.client(User(host_user(HOST), password)).list(DESIRED)


def test_a_listing_with_an_old_offer_does_not_end_the_new_file(
    admission: Admission, cluster: MemoryCluster, clock: Clock
) -> None:
    admission.add(HOST)
    before = cluster.administrator().list(JOINING)
    clock.now += JOIN_SECONDS
    _, invitation = admission.add(HOST)
    admission._see(before)
    join(cluster, invitation).list(DESIRED)


def test_after_an_hour_nobody_is_let_in(admission: Admission, cluster: MemoryCluster, clock: Clock) -> None:
    _, invitation = admission.add(HOST)
    clock.now += JOIN_SECONDS
    cluster.cut()
    wait_until(lambda: join_user(HOST) not in cluster.users, what="the user of the file is gone")
    with pytest.raises(NotAuthenticated):
        ask(guest(cluster, invitation), Asker(HOST))


def test_a_new_file_makes_the_one_before_useless(admission: Admission, cluster: MemoryCluster) -> None:
    _, first = admission.add(HOST)
    _, second = admission.add(HOST)
    with pytest.raises(NotAuthenticated):
        ask(guest(cluster, first), Asker(HOST))
    join(cluster, second)


def test_a_host_that_has_joined_is_not_added_again(admission: Admission, cluster: MemoryCluster) -> None:
    _, invitation = admission.add(HOST)
    report(join(cluster, invitation))
    with pytest.raises(Conflict, match=r"has joined already.*registry-host-delete"):
        admission.add(HOST)


def test_a_deleted_host_can_do_nothing_and_another_may_have_its_name(
    admission: Admission, cluster: MemoryCluster
) -> None:
    _, invitation = admission.add(HOST)
    old = join(cluster, invitation)
    report(old)
    admission.remove(HOST)
    assert not [key for key in cluster.administrator().list(PREFIX).entries if HOST in key]
    with pytest.raises(NotAuthenticated):
        report(old)
    _, invitation = admission.add(HOST)
    report(join(cluster, invitation))
    with pytest.raises(NotAuthenticated):
        report(old)


def test_an_unknown_host_is_not_deleted(admission: Admission) -> None:
    with pytest.raises(NotFound, match="no host worker-9"):
        admission.remove("worker-9")


@pytest.mark.parametrize("name", ["a/b", "", "-", "größe", "*"])
def test_a_name_that_is_none_is_refused(admission: Admission, cluster: MemoryCluster, name: str) -> None:
    with pytest.raises(UsageError, match="is not a host name"):
        admission.add(name)
    assert not cluster.administrator().list(PREFIX).entries


def test_the_name_of_the_controller_is_taken(settings: Settings, cluster: MemoryCluster) -> None:
    root = cluster.administrator()
    with pytest.raises(Conflict, match="is the name of this controller"):
        HostCluster(settings, root, root).add("Controller-0")


def test_the_store_never_holds_a_password(admission: Admission, cluster: MemoryCluster) -> None:
    _, invitation = admission.add(HOST)
    join(cluster, invitation)
    password, _ = cluster.users[host_user(HOST)]
    for change in cluster.state.history:
        value = change.entry.value if change.entry else b""
        for secret in (password, invitation.password, "client.key"):
            assert secret.encode() not in value
