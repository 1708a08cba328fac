"""Hold the write lock at a moment when no write can be under way in the registry.

This is the second step of docs/contracts.rst, "Garbage collection".

A request is authorised when it starts, so two things must be over: the time for which the latest write
token is accepted, and then the requests that began before. The registry counts requests in flight by
handler. Handlers that write serve reads as well, so each has to be seen at zero once: later requests can't
be writes any more.

An upload may last for minutes, and docker gives up when it has got no token for about 100 s. So the lock is
held for a bounded time only while nothing has been removed yet. If an upload outlasts it, writes are opened
for long enough that every held push goes on, and then it is tried again. Before each try a pause between
pushes is waited for, each time longer, since writes that end early cost nobody anything.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import re
import socket
import time
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sysreg_cli.agent.garbage.registry_config import RegistryConfig
from sysreg_cli.errors import SysregError, Unavailable
from sysreg_cli.tokens.write_lock import WriteLockHold

# Handlers of distribution 2.8 through which something is written, as an operator would call them. `blob`
# deletes a link at most.
_WRITERS = {"manifest": "manifests", "blob_upload": "starts of uploads", "blob_upload_chunk": "uploads"}
_GAUGE = re.compile(r'^registry_http_in_flight_requests\{handler="(\w+)"\} (\S+)$', re.MULTILINE)
_TIMEOUT = 5.0
_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may take, in seconds.

    ``limit``: everything. ``hold``: one hold of the lock until no write is under way; docker's retries have
    to outlive it and the sweep. ``window``: the least time between two holds, in which each held push gets
    its token; the pauses between docker's retries that matter are at most 15 s. ``calm``: the longest wait
    for a pause between pushes before the first hold, doubled with each further one. ``pause``: how long no
    write may be in flight to make such a pause; within a push there are moments between its requests.
    """

    limit: float
    hold: float
    window: float = 20.0
    calm: float = 60.0
    pause: float = 0.5


class Drain:
    """Waits until no write is under way, with the write lock held.

    ``take`` holds the write lock; ``permitted`` says for how many seconds from now the latest write token is
    accepted; ``busy`` names the handlers that have a request in flight and may write. ``sleep`` takes
    seconds, the part of the limit that is over, and what is waited for; it ends the drain by raising.
    """

    def __init__(
        self,
        patience: Patience,
        *,
        take: Callable[[], AbstractContextManager[WriteLockHold]],
        permitted: Callable[[], float],
        busy: Callable[[], Set[str]],
        sleep: Callable[[float, float, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience
        self._take = take
        self._permitted = permitted
        self._busy = busy
        self._sleep = sleep
        self._clock = clock
        self._begun = clock()

    @contextlib.contextmanager
    def writes_ended(self) -> Iterator[WriteLockHold]:
        """The hold of the write lock under which no write is under way; it ends with the context.

        Raises SysregError when the limit is over, and what the callables raise; then the write lock is open.
        """
        calm = self._patience.calm
        for number in itertools.count(1):
            self._wait_for_a_pause(calm)
            with self._take() as hold:
                left = self._wait_for_writes()
                if not left:
                    yield hold
                    return
            self._let_pushes_go_on(left, number)
            calm *= 2

    def _wait_for_a_pause(self, most: float) -> None:
        """Before the write lock is held. Nothing depends on it but the odds."""
        if self._permitted() <= 0 and not self._busy():
            return
        # So that the last try is a whole one.
        until = min(self._clock() + most, self._end - self._patience.hold)
        idle_since: float | None = None
        while (now := self._clock()) < until:
            if self._busy():
                idle_since = None
            elif idle_since is None:
                idle_since = now
            elif now - idle_since >= self._patience.pause:
                return
            self._wait(_POLL, f"a pause between pushes, for at most {until - now:.0f} s")

    def _wait_for_writes(self) -> Set[str]:
        """Under the write lock: returns what still writes when the time for one hold is over, or nothing."""
        now = self._clock()
        until = now + self._patience.hold
        # Measured once: nobody issues a write token while we hold the write lock.
        expiry = now + self._permitted()
        while (left := expiry - self._clock()) > 0:
            self._wait(min(left, 0.1), f"the end of the last permission to push, in {left:.0f} s")
        busy: Set[str] = _WRITERS.keys()
        while busy := busy & self._busy():
            if self._clock() >= until:
                break
            self._wait(_POLL, f"the end of {describe(busy)}")
        return busy

    def _let_pushes_go_on(self, busy: Set[str], number: int) -> None:
        until = self._clock() + self._patience.window
        if until + self._patience.hold > self._end:
            raise self._too_long(f"after {number} tries there still were {describe(busy)}")
        while (left := until - self._clock()) > 0:
            self._wait(min(left, 0.5), f"held pushes to go on, {left:.0f} s; then try {number + 1}")

    @property
    def _end(self) -> float:
        return self._begun + self._patience.limit

    def _wait(self, seconds: float, detail: str) -> None:
        over = self._clock() - self._begun
        if over >= self._patience.limit:
            raise self._too_long(f"still waiting for {detail}")
        self._sleep(seconds, over / self._patience.limit, f"waits for {detail}")

    def _too_long(self, what: str) -> SysregError:
        return SysregError(
            f"pushes did not end within {self._patience.limit:g} s: {what}; nothing was removed",
            next_step="try again when less is pushed, or raise drain_timeout in section [agent] of"
            " sysreg.conf",
        )


def describe(handlers: Set[str]) -> str:
    """Handlers in the words of an operator."""
    return f"{' and '.join(_WRITERS[handler] for handler in sorted(handlers))} under way"


def writing(config: RegistryConfig) -> Set[str]:
    """The handlers with a request in flight that may write; none if the registry doesn't run.

    Raises Unavailable if the registry runs but doesn't show its gauges.
    """
    gauges = _in_flight(config)
    return {handler for handler in _WRITERS if gauges is not None and gauges.get(handler, 0.0)}


def _in_flight(config: RegistryConfig) -> dict[str, float] | None:
    """Requests in flight by handler, or None if the registry doesn't run."""
    advice = "set http.debug.addr and http.debug.prometheus in it, as sysreg-deploy does"
    if not config.debug:
        if not _listens(config.listen):
            return None
        raise Unavailable(
            f"whether a push is under way can't be seen: {config.path} has no http.debug.prometheus",
            next_step=advice,
        )
    host, port = _address(config.debug)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", config.metrics)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except ConnectionRefusedError:
        if not _listens(config.listen):
            return None
        raise Unavailable(
            f"the registry runs, but doesn't answer at its debug address {config.debug}",
            next_step="restart it",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the registry's debug address {config.debug}: {error}") from None
    finally:
        connection.close()
    gauges = {handler: float(value) for handler, value in _GAUGE.findall(text)}
    if answer.status != 200 or not gauges:
        raise Unavailable(f"{config.debug}{config.metrics} shows no requests in flight", next_step=advice)
    return gauges


def _listens(address: str) -> bool:
    try:
        with socket.create_connection(_address(address), timeout=_TIMEOUT):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return True  # unknown: rather too careful


def _address(text: str) -> tuple[str, int]:
    """Go's host:port: an empty host, or the unspecified address, is this machine; no port means 80."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    return ("127.0.0.1" if host in ("", "0.0.0.0") else "::1" if host == "::" else host), int(port or 80)  # noqa: S104
