"""Publishes which certificate the hosts are to trust, and waits for them during a change.

The registry changes over only when each host that is there trusts the new certificate beside the old one.
In the end, what is published is always what the registry serves: ``publish`` compares the two, at the start
of the agent, at the end of a change, and now and then. So a change that lost its agent or its store is
finished.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sysreg_cli.agent.hosts.fleet import Fleet
from sysreg_cli.cluster import writing
from sysreg_cli.cluster.judgement import HostJudgement, State, Verdict, has_settled, may_switch
from sysreg_cli.cluster.keys import CERTIFICATE
from sysreg_cli.cluster.port import Entry, Store
from sysreg_cli.cluster.records import (
    Anchor,
    ChangeId,
    DesiredCertificate,
    Phase,
    decode,
    encode,
)
from sysreg_cli.errors import Conflict, ProtocolError, SysregError, Unavailable, text_of
from sysreg_cli.host import files
from sysreg_cli.host.generations import Generations
from sysreg_cli.settings import Settings
from sysreg_cli.text import iso_time

log = logging.getLogger("sysreg.agent")


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
        self._record = settings.paths.state / "published-change.json"
        self._lock = threading.Lock()
        self._changing = False
        self._was_there: frozenset[str] = frozenset()
        self._stopping = threading.Event()
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="rollout", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def trust(self, chain: Sequence[x509.Certificate], *, by: str, require_all: bool = False) -> None:
        """Have every host trust ``chain`` beside what it trusts. Blocks for seconds.

        Raises SysregError if a host that is there does not, with ``require_all`` also if one is down. Then
        the caller goes back, and calls ``settle``.
        """
        with self._lock:
            self._changing = True
            records = self._fleet.records()
            self._was_there = frozenset(record.name for record in records if record.alive)
            before = self._published()
            desired = self._desired(chain, self._next(before), by)
            desired = replace(desired, phase=Phase.TRUST, retiring=self._in_use(desired))
            if require_all and (down := [one.name for one in records if one.name not in self._was_there]):
                raise Unavailable(f"{_named(down)} down, and every host is required")
            self._write(desired, before)
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
                    problem = _text(verdict)
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
                self._say(f"the certificate is not published to the hosts: {text_of(error)}")
                return False
            return True

    def _run(self) -> None:
        decided = True  # whoever starts the agent wants that the hosts trust what the registry serves
        while True:
            done = self.publish(decided=decided)
            decided = decided and not done
            if self._stopping.wait(self._pace.compare if done else self._pace.retry):
                return

    def _publish(self, decided: bool) -> None:
        """Raises SysregError, OSError."""
        name = self._generations.current()
        if name is None:
            return
        before = self._published()
        last = self._last()
        now = self._desired(self._generations.certificates(name), self._next(before))
        present = before[1]
        went_back = last is not None and (present is None or present.change.number < last.number)
        behind_hosts = decided and present is not None and present.change.number < self._highest_seen()
        if present is not None and _is_same(present, now) and not went_back and not behind_hosts:
            self._said = ""
            return
        if went_back and not decided:
            self._say(
                "the store was restored from an older state, and the hosts refuse to go back: if the registry"
                " serves the right certificate, restart sysreg-agent, which publishes it as the latest change"
            )
            return
        if (
            present is not None
            and present.phase is Phase.TRUST
            and present.sha256 == now.sha256
            and not went_back
        ):
            now = replace(now, change=present.change, who=present.who)
        self._write(now, before)
        self._said = ""

    def _published(self) -> tuple[Entry | None, DesiredCertificate | None]:
        """Return what is published, as an entry and as a value. Raises SysregError."""
        entry = self._store.get(CERTIFICATE)
        try:
            return entry, decode(DesiredCertificate, entry.value, entry.key) if entry else None
        except ProtocolError as error:
            log.warning("%s: it is replaced", error)
            return entry, None

    def _desired(
        self, chain: Sequence[x509.Certificate], change: ChangeId, by: str = ""
    ) -> DesiredCertificate:
        """Return that hosts settle with ``chain``."""
        registry = self._settings.registry
        return DesiredCertificate(
            change=change,
            phase=Phase.SETTLE,
            anchors=(_anchor(chain[-1]),),
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
        anchors = (_anchor(self._generations.certificates(name)[-1]),) if name else ()
        return tuple(anchor for anchor in anchors if anchor not in desired.anchors)

    def _next(self, before: tuple[Entry | None, DesiredCertificate | None]) -> ChangeId:
        """Return an id after each one that the store, this agent or a host has seen. Raises SysregError."""
        last, present = self._last(), before[1]
        numbers = (last.number if last else 0, present.change.number if present else 0, self._highest_seen())
        return ChangeId(max(numbers) + 1, secrets.token_hex(8))

    def _highest_seen(self) -> int:
        return max((one.status.change.number for one in self._fleet.records() if one.status), default=0)

    def _write(
        self, desired: DesiredCertificate, before: tuple[Entry | None, DesiredCertificate | None]
    ) -> None:
        """Raises SysregError, OSError."""
        # before the store: a number that was given must not be given again
        files.write(self._record, encode(desired.change), mode=0o600)
        entry = before[0]
        writing.put(self._store, CERTIFICATE, encode(desired, entry.value if entry else None), entry)
        log.info("change %d (%s) is published to the hosts", desired.change.number, desired.phase)

    def _last(self) -> ChangeId | None:
        """Return the id that was published last. A damaged record counts as none."""
        try:
            return decode(ChangeId, self._record.read_bytes(), str(self._record))
        except (OSError, ProtocolError):
            return None

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
                raise Unavailable(_text(verdict))
            if not verdict.may_go_on and time.monotonic() >= deadline:
                raise Unavailable(f"no answer within {self._pace.trust:g} s: {_text(verdict)}")
            if self._stopping.wait(self._pace.poll):
                raise Unavailable("sysreg-agent is stopping")

    def _say(self, text: str) -> None:
        """Log a problem once."""
        if text != self._said:
            self._said = text
            log.warning("%s", text)


def _text(verdict: Verdict) -> str:
    """Name the hosts that keep a change from going on, with their reasons."""
    hosts = verdict.blocked or verdict.waiting
    return "; ".join(
        f"host {one.record.name} is {one.state}: {one.reason or 'no answer yet'}" for one in hosts
    )


def _named(hosts: Sequence[str]) -> str:
    return f"host {hosts[0]} is" if len(hosts) == 1 else f"the hosts {', '.join(hosts)} are"


def _is_same(present: DesiredCertificate, now: DesiredCertificate) -> bool:
    """Whether ``present`` says what ``now`` says, whoever made it and when."""
    return present == replace(now, change=present.change, who=present.who, since=present.since)


def _anchor(certificate: x509.Certificate) -> Anchor:
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return Anchor(_fingerprint(certificate), pem)


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
