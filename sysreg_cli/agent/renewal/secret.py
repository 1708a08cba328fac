"""A source that is a secret of Kubernetes, of the type kubernetes.io/tls, as cert-manager keeps it."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sysreg_cli.agent.renewal import kubeconfig
from sysreg_cli.agent.renewal.kubernetes import Api, Gone, SecretState
from sysreg_cli.agent.renewal.readings import Reading
from sysreg_cli.errors import SysregError, Unavailable
from sysreg_cli.settings import SecretSource

log = logging.getLogger("sysreg.agent")

_READ_SECONDS = 3600.0
#: the longest pause after failures: a renewal has to be live within a minute
_MAX_PAUSE = 20.0


class FollowedSecret:
    """The source ``secret:NAMESPACE/NAME``. It follows the secret with one connection.

    The kubeconfig file is read again for each connection, because it is replaced now and then, too.
    """

    def __init__(self, source: SecretSource, config: Path, *, pause: float = 1.0) -> None:
        """``pause`` is the number of seconds between two watches, and after a first failure."""
        self._source = source
        self._config = config
        self._pause = pause
        self._version = ""
        self._read_at = 0.0
        self._failures = 0

    def __str__(self) -> str:
        return str(self._source)

    def follow(self, report: Callable[[Reading], None], stopping: threading.Event) -> None:
        """See ``Source.follow``."""
        while not stopping.is_set():
            try:
                with Api(kubeconfig.load(self._config), self._source) as api:
                    while not stopping.is_set():
                        self._follow_once(api, report)
                        stopping.wait(self._pause)
            except Gone:
                self._version = ""
            except SysregError as error:
                self._failures += 1
                # a connection that breaks is usual: the second failure in a row counts
                if self._failures > 1 or not isinstance(error, Unavailable):
                    self._version = ""
                    report(Reading(problem=str(error)))
            stopping.wait(min(_MAX_PAUSE, self._pause * 2 ** min(self._failures, 10)))

    def _follow_once(self, api: Api, report: Callable[[Reading], None]) -> None:
        """Read the secret if that is due, then watch it until the server ends the response."""
        if not self._version or time.monotonic() >= self._read_at + _READ_SECONDS:
            self._take(api.read(), report)
            self._read_at = time.monotonic()
        for state in api.watch(self._version):
            self._take(state, report)

    def _take(self, state: SecretState, report: Callable[[Reading], None]) -> None:
        self._version = state.version
        self._failures = 0
        if state.changed:
            report(self._reading(state.data))

    def _reading(self, data: Mapping[str, Any] | None) -> Reading:
        if data is None:
            return Reading(problem="there is no such secret")
        missing = [name for name in ("tls.crt", "tls.key") if not data.get(name)]
        if missing:
            return Reading(problem=f"the secret has no {' and no '.join(missing)}")
        try:
            key, chain, authority = (
                base64.b64decode(data.get(name) or "", validate=True)
                for name in ("tls.key", "tls.crt", "ca.crt")
            )
        except (ValueError, TypeError):
            return Reading(problem="the secret's data is not base64")
        return Reading.of(key, chain, authority)
