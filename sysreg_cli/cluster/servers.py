"""The servers of etcd: failover from one to the next, and a token that is renewed when etcd refuses it.

Every call goes to the server that answered last. A server that does not answer is left for the next one, and
if it was silent, the token is dropped as well: a token that a server does not know yet makes it silent
instead of refusing. That happens after a restore. The watches on a silent server end, too. By themselves they
would end only after ``Limits.silence``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from sysreg_cli.addresses import HostPort
from sysreg_cli.cluster.gateway import Document, Gateway, NoAnswer, Refusal, Refused, TlsFiles
from sysreg_cli.errors import (
    Conflict,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    OutcomeUnknown,
    SettingsError,
    SysregError,
    Unavailable,
    UsageError,
    text_of,
)

T = TypeVar("T")

_REPAIR = "check that etcd runs at these addresses, and the network to them"
#: refusals that the next server may not have
_OF_ONE_SERVER = (Refusal.NO_QUORUM, Refusal.OTHER)
#: refusals of a server that does not know a new user or password yet. They count if no other server answers
_OF_LOGIN = (Refusal.PASSWORD, Refusal.TOKEN)
#: tokens that a call may use up: each change of any user or role makes the present ones worthless
_TOKENS = 3


@dataclass(frozen=True, slots=True)
class Access:
    """Where etcd is, and who asks: nobody if ``user`` is empty. The password is read anew for each login."""

    endpoints: tuple[HostPort, ...]
    tls: TlsFiles
    user: str
    password_file: Path

    def password(self) -> str:
        """Raises SettingsError."""
        try:
            return self.password_file.read_text().strip()
        except UnicodeDecodeError:
            reason = f"{self.password_file}: is no text"
        except OSError as error:
            reason = text_of(error)
        raise SettingsError("no login to etcd", [reason])


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds. ``silence`` ends a watch: it is three times the servers' progress interval."""

    call: float = 3.0
    silence: float = 15.0


class Watching(Protocol):
    """A watch that is open."""

    def end_if_on(self, gateway: Gateway) -> None:
        """End, with an error for who reads it, if it is a watch on this server."""


class Servers:
    """Calls etcd. Its methods may be called from any thread, and raise what ``port.Store`` says."""

    def __init__(self, access: Access, limits: Limits) -> None:
        """Read the TLS files, and connect to nothing yet. The first call goes to the first endpoint.

        Raises SettingsError.
        """
        self.access = access
        self.limits = limits
        self._lock = threading.Lock()
        self._login = threading.Lock()
        self._token = ""
        self._failed = False
        self._gateways = self._connect(access.endpoints)
        self._watches: set[Watching] = set()

    def call(self, path: str, body: Document, about: str) -> Document:
        """Send a request that may be repeated to one server after the other, until one answers.

        ``about`` says what it does, for messages: a verb, and the object.
        """
        return self.attempt(lambda gateway, token: self._ask(gateway, path, body, token), about)

    def call_once(self, path: str, body: Document, about: str) -> Document:
        """Send a request that no second server may get if a first one may have done it.

        Raises OutcomeUnknown.
        """
        return self.attempt(lambda gateway, token: self._ask(gateway, path, body, token), about, once=True)

    def attempt(self, ask: Callable[[Gateway, str], T], about: str, *, once: bool = False) -> T:
        """Call ``ask`` with the gateway of one server after the other, and a token, until one answers.

        It may raise NoAnswer and Refused. With ``once``, the first server that may have got the request is
        the last one that is tried.
        """
        reasons: list[str] = []
        login: SysregError | None = None
        for gateway in self._usable():
            try:
                return self._with_token(gateway, ask)
            except NoAnswer as error:
                self.leave(gateway, timed_out=error.timed_out)
                reasons.append(f"{gateway.address}: {error.message}")
                if once and error.sent:
                    raise OutcomeUnknown(
                        f"etcd may have done it or not: {reasons[-1]}",
                        next_step="read it before you try again",
                    ) from None
            except Refused as error:
                refused = self.meaning(error.refusal, error.message, about)
                if error.refusal not in _OF_LOGIN:
                    raise refused from None
                login = refused
        if login is not None:
            raise login
        self._failed = True
        raise Unavailable(f"etcd cannot be used: {'; '.join(reasons)}", next_step=_REPAIR)

    def leave(self, gateway: Gateway, *, timed_out: bool = False) -> None:
        """Let the next call begin with another server. ``timed_out`` makes the token suspect, too."""
        with self._lock:
            if self._gateways[0] is gateway:
                self._gateways = [*self._gateways[1:], gateway]
            if timed_out:
                self._token = ""
            watches = list(self._watches) if timed_out else []
        for watch in watches:
            watch.end_if_on(gateway)

    @contextlib.contextmanager
    def watched_by(self, watch: Watching) -> Iterator[None]:
        """Tell ``watch`` of each server that is silent."""
        with self._lock:
            self._watches.add(watch)
        try:
            yield
        finally:
            with self._lock:
                self._watches.discard(watch)

    def forget_token(self, token: str) -> None:
        """Log in again for the next call, if ``token`` is still the one in use."""
        with self._lock:
            if self._token == token:
                self._token = ""

    def meaning(self, refusal: Refusal, reason: str, about: str) -> SysregError:
        """Return the error of the port that a refusal of etcd's stands for."""
        user = self.access.user
        match refusal:
            case Refusal.PASSWORD | Refusal.TOKEN:
                return NotAuthenticated(
                    f"etcd refuses the password of user {user}",
                    next_step=f"check {self.access.password_file}, and that the user exists",
                )
            case Refusal.RIGHTS:
                return NotAuthorized(f"etcd does not let user {user} {about}")
            case Refusal.NO_PASSWORDS:
                return Unavailable(
                    "etcd does not ask for passwords, so it protects nothing",
                    next_step="enable its authentication",
                )
            case Refusal.FULL:
                return Unavailable(
                    "etcd takes no values, because its quota is full",
                    next_step="compact and defragment it, then clear its alarm",
                )
            case Refusal.NOT_FOUND:
                return NotFound("the lease has ended")
            case Refusal.EXISTS:
                return Conflict("etcd has a user or role of this name already")
            case Refusal.MISSING:
                return NotFound("etcd has no user or role of this name")
            case Refusal.TOO_LARGE:
                return UsageError(f"etcd does not {about}: the values are too large")
        return Unavailable(reason)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for gateway in self._gateways:
                gateway.close()

    def _ask(self, gateway: Gateway, path: str, body: Document, token: str) -> Document:
        return gateway.call(path, body, token=token, seconds=self.limits.call)

    def _with_token(self, gateway: Gateway, ask: Callable[[Gateway, str], T]) -> T:
        try:
            for _ in range(_TOKENS - 1):
                token = self._authenticate(gateway)
                try:
                    return ask(gateway, token)
                except Refused as error:
                    if error.refusal is not Refusal.TOKEN:
                        raise
                self.forget_token(token)
            return ask(gateway, self._authenticate(gateway))
        except Refused as error:
            if error.refusal in _OF_ONE_SERVER:
                raise NoAnswer(error.of_one_server, sent=True) from None
            raise

    def _authenticate(self, gateway: Gateway) -> str:
        """Return a token. Threads share one login, because it costs etcd as much as 65 writes."""
        with self._login:
            if self._token or not self.access.user:
                return self._token
            body = {"name": self.access.user, "password": self.access.password()}
            try:
                answer = self._ask(gateway, "auth/authenticate", body, "")
            except NoAnswer as error:
                raise NoAnswer(error.message, sent=False, timed_out=error.timed_out) from None
            except Refused as error:
                if error.refusal in _OF_ONE_SERVER:
                    raise NoAnswer(error.of_one_server, sent=False) from None
                raise
            token = str(answer["token"])
            with self._lock:
                self._token = token
            return token

    def _usable(self) -> Sequence[Gateway]:
        """Return the gateways in the order in which to try them.

        After a failure of all, read the TLS files again: they may have been replaced.
        """
        with self._lock:
            if self._failed:
                self._failed = False
                # the old ones are not closed: another thread may be about to use them
                self._gateways = self._connect([old.address for old in self._gateways])
            return list(self._gateways)

    def _connect(self, endpoints: Sequence[HostPort]) -> Sequence[Gateway]:
        context = self.access.tls.context()
        return [Gateway(endpoint, context) for endpoint in endpoints]
