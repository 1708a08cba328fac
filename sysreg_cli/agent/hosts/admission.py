"""Adds hosts, lets those in that ask with a join file, and deletes hosts."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sysreg_cli.agent.hosts.certificates import HostCertificates
from sysreg_cli.cluster.follow import Follower
from sysreg_cli.cluster.joining import (
    JOIN_SECONDS,
    Invitation,
    JoinAnswer,
    JoinRequest,
    Offer,
    host_rights,
    host_user,
    join_rights,
    join_user,
    seal,
)
from sysreg_cli.cluster.keys import (
    JOINING,
    JoinPart,
    Part,
    check_host_name,
    host_key,
    join_key,
    parse_join_key,
)
from sysreg_cli.cluster.membership import CredentialFiles
from sysreg_cli.cluster.port import Administration, Delete, Entry, Expected, Listing, Put, Store, User
from sysreg_cli.cluster.records import HostSpec, Role, decode, encode
from sysreg_cli.errors import Changed, Conflict, NotFound, SysregError
from sysreg_cli.pki.names import as_address
from sysreg_cli.settings import Settings
from sysreg_cli.text import iso_time

log = logging.getLogger("sysreg.agent")

#: for which a host may read its answer, in seconds
_ANSWER_SECONDS = 60.0
_PASSWORD_BYTES = 32


class Admission:
    """Who is a host of the cluster. Its methods may be called from any thread.

    ``clock`` returns seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        administration: Administration,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store
        self._administration = administration
        self._clock = clock
        self._certificates = HostCertificates(settings.cluster)
        #: whoever changes users and keys of a host, so that both fit
        self._lock = threading.Lock()
        self._follower = Follower(store, JOINING, self._see, lambda _error: None)
        self._thread = threading.Thread(target=self._follower.run, name="admission", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._follower.stop()
        self._thread.join()

    def add(self, name: str) -> tuple[HostSpec, Invitation]:
        """Add a host, and return what its join file holds.

        A host that was added and never joined gets another file; the one before is useless then. Raises
        UsageError if it is no host name, Conflict for a host that exists, OSError, and SysregError.
        """
        host = check_host_name(name)
        with self._lock:
            return self._add(host)

    def _add(self, host: str) -> tuple[HostSpec, Invitation]:
        spec = self._store.get(host_key(host, Part.SPEC))
        if spec and self._store.get(host_key(host, Part.STATUS)):
            raise Conflict(
                f"host {host} has joined already",
                next_step=f"to replace it, delete it first: system registry-host-delete {host}",
            )
        user = User(join_user(host), secrets.token_urlsafe(_PASSWORD_BYTES))
        self._administration.remove_user(host_user(host))
        self._administration.put_user(user, join_rights(host))
        now = datetime.fromtimestamp(self._clock(), UTC)
        offer = Offer((now + timedelta(seconds=JOIN_SECONDS)).isoformat(timespec="seconds"))
        made = HostSpec(Role.WORKER, iso_time(self._clock()))
        writes: list[Put | Delete] = [
            Put(host_key(host, Part.SPEC), encode(made, spec.value if spec else None)),
            Put(join_key(host, JoinPart.OFFER), encode(offer)),
            *(Delete(join_key(host, part)) for part in (JoinPart.REQUEST, JoinPart.ANSWER)),
        ]
        self._store.transact([Expected(host_key(host, Part.SPEC), spec.revision if spec else 0)], writes)
        return made, self._invitation(host, offer, user.password)

    def remove(self, name: str) -> None:
        """Delete a host: from then on it can write nothing. Raises NotFound, OSError, SysregError."""
        with self._lock:
            self._remove(name, name.lower())

    def _remove(self, name: str, host: str) -> None:
        if self._store.get(host_key(host, Part.SPEC)) is None:
            raise NotFound(f"no host {name}", next_step="see the names with registry-host-list")
        for user in (host_user(host), join_user(host)):
            self._administration.remove_user(user)
        self._certificates.revoke(host)
        keys = [*(host_key(host, part) for part in Part), *(join_key(host, part) for part in JoinPart)]
        self._store.transact([], [Delete(key) for key in keys])

    def _invitation(self, host: str, offer: Offer, password: str) -> Invitation:
        """Raises OSError, SysregError."""
        registry = self._settings.registry
        certificate, key = self._certificates.issue(host)
        return Invitation(
            host=host,
            role=Role.WORKER,
            expires_at=offer.expires_at,
            endpoints=tuple(map(str, self._settings.cluster.endpoints)),
            host_names=registry.host_names,
            port=registry.port,
            address=self._address(),
            ca=CredentialFiles(self._settings.cluster.directory).tls.ca.read_text(),
            certificate=certificate,
            key=key,
            password=password,
        )

    def _address(self) -> str:
        """Return the address of the registry for /etc/hosts of a worker, "" if its names resolve there."""
        addresses = [name for name in self._settings.registry.host_names if as_address(name)]
        return addresses[0] if addresses else ""

    def _see(self, _listing: Listing) -> None:
        """Answer each host that asks, and clean up after those that were answered.

        The listing may be older than an answer of this agent. To attend to a host by it would replace the
        password that the host has just got. So the keys are read again.
        """
        with self._lock:
            try:
                listing = self._store.list(JOINING)
            except SysregError as error:
                log.warning("no host joins now: %s", error)
                return
            self._attend_all(listing)

    def _attend_all(self, listing: Listing) -> None:
        hosts: dict[str, dict[JoinPart, Entry]] = {}
        for key, entry in listing.entries.items():
            if place := parse_join_key(key):
                hosts.setdefault(place[0], {})[place[1]] = entry
        for host, parts in hosts.items():
            try:
                self._attend(host, parts)
            except Changed:
                continue  # it was added again, or deleted: the next listing shows it
            except SysregError as error:
                log.warning("host %s does not join: %s", host, error)

    def _attend(self, host: str, parts: dict[JoinPart, Entry]) -> None:
        """Raises SysregError."""
        now = self._clock()
        offer, asked, answered = (parts.get(part) for part in JoinPart)
        if offer is None or _is_over(decode(Offer, offer.value, offer.key).expires_at, now):
            self._end(host, parts)
        elif answered is not None:
            at = decode(JoinAnswer, answered.value, answered.key).at
            if _is_over(at, now - _ANSWER_SECONDS):
                self._end(host, parts)
        elif asked is not None:
            request = decode(JoinRequest, asked.value, asked.key)
            user = User(host_user(host), secrets.token_urlsafe(_PASSWORD_BYTES))
            answer = seal(host, request, user.password, iso_time(now))
            self._administration.put_user(user, host_rights(host))
            expected = [Expected(asked.key, asked.revision), Expected(offer.key, offer.revision)]
            key = join_key(host, JoinPart.ANSWER)
            self._store.transact([*expected, Expected(key)], [Put(key, encode(answer))])
            log.info("host %s has joined", host)

    def _end(self, host: str, parts: dict[JoinPart, Entry]) -> None:
        """Remove what is left of a joining. Raises SysregError."""
        self._administration.remove_user(join_user(host))
        expected = [Expected(entry.key, entry.revision) for entry in parts.values()]
        self._store.transact(expected, [Delete(entry.key) for entry in parts.values()])


def _is_over(time_: str, now: float) -> bool:
    """Whether an ISO 8601 time is before ``now``. One that is none is over."""
    try:
        return datetime.fromisoformat(time_).timestamp() <= now
    except ValueError:
        return True
