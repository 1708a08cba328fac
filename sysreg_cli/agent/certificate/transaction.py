"""The change of the registry's certificate: all of it, or nothing (docs/contracts.rst, "Certificate").

The order makes every instant safe. The journal names the old and the new generation before anything else is
touched; the new anchor is trusted before anyone presents it, the old one until after nobody does; one rename
switches the files. What is live decides: a change is committed only after the probe saw every endpoint
present exactly the new chain, and undone otherwise. ``recover`` does the same for a change whose agent died:
it commits what was switched and probes good, and undoes the rest.

Going back needs neither a new link nor a journal entry, so that a full disk can't stop it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sysreg_cli.daemon.tls import ServerTLS
from sysreg_cli.errors import Conflict, SysregError
from sysreg_cli.host import files, trust
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.journal import Journal, JournalDamaged
from sysreg_cli.host.locks import services_lock
from sysreg_cli.host.probe import Probe
from sysreg_cli.host.services import Services
from sysreg_cli.pki.check import ServerChain, read_certificates
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.write_lock import WriteLock

log = logging.getLogger("sysreg.agent")

#: generations kept: the one in use, and those before it
HISTORY = 3
_PREPARED, _COMMITTED = "prepared", "committed"
#: an install takes seconds; a second one waits for it
_LOCK_SECONDS = 120.0
_RECOVERY_PATIENCE = 5.0
#: systemd may refuse a third or fourth start within ten seconds
_UNDO_ATTEMPTS = 3
_UNDO_PAUSE = 4.0


class CertificateChange:
    """Installs the certificate of ``docker_registry``; one object serves one agent process."""

    def __init__(self, settings: Settings, own_tls: ServerTLS | None = None) -> None:
        """``own_tls`` is the TLS of the agent's own listener; None if there is none, or not yet."""
        self._settings = settings
        self._own_tls = own_tls
        self._generations = Generations(settings.certificate.directory)
        self._journal = Journal(settings.paths.state / "certificate-journal")
        self._services = Services(settings.agent)
        self._probe = Probe(settings)

    def install(self, chain: ServerChain) -> list[str]:
        """Make ``chain`` the live certificate. Blocks; returns warnings about what is left to tidy up.

        Raises Conflict while a garbage collection runs or another change takes too long, and SysregError
        when the new certificate could not be made live: the old one is again, or the message says why not.
        """
        state = self._settings.paths.state
        with services_lock(state, "certificate install", wait=_LOCK_SECONDS), _no_collection(self._settings):
            with contextlib.suppress(SysregError, OSError):
                # if what an earlier change left can't be settled, this one replaces it
                self._settle()
            try:
                old = self._generations.current()
                new = self._generations.next_name()
            except OSError as error:
                raise SysregError(f"certificate not installed: {_text(error)}") from None
            touched = False
            try:
                self._journal.write({"phase": _PREPARED, "old": old or "", "new": new})
                self._generations.create(new, chain.key_pem, chain.chain_pem)
                self._run(trust.add_anchor(self._settings, chain.anchor))
                self._generations.use(new)
                touched = True
                self._make_live(new)
                self._journal.write({"phase": _COMMITTED, "old": old or "", "new": new})
            except (SysregError, OSError) as error:
                raise self._undo_after(error, old, touched) from None
            try:
                self._finish(new)
            except (SysregError, OSError) as error:
                log.warning("the certificate is live, tidying up failed: %s", error)
                return [f"tidying up is left for the next change or start of the agent: {_text(error)}"]
        return []

    def recover(self) -> None:
        """Bring a change whose agent died to its end. Blocks; logs, and raises SysregError if it can't."""
        with services_lock(self._settings.paths.state, "certificate recovery", wait=_LOCK_SECONDS):
            try:
                self._remove_leftovers()
                self._settle()
                trust.recover_authorities(self._settings)
            except OSError as error:
                raise SysregError(
                    f"an interrupted certificate install is not undone yet: {_text(error)}"
                ) from None

    def _remove_leftovers(self) -> None:
        """What writes that were cut short left; only at the start, when nobody else writes yet."""
        settings = self._settings
        for directory in (
            settings.paths.state,
            settings.certificate.directory,
            settings.paths.system_trust,
            *(settings.paths.docker_trust / place for place in settings.registry.addresses),
            *(settings.paths.containerd_trust / place for place in settings.registry.addresses),
        ):
            files.remove_leftovers(directory)

    def _settle(self) -> None:
        try:
            record = self._journal.read()
        except JournalDamaged as error:
            log.warning("%s: going by what is live", error)
            self._settle_unknown()
            return
        if record is None:
            return
        current = self._generations.current()
        if record["phase"] == _COMMITTED and current == record["new"]:
            log.info("certificate generation %s was committed: tidying up", current)
        elif current == record["new"] and self._is_live(current):
            log.info("certificate generation %s is live: committing it", current)
            self._journal.write({**record, "phase": _COMMITTED})
        else:
            log.info("certificate generation %s is not live everywhere: going back", record["new"])
            self._undo(record["old"] or None)
            return
        self._finish(current)

    def _settle_unknown(self) -> None:
        """Settle without a journal: the link says what was meant, the generation before it is the old one."""
        current = self._generations.current()
        older = self._generations.before(current) if current else []
        if current is None:
            self._undo(None)
        elif self._is_live(current) or not older:
            self._undo(current)
        else:
            try:
                self._make_live(current)
            except SysregError:
                self._undo(older[-1])
            else:
                self._finish(current)

    def _make_live(self, name: str) -> None:
        """Have every service present ``name``, which is in use. Raises SysregError, OSError."""
        self._services.reload(self._settings.token_server.unit)
        if self._own_tls is not None:
            self._own_tls.reload()
        self._services.restart(self._settings.registry.unit)
        self._probe.wait(
            self._der(name),
            seconds=self._settings.agent.probe_timeout,
            with_agent=self._own_tls is not None,
        )

    def _is_live(self, name: str) -> bool:
        try:
            patience = min(_RECOVERY_PATIENCE, self._settings.agent.probe_timeout)
            self._probe.wait(
                self._der(name), seconds=patience, with_agent=self._own_tls is not None, hasty=True
            )
        except (SysregError, OSError):
            return False
        return True

    def _finish(self, name: str) -> None:
        """After a commit: drop the old anchor, keep the history, close the journal."""
        self._run(trust.drop_other_anchors(self._settings, self._anchor(name)))
        self._generations.tidy(HISTORY)
        self._journal.clear()

    def _undo_after(self, reason: Exception, old: str | None, touched: bool) -> SysregError:
        """Undo, and the error that tells how it went; ``touched``: services may have read the new files."""
        failed = f"certificate not installed: {_text(reason)}"
        log.warning("%s; going back", failed)
        try:
            self._go_back(old, touched)
        except (SysregError, OSError) as error:
            return SysregError(
                f"{failed}; the old certificate could not be brought back: {_text(error)}",
                next_step="mend that and restart sysreg-agent, which finishes going back",
            )
        try:
            self._forget_all_but(old)
        except (SysregError, OSError) as error:
            log.warning("tidying up is left for the next change or start of the agent: %s", _text(error))
        return SysregError(
            failed, next_step="the old certificate is still in use; mend the reason and install again"
        )

    def _undo(self, old: str | None) -> None:
        """Switch back to ``old``, live, and forget the rest. Raises SysregError, OSError."""
        self._go_back(old, touched=False)
        self._forget_all_but(old)

    def _go_back(self, old: str | None, touched: bool) -> None:
        if self._generations.current() != old:
            self._generations.go_back(old)
        if old is None or (not touched and self._is_live(old)):
            return
        for attempt in range(1, _UNDO_ATTEMPTS + 1):
            try:
                self._make_live(old)
            except (SysregError, OSError) as error:
                log.warning("attempt %d of %d to go back: %s", attempt, _UNDO_ATTEMPTS, _text(error))
                if self._is_live(old):  # the restart failed, but nothing had changed
                    return
                if attempt == _UNDO_ATTEMPTS:
                    raise
                time.sleep(_UNDO_PAUSE)
            else:
                return

    def _forget_all_but(self, old: str | None) -> None:
        if old is not None:
            self._run(trust.add_anchor(self._settings, self._anchor(old)))
            self._run(trust.drop_other_anchors(self._settings, self._anchor(old)))
        self._generations.tidy(HISTORY)
        self._journal.clear()

    def _run(self, steps: list[trust.Step]) -> None:
        for step in steps:
            step.run()

    def _der(self, name: str) -> list[bytes]:
        chain = read_certificates(self._generations.chain(name))
        return [one.public_bytes(serialization.Encoding.DER) for one in chain]

    def _anchor(self, name: str) -> x509.Certificate:
        return read_certificates(self._generations.chain(name))[-1]


@contextlib.contextmanager
def _no_collection(settings: Settings) -> Iterator[None]:
    """Keep collections from starting meanwhile. Raises Conflict while one runs, even an orphaned one."""
    write_lock = WriteLock(settings.paths.state)
    try:
        issue = write_lock.try_issue()
        if issue is None:
            raise Conflict(
                "certificate not installed: a garbage collection is under way",
                next_step="wait until it is done, or stop it (system registry-garbage-collect --cancel)",
            )
        with issue:
            yield
    finally:
        write_lock.close()


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
