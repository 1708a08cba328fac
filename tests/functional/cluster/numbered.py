"""A writer of numbered keys, and a follower whose states are compared with what was written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from devstack.waiting import wait_until
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.follow import Follower
from sysreg_cli.cluster.port import Expected, Listing, Put
from sysreg_cli.cluster.servers import Limits
from sysreg_cli.errors import Changed, SysregError, Unavailable
from tests.etcd_cluster import LIMITS, EtcdCluster

#: seconds after which a change has to be seen, whatever happens
SEEN_WITHIN = 20.0


class Numbered:
    """Writes keys 0, 1, 2... below ``prefix``, and follows them with another client."""

    def __init__(
        self, etcd: EtcdCluster, prefix: str, server: int | None = None, limits: Limits = LIMITS
    ) -> None:
        """``server`` is the one that the follower asks first: the leader, if it is not given.

        ``limits`` are those of the follower.
        """
        self.prefix = prefix
        self.server = etcd.leader() if server is None else server
        self.others = [number for number in range(3) if number != self.server]
        self._writer = EtcdStore(etcd.access(numbers=(*self.others, self.server)), LIMITS)
        self.reader = EtcdStore(etcd.access(numbers=(self.server, *self.others)), limits)
        self._stopping = threading.Event()
        #: the revision of each key that is known to be written
        self.written: dict[str, int] = {}
        #: the revisions of the keys that the follower has shown, in the order in which it did
        self.seen: dict[str, int] = {}
        self.troubles: list[SysregError] = []
        self.problems: list[str] = []
        self.states = 0
        self._last = 0

    @contextmanager
    def running(self) -> Iterator[Numbered]:
        follower = Follower(self.reader, self.prefix, self._apply, self.troubles.append)
        threads = [threading.Thread(target=follower.run), threading.Thread(target=self._write)]
        for thread in threads:
            thread.start()
        try:
            self.wait_for_news()
            yield self
        finally:
            self._stopping.set()
            threads[1].join(60)
            follower.stop()
            threads[0].join(60)
            self.reader.close()
            self._writer.close()
            assert not [thread for thread in threads if thread.is_alive()]

    def wait_for_news(self) -> None:
        """Wait until something is written, and seen, that was not written before."""
        before = len(self.written)
        wait_until(lambda: len(self.written) > before, 60, what="the writer goes on")
        news = list(self.written)[before:][0]
        wait_until(lambda: news in self.seen, SEEN_WITHIN, what=f"{news} is seen; {self.troubles[-2:]}")

    def finish(self) -> None:
        """Stop the writer, and check that the follower has shown each key once and in order."""
        self._stopping.set()
        wait_until(lambda: self.written.items() <= self.seen.items(), SEEN_WITHIN, what="all is seen")
        revisions = list(self.seen.values())
        assert revisions == sorted(revisions)
        assert not self.problems, self.problems[:5]

    def _apply(self, listing: Listing) -> None:
        self.states += 1
        if listing.revision < self._last:
            self.problems.append(f"revision {listing.revision} after {self._last}")
        self._last = listing.revision
        if lost := self.seen.keys() - listing.entries.keys():
            self.problems.append(f"{sorted(lost)[:5]} are gone at {listing.revision}")
        new = [entry for key, entry in listing.entries.items() if key not in self.seen]
        for entry in sorted(new, key=lambda entry: entry.revision):
            self.seen[entry.key] = entry.revision

    def _write(self) -> None:
        number = 0
        while not self._stopping.wait(0.005):
            key = f"{self.prefix}{number:06d}"
            with suppress(Unavailable):
                self.written[key] = self._write_one(key)
                number += 1

    def _write_one(self, key: str) -> int:
        """Return the revision of the key. It may be written already, if the answer to that was lost."""
        try:
            return self._writer.transact([Expected(key)], [Put(key, b"x")])
        except Changed:
            entry = self._writer.get(key)
            assert entry is not None
            return entry.revision
