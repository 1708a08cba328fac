"""``sysreg-host``: keeps the trust of docker and containerd on a worker equal to what the controller wants.

Runs as root, and only opens connections: to etcd, and to the registry. SIGTERM ends it. systemd starts it
before docker, containerd and the kubelet, and waits for it a few seconds (Type=notify): until it has looked
once at what is desired.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.follow import Follower
from sysreg_cli.cluster.keys import AUTHORITIES, CERTIFICATE, DESIRED
from sysreg_cli.cluster.membership import access, boot_id, own_name
from sysreg_cli.cluster.port import Listing
from sysreg_cli.cluster.records import DesiredAuthorities, DesiredCertificate
from sysreg_cli.daemon import program, systemd
from sysreg_cli.errors import SysregError
from sysreg_cli.host import files
from sysreg_cli.settings import Settings
from sysreg_cli.worker.authorities import AuthorityReconciler
from sysreg_cli.worker.duty import Duty
from sysreg_cli.worker.loop import Loop, Pace
from sysreg_cli.worker.presence import Presence
from sysreg_cli.worker.reconciler import Reconciler
from sysreg_cli.worker.reporter import Reporter

log = logging.getLogger("sysreg.host")

_PROGRAM = "sysreg-host"
#: seconds for which the start of docker, containerd and the kubelet waits for the store
_MAX_START_SECONDS = 10.0
#: each attempt to rebuild the system's bundle takes a second of CPU
_AUTHORITIES_PACE = Pace(max_retry=60.0)


def parser() -> argparse.ArgumentParser:
    """Return the options of the console script."""
    return program.parser(
        _PROGRAM,
        "Keep the trust of docker and containerd on this worker equal to what the controller wants.",
        on_sighup="ends it, as SIGTERM does; systemd starts it again",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon. Return the exit status: 0 after SIGTERM, 1 if it cannot start."""
    parser().parse_args(arguments)
    os.umask(0o022)
    program.log_to_stderr("%(message)s")
    return program.run(_PROGRAM, _serve)


def _serve(settings: Settings) -> None:
    ended = _catch_signals()
    host, boot = own_name(settings.cluster), boot_id()
    store = EtcdStore(access(settings.cluster))
    settings.paths.state.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        files.remove_leftovers(settings.paths.state)
    reporter = Reporter(store, host, boot)
    certificate = Duty(CERTIFICATE, DesiredCertificate, Reconciler(settings), reporter.tell)
    authorities = Duty(
        AUTHORITIES, DesiredAuthorities, AuthorityReconciler(settings), reporter.tell_authorities
    )
    ready = _Ready(host, parts=2)
    loops = (
        Loop(certificate.look, on_first_look=ready.part_done),
        Loop(authorities.look, on_first_look=ready.part_done, pace=_AUTHORITIES_PACE),
    )

    def see(listing: Listing) -> None:
        for loop in loops:
            loop.see(listing)

    follower = Follower(store, DESIRED, see, _Trouble().tell)
    presence = Presence(store, host, boot)
    threads = [threading.Thread(target=part.run, daemon=True) for part in (follower, *loops)]
    presence.start()
    for thread in threads:
        thread.start()
    late = threading.Timer(_MAX_START_SECONDS, ready.tell)
    late.daemon = True
    late.start()
    ended.wait()
    follower.stop()
    for loop in loops:
        loop.stop()
    for thread in threads:
        thread.join()
    presence.stop()
    store.close()


def _catch_signals() -> threading.Event:
    """Return the event that a signal to end sets."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    return ended


class _Ready:
    """Tells systemd once that what waits for this daemon may start: when each of its parts has looked."""

    def __init__(self, host: str, *, parts: int) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._left = parts
        self._told = False

    def part_done(self) -> None:
        with self._lock:
            self._left -= 1
        if not self._left:
            self.tell()

    def tell(self) -> None:
        with self._lock:
            if not self._told:
                self._told = True
                log.info("serving as host %s", self._host)
                systemd.notify("READY=1")


class _Trouble:
    """Logs each problem with the store once, not for each attempt."""

    def __init__(self) -> None:
        self._said = ""

    def tell(self, error: SysregError) -> None:
        if str(error) != self._said:
            self._said = str(error)
            log.warning("the store cannot be followed: %s", error)


if __name__ == "__main__":
    sys.exit(main())
