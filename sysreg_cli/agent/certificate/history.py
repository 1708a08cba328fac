"""Which certificates were installed, when, and by whom: certificate-list --history.

A kept generation has its own record (see Generations). The file ``certificate-history`` has a record of each
CA certificate that was installed, and of each generation that is not kept any more. The records are for
people alone: which certificate is in use never depends on them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from sysreg_cli.errors import CertificateRefused, ProtocolError, text_of
from sysreg_cli.host import files
from sysreg_cli.host.generations import Generations, Origin
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.describe import describe
from sysreg_cli.settings import Settings
from sysreg_cli.v1 import wire
from sysreg_cli.v1.certificates import HistoryEntry, HistoryState, Mode

log = logging.getLogger("sysreg.agent")

#: Readers ignore fields that they do not know, and writers keep them. A new meaning needs a new number.
_FORMAT = 1
#: how many records the file keeps
_MAX_RECORDS = 1000


class History:
    """The history of one controller. A record that cannot be written is logged, and no error."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.paths.state / "certificate-history"
        self._generations = Generations(settings.certificate.directory)
        self._bundle = SystemBundle(settings.paths)

    def entries(self, now: datetime) -> list[HistoryEntry]:
        """Return every install, the oldest first. Raises OSError."""
        trusted = {describe(one, Mode.SSL_CA).uuid: one for one in self._bundle.installed()}
        recorded: list[HistoryEntry] = []
        # a CA certificate may have been removed and installed again: the newest record is the one in use
        for entry in reversed(list(self._recorded())):
            in_use = trusted.pop(entry.uuid, None) is not None
            state = HistoryState.IN_USE if in_use else HistoryState.REMOVED
            recorded.insert(0, replace(entry, state=state))
        entries = [*map(self._unrecorded, trusted.values()), *recorded, *self._kept(now)]
        return sorted(entries, key=lambda entry: entry.installed_at)

    def add_authorities(self, certificates: Iterable[x509.Certificate], *, by: str) -> None:
        """Record CA certificates that ``by`` has just installed."""
        origin = Origin(datetime.now(UTC).replace(microsecond=0), by)
        self._add(_entry(certificate, Mode.SSL_CA, origin) for certificate in certificates)

    def add_outdated(self) -> None:
        """Record the generations that ``Generations.prune`` is about to remove."""
        entries = []
        for name in self._generations.outdated():
            try:
                entries.append(self._entry_of(name))
            except (OSError, CertificateRefused) as error:
                log.warning("no history of certificate generation %s: %s", name, text_of(error))
        self._add(entries)

    def _unrecorded(self, authority: x509.Certificate) -> HistoryEntry:
        """Return the entry of a CA certificate that has no record. Its file tells when it was installed."""
        when = datetime.fromtimestamp(int(self._bundle.path(authority).stat().st_mtime), UTC)
        return replace(_entry(authority, Mode.SSL_CA, Origin(when, "")), state=HistoryState.IN_USE)

    def _kept(self, now: datetime) -> Iterator[HistoryEntry]:
        """Yield the generation in use and those before it."""
        current = self._generations.current()
        for name in [*self._generations.before(current), current] if current else ():
            try:
                entry = self._entry_of(name)
                end = self._generations.certificates(name)[0].not_valid_after_utc
            except (OSError, CertificateRefused):
                continue  # it is damaged, so nothing can be said about it
            state = HistoryState.EXPIRED if end < now else HistoryState.KEPT
            yield replace(entry, state=HistoryState.IN_USE if name == current else state)

    def _entry_of(self, name: str) -> HistoryEntry:
        """Return the entry of a generation. Raises OSError, CertificateRefused."""
        certificate = self._generations.certificates(name)[0]
        return _entry(certificate, Mode.DOCKER_REGISTRY, self._generations.origin(name))

    def _recorded(self) -> Iterator[HistoryEntry]:
        for record in self._read() or ():
            try:
                yield wire.from_json(HistoryEntry, record, str(self._path))
            except ProtocolError as error:
                log.warning("%s", error)

    def _add(self, entries: Iterable[HistoryEntry]) -> None:
        new = [wire.to_json(entry) for entry in entries]
        records = self._read()
        if not new or records is None:
            return
        text = json.dumps({"format": _FORMAT, "records": [*records, *new][-_MAX_RECORDS:]})
        try:
            files.write(self._path, text.encode(), mode=0o600)
        except OSError as error:
            log.warning("the history of certificates lacks an entry: %s", text_of(error))

    def _read(self) -> list[Any] | None:
        """Return the records as they were written; None if another version wrote the file, which then stays.

        A damaged file counts as empty.
        """
        try:
            document = json.loads(self._path.read_bytes())
            if document["format"] != _FORMAT:
                log.warning("%s is in the format %s of another version", self._path, document["format"])
                return None
            return list(document["records"])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s cannot be read: %s", self._path, error)
            return []


def _entry(certificate: x509.Certificate, mode: Mode, origin: Origin) -> HistoryEntry:
    shown = describe(certificate, mode)
    return HistoryEntry(
        uuid=shown.uuid,
        name=shown.name,
        serial=str(certificate.serial_number),
        installed_at=str(origin.installed_at),
        installed_by=origin.installed_by,
        expiry_date=shown.expiry_date,
    )
