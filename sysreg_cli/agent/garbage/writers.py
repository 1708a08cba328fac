"""Sees who may write to the registry: write tokens that are still accepted, and requests in flight."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass

from sysreg_cli.addresses import HostPort
from sysreg_cli.agent.garbage.drain import WRITING_HANDLERS, Drain, DrainTimeouts
from sysreg_cli.agent.garbage.recorder import Recorder
from sysreg_cli.agent.garbage.sweep import restart_registry
from sysreg_cli.agent.garbage.uploads import uploads_under_way
from sysreg_cli.agent.write_permit import permits_given
from sysreg_cli.errors import Unavailable
from sysreg_cli.host import failpoint
from sysreg_cli.host.registry_config import RegistryConfig
from sysreg_cli.registry import metrics
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.signer import write_token_accepted
from sysreg_cli.tokens.write_lock import WriteLock, WriteLockHold
from sysreg_cli.v1.collections import Phase

log = logging.getLogger("sysreg.agent")

_TIMEOUT = 5.0
# A token's ``exp`` is in whole seconds, and the registry may read its clock a little later.
_EXPIRY_MARGIN = 1.0
# The time for uploads to end after the last token has expired. With the default lifetime of tokens, a hold
# then takes 75 s at most. docker tries for about 100 s, so it can wait for a sweep as well.
_UPLOAD_SECONDS = 9.0
# The time for a certificate install that has begun to end.
_INSTALL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Quiet:
    """A moment at which nobody could write: when the last write token was issued, and the agent's permits."""

    token: float
    permits: int


class Writers:
    """Those who may write to the registry. Methods raise Unavailable if it doesn't show whether they do."""

    def __init__(
        self, settings: Settings, config: RegistryConfig, timeouts: DrainTimeouts | None = None
    ) -> None:
        self._settings = settings
        self._write_lock = WriteLock(settings.paths.state)
        self._config = config
        self._accepted = write_token_accepted(settings.token_server.write_lifetime) + _EXPIRY_MARGIN
        self._timeouts = timeouts or DrainTimeouts(
            limit=settings.agent.drain_timeout, hold=self._accepted + _UPLOAD_SECONDS
        )

    def quiet(self) -> Quiet | None:
        """Return this moment if nobody can be writing now, else None.

        What is read of the storage from now on is true as long as ``lasts`` says so. Raises Conflict while
        the collector of a killed agent runs, because it needs its pins.
        """
        permits = permits_given()  # before the hold, which waits for the end of those given
        self._write_lock.hold().close()
        issued = self.latest_token()
        expired = issued + self._accepted < time.time()
        return Quiet(issued, permits) if expired and not writing_handlers(self._config) else None

    def lasts(self, quiet: Quiet) -> bool:
        """Whether nobody can have written since that moment."""
        return quiet == Quiet(self.latest_token(), permits_given())

    def latest_token(self) -> float:
        """Return when the last write token was issued, in seconds since the epoch."""
        return self._write_lock.latest_write()

    @contextlib.contextmanager
    def drained(self, recorder: Recorder) -> Iterator[WriteLockHold]:
        """Hold the write lock while no write is under way. Raises as ``Drain.writes_ended``, and Conflict."""

        def sleep(seconds: float, fraction: float, reason: str) -> None:
            recorder.show(Phase.DRAIN, fraction, reason)
            recorder.pause(seconds)

        drain = Drain(
            self._timeouts,
            take_lock=lambda: self._hold(recorder),
            token_life=lambda: self.latest_token() + self._accepted - time.time(),
            busy=lambda: writing_handlers(self._config),
            uploads=lambda: uploads_under_way(self._config.root),
            end_requests=lambda under_way: self._end_requests(recorder, under_way),
            sleep=sleep,
        )
        with contextlib.ExitStack() as stack:
            with recorder.phase(Phase.DRAIN):
                hold = stack.enter_context(drain.writes_ended())
            yield hold

    def _end_requests(self, recorder: Recorder, under_way: str) -> None:
        """End what is under way by a restart of the registry. Raises Unavailable, Conflict."""
        recorder.update(ended_writes=under_way)
        log.warning(
            "garbage collection %s: restarts the registry to end %s; sysreg-token-server's journal names the"
            " users who got tokens for it",
            recorder.result.id,
            under_way,
        )
        restart_registry(self._settings)

    @contextlib.contextmanager
    def _hold(self, recorder: Recorder) -> Iterator[WriteLockHold]:
        with self._write_lock.hold(wait=_INSTALL_SECONDS) as hold:
            begun = time.monotonic()
            failpoint.reach("garbage hold")
            try:
                yield hold
            finally:
                recorder.count_hold(time.monotonic() - begun)


def writing_handlers(config: RegistryConfig) -> Set[str]:
    """Return the handlers that have a request in flight and may write, none if the registry doesn't run.

    Raises Unavailable if the registry runs but doesn't show its metrics.
    """
    if config.debug is None:
        if not _listens(config.listen):
            return set()
        raise Unavailable(
            f"whether a push is under way can't be seen: {config.path} has no http.debug.prometheus at a"
            " host and port",
            next_step="set http.debug.addr and http.debug.prometheus in it, as sysreg-deploy does",
        )
    try:
        in_flight = metrics.fetch(config.debug, config.metrics, timeout=_TIMEOUT).in_flight
    except metrics.NotListening:
        if not _listens(config.listen):
            return set()
        raise Unavailable(
            f"the registry runs, but doesn't answer at its debug address {config.debug}",
            next_step="restart it",
        ) from None
    return {handler for handler in WRITING_HANDLERS if in_flight.get(handler, 0.0)}


def _listens(address: HostPort | None) -> bool:
    """Whether something listens at the registry's address. True if that is not known."""
    if address is None:
        return True
    try:
        with socket.create_connection((address.reachable.host, address.port), timeout=_TIMEOUT):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
