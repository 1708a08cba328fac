"""The rules of the port that every store has to keep: tests that run on the one in memory and on etcd."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest

from sysreg_cli.cluster.port import (
    EPOCH,
    PREFIX,
    Administration,
    Change,
    Delete,
    Entry,
    Expected,
    Put,
    Rights,
    Store,
    User,
    Watch,
)
from sysreg_cli.errors import Changed, NotAuthenticated, NotAuthorized, NotFound

_numbers = itertools.count()


def read(watch: Watch, wanted: int) -> list[Change]:
    """Read the watch until it has yielded ``wanted`` changes."""
    found: list[Change] = []
    for changes in watch:
        found += changes
        if len(found) >= wanted:
            break
    watch.close()
    return found


class StoreRules:
    """Inherit from this, and provide the fixtures ``root``, ``administration`` and ``clients``."""

    @pytest.fixture
    def prefix(self) -> str:
        """A prefix that no other test uses."""
        return f"{PREFIX}test{next(_numbers)}/"

    @pytest.fixture
    def user(self, administration: Administration, prefix: str) -> Iterator[User]:
        """A user who may read the prefix and write one key of it."""
        user = User(f"user{next(_numbers)}", "a password of 128 bit")
        administration.put_user(user, Rights(reads=(f"{prefix}desired/",), writes=(f"{prefix}status",)))
        yield user
        administration.remove_user(user.name)

    def test_an_entry_is_read_as_it_was_written(self, root: Store, prefix: str) -> None:
        assert root.get(f"{prefix}a") is None
        revision = root.transact([], [Put(f"{prefix}a", b"\0\xff{}")])
        assert root.get(f"{prefix}a") == Entry(f"{prefix}a", b"\0\xff{}", revision)
        root.transact([], [Put(f"{prefix}a", b"")])
        assert (entry := root.get(f"{prefix}a")) is not None
        assert entry.value == b""

    def test_a_list_has_what_is_below_the_prefix(self, root: Store, prefix: str) -> None:
        revision = root.transact([], [Put(f"{prefix}b/1", b"1"), Put(f"{prefix}b/2", b"2")])
        root.transact([], [Put(f"{prefix}b", b"above"), Put(f"{prefix}b0", b"beside")])
        listing = root.list(f"{prefix}b/")
        assert listing.entries == {
            f"{prefix}b/1": Entry(f"{prefix}b/1", b"1", revision),
            f"{prefix}b/2": Entry(f"{prefix}b/2", b"2", revision),
        }
        assert listing.revision >= revision
        assert root.list(f"{prefix}nothing/").entries == {}

    def test_a_transaction_writes_all_or_nothing(self, root: Store, prefix: str) -> None:
        first = root.transact([Expected(f"{prefix}a")], [Put(f"{prefix}a", b"1")])
        for stale in ([Expected(f"{prefix}a")], [Expected(f"{prefix}a", first), Expected(f"{prefix}b", 7)]):
            with pytest.raises(Changed):
                root.transact(stale, [Put(f"{prefix}a", b"2"), Put(f"{prefix}b", b"2")])
        assert root.list(prefix).entries == {f"{prefix}a": Entry(f"{prefix}a", b"1", first)}
        second = root.transact(
            [Expected(f"{prefix}a", first), Expected(f"{prefix}b")],
            [Put(f"{prefix}b", b"2"), Delete(f"{prefix}a"), Delete(f"{prefix}never")],
        )
        assert second > first
        assert root.list(prefix).entries == {f"{prefix}b": Entry(f"{prefix}b", b"2", second)}

    def test_a_watch_yields_what_comes_after_the_list(self, root: Store, prefix: str) -> None:
        root.transact([], [Put(f"{prefix}a", b"before")])
        listing = root.list(prefix)
        revision = root.transact([], [Put(f"{prefix}a", b"1"), Put(f"{prefix}b", b"2")])
        root.transact([], [Put(f"{PREFIX}elsewhere", b"3")])
        last = root.transact([], [Delete(f"{prefix}a")])
        changes = read(root.watch(prefix, listing), 3)
        assert sorted(changes[:2], key=lambda change: change.key) == [
            Change(f"{prefix}a", revision, Entry(f"{prefix}a", b"1", revision)),
            Change(f"{prefix}b", revision, Entry(f"{prefix}b", b"2", revision)),
        ]
        assert changes[2:] == [Change(f"{prefix}a", last, None)]

    def test_a_closed_watch_ends(self, root: Store, prefix: str) -> None:
        watch = root.watch(prefix, root.list(prefix))
        watch.close()
        assert [changes for changes in watch if changes] == []

    def test_a_quiet_watch_yields_signs_of_life(self, root: Store, prefix: str) -> None:
        watch = root.watch(prefix, root.list(prefix))
        seen: list[Sequence[Change]] = list(itertools.islice(watch, 2))
        watch.close()
        assert seen == [(), ()] or seen == [[], []]

    def test_what_a_lease_holds_goes_with_it(self, root: Store, prefix: str) -> None:
        lease = root.lease(60)
        revision = root.transact([], [Put(f"{prefix}alive", b"x", lease)])
        assert root.get(f"{prefix}alive") == Entry(f"{prefix}alive", b"x", revision, lease)
        assert root.keep(lease)
        root.revoke(lease)
        assert root.get(f"{prefix}alive") is None
        assert not root.keep(lease)
        root.revoke(lease)
        with pytest.raises(NotFound):
            root.transact([], [Put(f"{prefix}alive", b"x", lease)])

    def test_the_identity_changes_with_the_epoch(self, root: Store, prefix: str) -> None:
        root.transact([], [Put(EPOCH, b"one")])
        first = root.list(prefix).identity
        assert first.epoch == "one"
        assert root.list(prefix).identity == first
        root.transact([], [Put(EPOCH, b"two")])
        assert root.list(prefix).identity != first

    def test_a_user_has_the_given_rights_and_no_other(
        self, root: Store, clients: Callable[[User], Store], user: User, prefix: str
    ) -> None:
        root.transact([], [Put(f"{prefix}desired/a", b"1"), Put(f"{prefix}other", b"secret")])
        store = clients(user)
        assert f"{prefix}desired/a" in store.list(f"{prefix}desired/").entries
        assert store.get(EPOCH) is None or store.get(EPOCH)
        revision = store.transact([Expected(f"{prefix}status")], [Put(f"{prefix}status", b"mine")])
        store.transact([Expected(f"{prefix}status", revision)], [Put(f"{prefix}status", b"mine again")])
        for key in (f"{prefix}desired/a", f"{prefix}statusx", f"{prefix}other", EPOCH):
            with pytest.raises(NotAuthorized):
                store.transact([], [Put(key, b"not mine")])
            with pytest.raises(NotAuthorized):
                store.transact([], [Delete(key)])
        for refused in (prefix, f"{prefix}other/"):
            with pytest.raises(NotAuthorized):
                store.list(refused)
        with pytest.raises(NotAuthorized):
            store.get(f"{prefix}other")
        with pytest.raises(NotAuthorized):
            read(store.watch(prefix, root.list(prefix)), 1)

    def test_a_user_with_new_rights_has_lost_the_old_ones(
        self, administration: Administration, clients: Callable[[User], Store], user: User, prefix: str
    ) -> None:
        administration.put_user(User(user.name, "another"), Rights(writes=(f"{prefix}other",)))
        with pytest.raises(NotAuthenticated):
            clients(user).get(f"{prefix}status")
        store = clients(User(user.name, "another"))
        store.transact([], [Put(f"{prefix}other", b"x")])
        for key in (f"{prefix}status", f"{prefix}desired/a"):
            with pytest.raises(NotAuthorized):
                store.get(key)

    def test_a_removed_user_is_refused(
        self, administration: Administration, clients: Callable[[User], Store], user: User, prefix: str
    ) -> None:
        store = clients(user)
        store.get(f"{prefix}status")
        administration.remove_user(user.name)
        administration.remove_user(user.name)
        with pytest.raises((NotAuthenticated, NotAuthorized)):
            store.transact([], [Put(f"{prefix}status", b"mine")])
