"""Renews the registry's certificate: from the source of the settings, and a self-signed one of sysreg's.

What the source holds goes through the checks and the transaction of ``certificate-install``. Nothing is
installed that the command would refuse. While a reading is refused, the certificate in use stays.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sysreg_cli.agent import audit
from sysreg_cli.agent.certificate.installer import CertificateInstaller, Material
from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.agent.renewal.directory import FollowedDirectory
from sysreg_cli.agent.renewal.readings import Reading, Readings, Source
from sysreg_cli.agent.renewal.record import SourceRecord, now
from sysreg_cli.agent.renewal.secret import FollowedSecret
from sysreg_cli.errors import CertificateRefused, Conflict, SysregError, text_of
from sysreg_cli.host import anchors
from sysreg_cli.host.generations import Generations
from sysreg_cli.pki.check import ServerChain
from sysreg_cli.pki.selfsigned import lacks_a_name, renewal_time, self_signed
from sysreg_cli.settings import CertificateSettings, DirectorySource, Settings

log = logging.getLogger("sysreg.agent")

#: between two looks at a self-signed certificate
_LOOK_SECONDS = 3600.0
#: a self-signed certificate is renewed so long before anything warns of its end
_AHEAD = timedelta(days=1)
#: how long an install waits for a collection or another change
_INSTALL_WAIT = 240.0
#: a renewal is followed by others within this time only if the source is in disorder
_SETTLED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of following a source, in seconds.

    A directory is looked at every ``poll`` seconds, which is also the pause between two watches of a secret
    and after a first failure. A source counts after ``rest`` seconds without a change,
    and soon after a renewal after ``long_rest``: each renewal restarts the registry, and a source that
    changes all the time is to restart it once. An install that had to give way is tried again after
    ``retry`` seconds. A self-signed certificate is looked at ``first_look`` seconds after the start.
    """

    poll: float = 1.0
    rest: float = 2.0
    long_rest: float = 30.0
    retry: float = 60.0
    first_look: float = 10.0


def source_of(settings: CertificateSettings, pace: Pace) -> Source | None:
    """Return the source that the settings name; None without one."""
    if settings.source is None:
        return None
    if isinstance(settings.source, DirectorySource):
        return FollowedDirectory(settings.source, poll_seconds=pace.poll)
    return FollowedSecret(settings.source, settings.kubeconfig, pause=pace.poll)


class Renewal:
    """Two threads: one follows the source, the other checks and installs what it holds."""

    def __init__(
        self, settings: Settings, change: CertificateChange, source: Source | None, pace: Pace
    ) -> None:
        self._settings = settings
        self._installer = CertificateInstaller(settings, change)
        self._source = source
        self._pace = pace
        self._readings = Readings()
        self._stopping = threading.Event()
        self._generations = Generations(settings.certificate.directory)
        #: what is known about the source; a new value replaces it, so any thread may read it
        self.record = SourceRecord.load(settings.paths.state, str(source or ""))
        self._installed_at = -_SETTLED_SECONDS
        self._postponed: Reading | None = None
        self._thread = threading.Thread(target=self._run, name="renewal")

    def start(self) -> None:
        """Start both threads."""
        if self._source is not None:
            # It may be blocked in a read when the agent ends. It changes nothing, so it may be cut off.
            threading.Thread(
                target=self._follow, args=(self._source,), name="certificate source", daemon=True
            ).start()
        self._thread.start()

    def stop(self) -> None:
        """Have the threads end. An install that has begun goes on to its end."""
        self._stopping.set()
        self._readings.close()

    def join(self) -> None:
        """Wait until an install that has begun has ended. Call ``stop`` before."""
        self._thread.join()

    def _follow(self, source: Source) -> None:
        while not self._stopping.is_set():
            try:
                source.follow(self._readings.report, self._stopping)
            except Exception:
                log.exception("%s: unexpected error", source)
                self._readings.report(Reading(problem="internal error of sysreg-agent; see its journal"))
                self._stopping.wait(self._pace.retry)

    def _run(self) -> None:
        timeout = self._pace.first_look
        while not self._stopping.is_set():
            soon = time.monotonic() < self._installed_at + _SETTLED_SECONDS
            reading = self._readings.take(
                rest=self._pace.long_rest if soon else self._pace.rest, timeout=timeout
            )
            if self._stopping.is_set():
                return
            reading, self._postponed = reading or self._postponed, None
            try:
                if reading is not None:
                    self._consider(reading)
                self._renew_own()
            except Exception:
                log.exception("renewing the certificate: unexpected error")
            timeout = self._pace.retry if self._postponed is not None else _LOOK_SECONDS

    # -- the source ------------------------------------------------------------------------------------

    def _consider(self, reading: Reading) -> None:
        """Install what the source holds, if it is new and passes the checks. Record what came of it."""
        moment = now()
        seen = self.record.seen if reading.problem else moment.isoformat(timespec="seconds")
        try:
            digest = self._follow_up(reading, moment)
        except (SysregError, OSError) as error:
            if self._stopping.is_set():
                return
            if isinstance(error, Conflict):
                self._postponed = reading
            problem = text_of(error)
            self._save(replace(self.record, problem=problem, seen=seen))
            self._say(f"{self._source}: {problem}")
        else:
            self._save(replace(self.record, problem="", installed=digest, seen=seen))

    def _follow_up(self, reading: Reading, moment: datetime) -> str:
        """Have the certificate of ``reading`` in use. Return the digest of its chain.

        Raises SysregError, OSError.
        """
        if reading.problem:
            raise SysregError(reading.problem)
        chain = self._checked(reading, moment)
        digest = hashlib.sha256(chain.chain_pem).hexdigest()
        if chain.chain_pem == self._chain_in_use():
            return digest
        if digest == self.record.installed and not self._ends_before(moment):
            # the operator's word counts until the source has something new
            raise SysregError(
                "another certificate was installed after that of the source",
                next_step="the next one of the source replaces it",
            )
        self._install(chain, str(self._source))
        self._installed_at = time.monotonic()
        return digest

    def _checked(self, reading: Reading, moment: datetime) -> ServerChain:
        """Return the first candidate that passes. Raises CertificateRefused with the reasons of the last."""
        for candidate in reading.candidates[:-1]:
            with suppress(CertificateRefused):
                return self._check(candidate, moment)
        return self._check(reading.candidates[-1], moment)

    def _check(self, pem: bytes, moment: datetime) -> ServerChain:
        checked = self._installer.check(Material(pem), now=moment)
        assert isinstance(checked, ServerChain)
        return checked

    def _chain_in_use(self) -> bytes:
        try:
            return self._settings.certificate.chain.read_bytes()
        except OSError:
            return b""

    def _ends_before(self, moment: datetime) -> bool:
        """Whether the certificate in use has ended, or cannot be read."""
        try:
            name = self._generations.current()
            return not name or self._generations.certificates(name)[0].not_valid_after_utc <= moment
        except (SysregError, OSError):
            return True

    # -- a self-signed certificate of sysreg's ---------------------------------------------------------

    def _renew_own(self) -> None:
        """Replace the certificate in use if sysreg made it and it ends soon.

        In a cluster, also if it is self-signed and lacks a name of the settings: sysreg-deploy leaves that to
        the agent, because hosts have to trust another one before the registry presents it.
        """
        moment, settings = now(), self._settings
        names, days = settings.registry.host_names, settings.certificate.min_days_warning
        try:
            used = self._generations.current()
            chain_in_use = self._generations.certificates(used) if used else ()
            due = renewal_time(chain_in_use, names, min_days=days)
            lacks = bool(settings.cluster.endpoints) and lacks_a_name(chain_in_use, names)
            if not lacks and (due is None or moment < due - _AHEAD):
                return
            chain = self._check(b"".join(self_signed(names, now=moment)), moment)
            self._install(chain, "self-signed", instead_of=used)
        except (SysregError, OSError) as error:
            if not self._stopping.is_set():
                self._say(f"the self-signed certificate was not renewed: {text_of(error)}")
            return
        place = settings.paths.docker_trust / settings.registry.address / anchors.FILE
        log.warning("the self-signed certificate was renewed: other nodes have to trust %s", place)

    # -- both ------------------------------------------------------------------------------------------

    def _install(self, chain: ServerChain, origin: str, *, instead_of: str | None = None) -> None:
        """Make ``chain`` the live certificate, and write an audit line. Raises SysregError, OSError."""
        begun = time.monotonic()
        subject, by = f"docker_registry_{chain.certificates[0].serial_number}", f"sysreg-agent ({origin})"
        outcome = "done"
        try:
            installed = self._installer.install(chain, by=by, wait=_INSTALL_WAIT, instead_of=instead_of)
        except (SysregError, OSError) as error:
            outcome = f"failed: {text_of(error)}"
            raise
        finally:
            audit.write("certificate install", subject, by, outcome, time.monotonic() - begun)
        for warning in installed[0].warnings:
            log.warning("%s", warning)

    def _say(self, problem: str) -> None:
        """Write ``problem`` to the journal, unless it was written there within a day."""
        moment = now()
        if self.record.is_due(problem, moment):
            log.warning("%s", problem)
            self._save(self.record.after_saying(problem, moment))

    def _save(self, record: SourceRecord) -> None:
        self.record = record
        try:
            record.save(self._settings.paths.state)
        except OSError as error:
            log.warning("what is known about the source of the certificate is not kept: %s", text_of(error))
