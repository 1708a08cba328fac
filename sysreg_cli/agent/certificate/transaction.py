"""Changes the registry's certificate completely or not at all (docs/contracts.rst, "Certificate")."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from cryptography import x509

from sysreg_cli.agent.certificate.history import History
from sysreg_cli.agent.certificate.requests import PendingRequests
from sysreg_cli.daemon.tls import ServerTLS
from sysreg_cli.errors import Conflict, ProtocolError, SysregError, Unavailable, text_of
from sysreg_cli.host import anchors, connections, files
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.journal import Journal, JournalDamaged
from sysreg_cli.host.locks import services_lock
from sysreg_cli.host.probe import Probe
from sysreg_cli.host.services import Services
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.check import ServerChain
from sysreg_cli.settings import AgentSettings, Settings
from sysreg_cli.tokens.write_lock import WriteLock
from sysreg_cli.v1 import wire

log = logging.getLogger("sysreg.agent")

_POLL_SECONDS = 0.5
_RECOVERY_WAIT = 120.0
_RECOVERY_PROBE_SECONDS = 5.0
# systemd may refuse a third or fourth start within ten seconds
_ATTEMPTS = 3
_ATTEMPT_PAUSE = 4.0


class ChangePhase(StrEnum):
    """How far a change has come."""

    PREPARED = "prepared"  # it may have begun, and can be undone
    COMMITTED = "committed"  # every service presents the new certificate; only cleaning up is left


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """What the journal holds: the phase and two generations. ``old`` is empty in the first install."""

    phase: ChangePhase
    old: str
    new: str


class Hosts(Protocol):
    """The other hosts of a cluster; see ``agent.hosts.rollout``."""

    def trust(self, chain: Sequence[x509.Certificate], *, by: str, require_all: bool) -> None:
        """Have every host trust ``chain`` as well. Raises SysregError if one does not."""

    def settle(self) -> None:
        """Have every host trust the certificate in use alone. Never raises."""


class _NoHosts:
    """This machine is alone."""

    def trust(self, chain: Sequence[x509.Certificate], *, by: str, require_all: bool) -> None:
        pass

    def settle(self) -> None:
        pass


class CertificateChange:
    """Installs the certificate of ``docker_registry``, and ends changes whose agent was killed.

    The journal tells the state. Without a journal no change is under way. Then one generation is current,
    every service presents it, and docker and containerd trust only its anchor. ``install`` writes PREPARED to
    the journal before anything else. From then on, files, trust and services may be old, new or a mixture.
    Clients accept both certificates, because the new anchor is trusted before a service presents the new
    certificate, and the old anchor until no service presents the old one. One rename makes the new generation
    current. When the probe has seen the new certificate at every endpoint, the journal says COMMITTED.

    A change ends in one of two ways. After COMMITTED nothing goes back. If a step in PREPARED fails, the old
    generation becomes current again, and the services are restarted and probed again. Going back needs no
    disk space. Both ways end with the same step: trust only the anchor of the current generation, remove
    unfinished and very old generations, and clear the journal.

    If the agent is killed, the next start or install ends the change. After COMMITTED it cleans up. After
    PREPARED it commits the new generation if every service presents it, and goes back otherwise. If the
    journal is damaged or tells of other generations, the current generation stays if it is live or can be
    made live; else the one before it becomes current. docs/architecture.rst, "A certificate change", draws
    the states.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        own_tls: ServerTLS | None = None,
        collecting: Callable[[], bool] = lambda: False,
        probe: Probe | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        """``own_tls`` is the agent's own TLS. ``collecting`` says whether an install has to wait.

        ``hosts`` are the others of the cluster; None if this machine is alone.
        """
        self._settings = settings
        self._own_tls = own_tls
        self._collecting = collecting
        self._stopping = threading.Event()
        self._generations = Generations(settings.certificate.directory)
        self._history = History(settings)
        self._requests = PendingRequests(settings)
        self._journal = Journal(settings.paths.state / "certificate-journal")
        self._services = Services(settings.agent)
        self._hosts = hosts or _NoHosts()
        self._probe = probe or Probe(settings, with_agent=own_tls is not None)
        self._probe_seconds = settings.agent.probe_timeout

    def install(
        self,
        chain: ServerChain,
        *,
        by: str,
        wait: float,
        instead_of: str | None = None,
        require_all_hosts: bool = False,
    ) -> list[str]:
        """Make ``chain`` the live certificate. Blocks; returns warnings about what is left to clean up.

        ``by`` names for the history who installs it: a user, or the source of a renewal. Waits up to ``wait``
        seconds for a garbage collection or another change to end. Raises Conflict after that, or if
        ``instead_of`` is a generation that is no longer the current one; Unavailable when the agent stops,
        OSError, and SysregError if the certificate could not be made live, or a host does not trust it; with
        ``require_all_hosts`` also if a host is down. Then the old one is live again, or the message says why
        not.
        """

        def choose() -> ServerChain:
            if instead_of not in (None, self._generations.current()):
                raise Conflict("certificate not installed: another was installed meanwhile")
            return chain

        return self.install_chosen(choose, by=by, wait=wait, require_all_hosts=require_all_hosts)

    def install_chosen(
        self, choose: Callable[[], ServerChain], *, by: str, wait: float, require_all_hosts: bool = False
    ) -> list[str]:
        """Install what ``choose`` returns when no other change is under way. See ``install``.

        An error of ``choose`` changes nothing.
        """
        with self._exclusively(wait):
            with contextlib.suppress(SysregError, OSError):
                # this change replaces an earlier one that cannot be ended
                self._settle()
            return self._replace(choose(), by, require_all_hosts)

    def _replace(self, chain: ServerChain, by: str, require_all_hosts: bool) -> list[str]:
        old = self._generations.current()
        record = ChangeRecord(ChangePhase.PREPARED, old or "", self._generations.next_name())
        switched = False
        try:
            self._journal.write(wire.to_json(record))
            self._generations.create(record.new, chain.key_pem, chain.chain_pem, by=by)
            _apply(anchors.trust_also(self._settings, chain.anchor))
            self._hosts.trust(chain.certificates, by=by, require_all=require_all_hosts)
            self._generations.use(record.new)
            switched = True
            self._make_live(record.new)
            self._commit(record)
        except (SysregError, OSError) as error:
            raise self._undo(error, old, switched) from None
        try:
            self._clean_up(record.new)
        except (SysregError, OSError) as error:
            log.warning("the certificate is live, cleaning up failed: %s", text_of(error))
            return [f"cleaning up is left for the next change or start of the agent: {text_of(error)}"]
        return []

    def stop_waiting(self) -> None:
        """End the waiting of installs that have not begun, because the agent stops."""
        self._stopping.set()

    def recover(self) -> None:
        """End the changes of a killed agent. Blocks. Raises SysregError if that fails."""
        with services_lock(self._settings.paths.state, "certificate recovery", wait=_RECOVERY_WAIT):
            try:
                self._remove_leftovers()
                self._settle()
                SystemBundle(self._settings.paths).recover()
            except OSError as error:
                raise SysregError(
                    f"an interrupted certificate install is not undone yet: {text_of(error)}"
                ) from None

    @contextlib.contextmanager
    def _exclusively(self, wait: float) -> Iterator[None]:
        """Hold the services lock, and keep collections from starting. Raises Conflict, Unavailable."""
        state = self._settings.paths.state
        deadline = time.monotonic() + wait
        with contextlib.closing(WriteLock(state)) as write_lock:
            while True:
                remaining = max(0.0, deadline - time.monotonic())
                with services_lock(state, "certificate install", wait=remaining):
                    if self._stopping.is_set():
                        raise Unavailable("certificate not installed: sysreg-agent is stopping")
                    issue = None if self._collecting() else write_lock.try_issue()
                    if issue is not None:
                        with issue:
                            yield
                        return
                if not remaining:
                    raise Conflict(
                        f"certificate not installed: a collection was still under way after {wait:.0f} s",
                        next_step="wait for its end, or stop it (system registry-garbage-collect --cancel)",
                    )
                # without the services lock: the collection may need it to restart the registry
                self._stopping.wait(min(_POLL_SECONDS, remaining))

    def _remove_leftovers(self) -> None:
        """Remove temporary files of interrupted writes. Only at the start: nothing else writes yet."""
        paths, addresses = self._settings.paths, self._settings.registry.addresses
        roots = (paths.docker_trust, paths.containerd_trust)
        files.remove_leftovers(
            *(paths.state, paths.system_trust, self._settings.certificate.directory),
            self._requests.directory,
            *(root / address for root in roots for address in addresses),
        )

    def _settle(self) -> None:
        """End the change that the journal tells of, if any. Raises SysregError, OSError.

        Another program may have made another generation current since, such as ``sysreg-deploy`` when it
        renews a certificate. Then the journal no longer says what to go back to.
        """
        try:
            fields = self._journal.read()
            if fields is None:
                return
            record = wire.from_json(ChangeRecord, fields, "the certificate journal")
        except (JournalDamaged, ProtocolError) as error:
            log.warning("%s: going by what is live", error)
            self._settle_without_record()
            return
        current = self._generations.current()
        committed = record.phase is ChangePhase.COMMITTED
        if committed and current == record.new:
            log.info("certificate generation %s was committed: cleaning up", current)
        elif committed or current not in (record.old or None, record.new):
            log.info(
                "certificate generation %s is not of the interrupted change: going by what is live", current
            )
            self._settle_without_record()
            return
        elif current == record.new and self._is_live(current):
            log.info("certificate generation %s is live: committing it", current)
            self._commit(record)
        else:
            log.info("certificate generation %s is not live everywhere: going back", record.new)
            current = record.old or None
            self._go_back(current)
        self._clean_up(current)

    def _settle_without_record(self) -> None:
        """End a change whose journal is damaged: keep the current generation, else the one before it."""
        current = self._generations.current()
        older = self._generations.before(current) if current else []
        try:
            self._go_back(current, attempts=1 if older else _ATTEMPTS)
        except (SysregError, OSError):
            if not older:
                raise
            current = older[-1]
            self._go_back(current)
        self._clean_up(current)

    def _commit(self, record: ChangeRecord) -> None:
        self._journal.write(wire.to_json(replace(record, phase=ChangePhase.COMMITTED)))

    def _undo(self, reason: Exception, old: str | None, switched: bool) -> SysregError:
        """Go back to ``old``, and return the error that says how that went."""
        failed = f"certificate not installed: {text_of(reason)}"
        log.warning("%s; going back", failed)
        try:
            self._go_back(old, restart=switched)
        except (SysregError, OSError) as error:
            return SysregError(
                f"{failed}; the old certificate could not be brought back: {text_of(error)}",
                next_step="repair that and restart sysreg-agent, which finishes going back",
            )
        try:
            self._clean_up(old)
        except (SysregError, OSError) as error:
            log.warning("cleaning up is left for the next change or start of the agent: %s", text_of(error))
        return SysregError(
            failed, next_step="the old certificate is still in use; repair the reason and install again"
        )

    def _go_back(self, name: str | None, *, restart: bool = False, attempts: int = _ATTEMPTS) -> None:
        """Make ``name`` current and live. Raises SysregError, OSError.

        With ``restart`` the services are restarted even if they present ``name``: they may be about to read
        other files.
        """
        if self._generations.current() != name:
            self._generations.go_back(name)
        if name is None or (not restart and self._is_live(name)):
            return
        for attempt in range(1, attempts + 1):
            try:
                self._make_live(name)
            except (SysregError, OSError) as error:
                log.warning("attempt %d of %d to go back: %s", attempt, attempts, text_of(error))
                if attempt == attempts:
                    raise
                time.sleep(_ATTEMPT_PAUSE)
            else:
                return

    def _clean_up(self, name: str | None) -> None:
        """End a change: trust and keep nothing but what belongs to ``name``, the current generation."""
        if name is not None:
            chain = self._generations.certificates(name)
            _apply(anchors.trust_only(self._settings, chain[-1]))
            self._requests.fulfil(chain[0])
        self._history.add_outdated()
        self._generations.prune()
        self._journal.clear()
        self._hosts.settle()

    def _make_live(self, name: str) -> None:
        """Have every service present ``name``, the current generation. Raises SysregError, OSError.

        A command that fails does not matter if the services present ``name`` all the same.
        """
        try:
            self._services.reload(self._settings.token_server.unit)
            if self._own_tls is not None:
                self._own_tls.reload()
            self._restart_registry()
        except (SysregError, OSError):
            if not self._is_live(name):
                raise
        else:
            self._probe.wait(self._generations.certificates(name), seconds=self._probe_seconds)

    def _restart_registry(self) -> None:
        """Restart it. In a cluster, no client is refused meanwhile. Raises SysregError, OSError."""
        settings = self._settings
        # an embedded controller shares its network with others, and must not change its rules
        holds = (
            settings.cluster.endpoints and settings.agent.restart_command == AgentSettings().restart_command
        )
        with connections.held(settings.registry.port) if holds else contextlib.nullcontext():
            self._services.restart(settings.registry.unit)

    def _is_live(self, name: str) -> bool:
        """Whether every service presents ``name``. Waits a few seconds for services that start."""
        try:
            seconds = min(_RECOVERY_PROBE_SECONDS, self._probe_seconds)
            self._probe.wait(self._generations.certificates(name), seconds=seconds, fail_fast=True)
        except (SysregError, OSError):
            return False
        return True


def _apply(changes: Sequence[anchors.FileChange]) -> None:
    for change in changes:
        change.apply()
