"""Publishes which certificate the hosts are to trust, and waits for them during a change.

The registry changes over only when each host that is there trusts the new certificate beside the old one.
In the end, what is published is always what the registry serves: ``publish`` compares the two, at the start
of the agent, at the end of a change, and now and then. So a change that lost its agent or its store is
finished.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sysreg_cli.agent.hosts.fleet import Fleet
from sysreg_cli.agent.hosts.publication import Need, Publication, Republishing, Said
from sysreg_cli.cluster.judgement import HostJudgement, HostRecord, State, Verdict, has_settled, may_switch
from sysreg_cli.cluster.keys import CERTIFICATE
from sysreg_cli.cluster.port import Store
from sysreg_cli.cluster.records import Anchor, ChangeId, DesiredCertificate, Phase
from sysreg_cli.errors import Conflict, SysregError, Unavailable, text_of
from sysreg_cli.host.generations import Generations
from sysreg_cli.settings import Settings
from sysreg_cli.text import iso_time


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: for which a change waits for hosts that trust, for which all of them have trusted when the
    registry changes over, between two looks at them, and between two comparisons of what is published, in
    general and after a failure.
    """

    trust: float = 5.0
    overlap: float = 1.0
    poll: float = 0.1
    compare: float = 60.0
    retry: float = 5.0


@dataclass(frozen=True, slots=True)
class HostsOutcome:
    """What came of a change on the hosts. ``problem`` is empty if each one that was there is live."""

    judgements: tuple[HostJudgement, ...] = ()
    problem: str = ""

    @property
    def behind(self) -> tuple[HostJudgement, ...]:
        return tuple(one for one in self.judgements if one.state is not State.LIVE)


class Rollout:
    """The certificate of the registry on all hosts. The caller sees to it that one change runs at a time."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        fleet: Fleet,
        *,
        pace: Pace = Pace(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store
        self._fleet = fleet
        self._pace = pace
        self._clock = clock
        self._generations = Generations(settings.certificate.directory)
        record = settings.paths.state / "published-change.json"
        self._publication = Publication(
            store, fleet, CERTIFICATE, DesiredCertificate, record, lambda status: status.change
        )
        self._lock = threading.Lock()
        self._changing = False
        self._was_there: frozenset[str] = frozenset()
        self._said = Said()
        self._thread = Republishing(
            lambda decided: self.publish(decided=decided), "rollout", seconds=pace.compare, retry=pace.retry
        )
        self._stopping = self._thread.stopping

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()

    def trust(self, chain: Sequence[x509.Certificate], *, by: str, require_all: bool = False) -> None:
        """Have every host trust ``chain`` beside what it trusts. Blocks for seconds.

        Raises SysregError if a host that is there does not, with ``require_all`` also if one is down. Then
        the caller goes back, and calls ``settle``.
        """
        with self._lock:
            self._changing = True
            records = self._fleet.records()
            self._was_there = frozenset(record.name for record in records if record.alive)
            before = self._publication.present()
            desired = self._desired(chain, self._publication.next(before), by)
            desired = replace(desired, phase=Phase.TRUST, retiring=self._in_use(desired))
            if require_all:
                require_all_up(records, self._was_there)
            self._publication.write(desired, before)
        self._wait_for_trust(desired, require_all=require_all)

    def settle(self) -> None:
        """Publish the certificate in use: the change has ended. What fails here is done later."""
        with self._lock:
            self._changing = False
        self.publish(decided=True)

    def outcome(self, seconds: float) -> HostsOutcome:
        """Wait until each host that was there at the start is live, and return what came of the change."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                desired, judgements = self._fleet.desired(), tuple(self._fleet.judgements())
                records = [one.record for one in judgements]
                if desired is None or desired.phase is not Phase.SETTLE:
                    problem = "the certificate in use is not published to the hosts yet"
                else:
                    verdict = has_settled(desired, records, self._was_there)
                    if verdict.may_go_on:
                        return HostsOutcome(judgements)
                    problem = describe_verdict(verdict)
            except SysregError as error:
                judgements, problem = (), f"what the hosts do is not known: {error}"
            if time.monotonic() >= deadline or self._stopping.wait(self._pace.poll):
                return HostsOutcome(judgements, problem)

    def publish(self, *, decided: bool = False) -> bool:
        """Publish what the registry serves, unless it is published or a change is under way.

        If the store has gone back to an older state, that needs a decision of the operator: ``decided``.
        Return whether it is published now. Never raises.
        """
        with self._lock:
            if self._changing:
                return True
            try:
                self._publish(decided)
            except (SysregError, OSError) as error:
                self._said.say(f"the certificate is not published to the hosts: {text_of(error)}")
                return False
            return True

    def _publish(self, decided: bool) -> None:
        """Raises SysregError, OSError."""
        name = self._generations.current()
        if name is None:
            return
        before = self._publication.present()
        now = self._desired(self._generations.certificates(name), self._publication.next(before))
        present = before.value
        is_right = present is not None and _is_same(present, now)
        need = self._publication.need(before, is_right=is_right, decided=decided)
        if need is Need.DECISION:
            self._said.say(
                "the store was restored from an older state, and the hosts refuse to go back: if the registry"
                " serves the right certificate, restart sysreg-agent, which publishes it as the latest change"
            )
            return
        if need is Need.WRITE:
            goes_on = present is not None and present.phase is Phase.TRUST and present.sha256 == now.sha256
            if present is not None and goes_on and not self._publication.went_back(before):
                now = replace(now, change=present.change, who=present.who)
            self._publication.write(now, before)
        self._said.say("")

    def _desired(
        self, chain: Sequence[x509.Certificate], change: ChangeId, by: str = ""
    ) -> DesiredCertificate:
        """Return that hosts settle with ``chain``."""
        registry = self._settings.registry
        return DesiredCertificate(
            change=change,
            phase=Phase.SETTLE,
            anchors=(anchor_of(chain[-1]),),
            retiring=(),
            chain=b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain).decode(),
            sha256=_fingerprint(chain[0]),
            host_names=registry.host_names,
            port=registry.port,
            who=by,
            since=iso_time(self._clock()),
        )

    def _in_use(self, desired: DesiredCertificate) -> tuple[Anchor, ...]:
        """Return the anchor of the certificate in use, if ``desired`` has another one. Raises OSError."""
        name = self._generations.current()
        anchors = (anchor_of(self._generations.certificates(name)[-1]),) if name else ()
        return tuple(anchor for anchor in anchors if anchor not in desired.anchors)

    def _wait_for_trust(self, desired: DesiredCertificate, *, require_all: bool) -> None:
        """Raises SysregError, which names the hosts, unless each one that was there trusts ``desired``."""
        deadline = time.monotonic() + self._pace.trust
        trusted_at: float | None = None
        while True:
            records = self._fleet.records()
            if self._fleet.desired() != desired:
                raise Conflict("another certificate was published to the hosts meanwhile")
            verdict = may_switch(desired, records, self._was_there, require_all=require_all)
            if verdict.may_go_on:
                # a client that read the old anchors a moment ago has yet to connect
                trusted_at = trusted_at or time.monotonic()
                if not self._was_there or time.monotonic() >= trusted_at + self._pace.overlap:
                    return
            if verdict.blocked:
                raise Unavailable(describe_verdict(verdict))
            if not verdict.may_go_on and time.monotonic() >= deadline:
                raise Unavailable(f"no answer within {self._pace.trust:g} s: {describe_verdict(verdict)}")
            if self._stopping.wait(self._pace.poll):
                raise Unavailable("sysreg-agent is stopping")


def describe_verdict(verdict: Verdict) -> str:
    """Name the hosts that keep a change from going on, with their reasons."""
    hosts = verdict.blocked or verdict.waiting
    return "; ".join(
        f"host {one.record.name} is {one.state}: {one.reason or 'no answer yet'}" for one in hosts
    )


def require_all_up(records: Sequence[HostRecord], there: Collection[str]) -> None:
    """Raise Unavailable, which names them, if hosts are not ``there``."""
    if down := [record.name for record in records if record.name not in there]:
        hosts = f"host {down[0]} is" if len(down) == 1 else f"the hosts {', '.join(down)} are"
        raise Unavailable(f"{hosts} down, and every host is required")


def _is_same(present: DesiredCertificate, now: DesiredCertificate) -> bool:
    """Whether ``present`` says what ``now`` says, whoever made it and when."""
    return present == replace(now, change=present.change, who=present.who, since=present.since)


def anchor_of(certificate: x509.Certificate) -> Anchor:
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return Anchor(_fingerprint(certificate), pem)


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
