"""Publishes which CA certificates the hosts are to trust: those that were installed here with -m ssl_ca.

Such a certificate is trusted beside others, and nothing waits for it. So this controller installs it first. A
host that cannot do it yet is named, and gets it when it can.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from sysreg_cli.agent.hosts.fleet import Fleet
from sysreg_cli.agent.hosts.publication import Need, Publication, Republishing, Said
from sysreg_cli.agent.hosts.rollout import (
    HostsOutcome,
    Pace,
    anchor_of,
    describe_verdict,
    require_all_up,
)
from sysreg_cli.cluster.judgement import HostJudgement, have_authorities
from sysreg_cli.cluster.keys import AUTHORITIES
from sysreg_cli.cluster.port import Store
from sysreg_cli.cluster.records import ChangeId, DesiredAuthorities, HostStatus
from sysreg_cli.errors import Conflict, SysregError, text_of
from sysreg_cli.host.locks import services_lock
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.settings import Settings
from sysreg_cli.text import iso_time


class AuthorityRollout:
    """The CA certificates on all hosts. Its methods may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        fleet: Fleet,
        *,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = settings.paths.state
        self._bundle = SystemBundle(settings.paths)
        self._fleet = fleet
        self._pace = pace = pace or Pace()
        self._clock = clock
        record = settings.paths.state / "published-authorities.json"
        self._publication = Publication(store, fleet, AUTHORITIES, DesiredAuthorities, record, _seen)
        self._lock = threading.Lock()
        self._said = Said()
        self._thread = Republishing(
            lambda decided: not self.publish(decided=decided),
            "authorities",
            seconds=pace.compare,
            retry=pace.retry,
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()

    def begin(self, *, require_all: bool) -> frozenset[str]:
        """Return the hosts that are there, before this controller changes anything.

        Raises SysregError if the store does not say it, with ``require_all`` also if a host is down.
        """
        records = self._fleet.records()
        there = frozenset(record.name for record in records if record.alive)
        if require_all:
            require_all_up(records, there)
        return there

    def publish(self, *, decided: bool, by: str = "", wait: float = 0.0) -> str:
        """Publish what this controller has, unless it is published.

        ``by`` has changed it. Waits up to ``wait`` seconds for a change of services that is under way. If the
        store has gone back to an older state, that needs a decision of the operator: ``decided``. Return why
        it is not published, "" if it is. Never raises.
        """
        with self._lock:
            try:
                problem = self._publish(decided, by, wait)
            except Conflict as error:
                return str(error)  # it is tried again, so it need not be logged
            except (SysregError, OSError) as error:
                problem = f"the CA certificates are not published to the hosts: {text_of(error)}"
            self._said.say(problem)
            return problem

    def outcome(self, seconds: float, was_there: Collection[str], *, by: str) -> HostsOutcome:
        """Publish, wait until each host of ``was_there`` is as desired, and return what came of it."""
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            problem = self.publish(decided=True, by=by, wait=left)
            judgements: tuple[HostJudgement, ...] = ()
            try:
                judgements = tuple(self._fleet.authority_judgements())
                records = [one.record for one in judgements]
                verdict = have_authorities(self._fleet.desired_authorities(), records, was_there)
                if not problem and verdict.may_go_on:
                    return HostsOutcome(judgements)
                problem = problem or describe_verdict(verdict)
            except SysregError as error:
                problem = problem or f"what the hosts do is not known: {error}"
            if time.monotonic() >= deadline or self._thread.stopping.wait(self._pace.poll):
                return HostsOutcome(judgements, problem)

    def _publish(self, decided: bool, by: str, wait: float) -> str:
        """Raises SysregError, OSError."""
        # an install that is under way may yet be undone
        with services_lock(self._state, "reading the CA certificates", wait=wait):
            anchors = tuple(map(anchor_of, self._bundle.installed()))
        before = self._publication.present()
        if before.entry is None and not anchors and not self._publication.went_back(before):
            return ""  # nobody ever added one
        present = before.value
        is_right = present is not None and present.anchors == anchors
        need = self._publication.need(before, is_right=is_right, decided=decided)
        if need is Need.DECISION:
            return (
                "the store was restored from an older state, and the hosts refuse to go back: if"
                " certificate-list shows the right CA certificates, restart sysreg-agent, which publishes"
                " them as the latest change"
            )
        if need is Need.WRITE:
            now = DesiredAuthorities(self._publication.next(before), anchors, by, iso_time(self._clock()))
            self._publication.write(now, before)
        return ""


def _seen(status: HostStatus) -> ChangeId | None:
    return status.authorities.change if status.authorities else None
