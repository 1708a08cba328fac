"""Whom the machine's clients trust: docker's and containerd's certs.d, and the system's bundle.

docker (https://docs.docker.com/engine/security/certificates/) reads every ``*.crt`` of
``<docker_trust>/<host:port>/``; containerd (docs/hosts.md) reads ``hosts.toml`` there, whose ``ca`` lists
files. Both read anew for every request: nothing is restarted, and an anchor beside another is one file more.

Ours are the files named ``sysreg-<fingerprint>.crt`` and a ``hosts.toml`` that begins with our mark; what an
administrator put there stays as it is. Each step changes one file by one rename, and what is half done
between two steps still works: a file exists before ``hosts.toml`` names it, and goes after that.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sysreg_cli.errors import CertificateRefused, SysregError
from sysreg_cli.host import failpoint, files
from sysreg_cli.host.journal import Journal, JournalDamaged
from sysreg_cli.pki.check import Authority, read_certificates
from sysreg_cli.settings import Settings

_MARK = "# Written by sysreg-agent"
_OURS = re.compile(r"sysreg-[0-9a-f]{32}\.crt")
_COMMAND_TIMEOUT = 120  # seconds; update-ca-certificates takes one or two

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one file, by one rename or unlink; doing it twice is doing it once."""

    name: str
    run: Callable[[], None]


def add_anchor(settings: Settings, anchor: x509.Certificate) -> list[Step]:
    """The steps that make docker and containerd trust ``anchor`` too, beside what they trust now."""
    return [step for place in _places(settings) for step in _add(place, anchor)]


def drop_other_anchors(settings: Settings, keep: x509.Certificate) -> list[Step]:
    """The steps that leave ``keep`` as the only anchor of ours, put there if it was missing."""
    return [step for place in _places(settings) for step in _drop(place, keep)]


def foreign_files(settings: Settings) -> list[Path]:
    """The ``hosts.toml`` files that an administrator wrote: containerd learns of no anchor through them."""
    return [
        place.directory / "hosts.toml"
        for place in _places(settings)
        if place.containerd and not may_write(place.directory / "hosts.toml")
    ]


def install_authorities(settings: Settings, authorities: Sequence[Authority]) -> tuple[Authority, ...]:
    """Add CAs to the system's bundle (mode ``ssl_ca``) and return those that were not there before.

    Raises SysregError, and takes the new files away again, when the bundle could not be rebuilt.
    """
    directory, journal = settings.paths.system_trust, _authorities_journal(settings)
    with contextlib.suppress(OSError, SysregError):
        recover_authorities(settings)
    new = tuple(one for one in authorities if not (directory / anchor_name(one.certificate)).exists())
    try:
        journal.write({anchor_name(one.certificate): "new" for one in new})
        _make_directory(directory)
        for one in new:
            files.write(directory / anchor_name(one.certificate), one.pem, mode=0o644)
        _rebuild_bundle(settings)
    except (OSError, SysregError) as error:
        with contextlib.suppress(OSError, SysregError):
            recover_authorities(settings)
        reason = str(error) if isinstance(error, SysregError) else f"{directory}: {error.strerror}"
        raise SysregError(f"CA certificates not installed: {reason}") from None
    try:
        journal.clear()
    except OSError as error:
        # Installed, but the next start would take them away again: that is not done.
        raise SysregError(f"CA certificates not installed for good: {error.strerror}") from None
    return new


def recover_authorities(settings: Settings) -> None:
    """Take away again what an ``install_authorities`` that died had added. Raises OSError, SysregError."""
    journal = _authorities_journal(settings)
    try:
        record = journal.read()
    except JournalDamaged:
        # Nobody knows which files are new; each is a whole and checked CA, so the bundle is made to agree.
        record = {}
    if record is None:
        return
    for name in filter(_OURS.fullmatch, record):
        files.remove(settings.paths.system_trust / name)
    _rebuild_bundle(settings)
    journal.clear()


def installed_authorities(settings: Settings) -> tuple[x509.Certificate, ...]:
    """The CAs that ``install_authorities`` put into the system's bundle, by serial number."""
    found: list[x509.Certificate] = []
    for path in our_anchors(settings.paths.system_trust):
        with contextlib.suppress(OSError, CertificateRefused):
            found.append(read_certificates(path.read_bytes())[0])
    return tuple(sorted(found, key=lambda certificate: certificate.serial_number))


def anchor_name(certificate: x509.Certificate) -> str:
    """The name of the file that holds ``certificate``, in every directory of ours."""
    return f"sysreg-{certificate.fingerprint(hashes.SHA256()).hex()[:32]}.crt"


@dataclass(frozen=True, slots=True)
class _Place:
    """The directory in which one client keeps its trust in one ``host:port``."""

    directory: Path
    address: str
    containerd: bool

    @property
    def label(self) -> str:
        return f"{'containerd' if self.containerd else 'docker'} {self.address}"


def _places(settings: Settings) -> Iterator[_Place]:
    for address in settings.registry.addresses:
        yield _Place(settings.paths.docker_trust / address, address, containerd=False)
        yield _Place(settings.paths.containerd_trust / address, address, containerd=True)


def _add(place: _Place, anchor: x509.Certificate) -> Iterator[Step]:
    yield from _file(place, anchor)
    path = place.directory / anchor_name(anchor)
    yield from _hosts_toml(place, sorted({*our_anchors(place.directory), path}))


def _drop(place: _Place, keep: x509.Certificate) -> Iterator[Step]:
    path = place.directory / anchor_name(keep)
    yield from _file(place, keep)
    yield from _hosts_toml(place, [path])
    for other in our_anchors(place.directory):
        if other != path:
            yield Step(f"distrust {place.label} {other.name}", partial(files.remove, other))


def _file(place: _Place, anchor: x509.Certificate) -> Iterator[Step]:
    path = place.directory / anchor_name(anchor)
    pem = anchor.public_bytes(serialization.Encoding.PEM)
    if _bytes(path) != pem:
        yield Step(f"trust {place.label}", partial(_write, path, pem))


def _hosts_toml(place: _Place, anchors: Sequence[Path]) -> Iterator[Step]:
    if not place.containerd:
        return
    path = place.directory / "hosts.toml"
    if not may_write(path):
        _log.warning("%s is not ours: let it trust %s by hand", path, ", ".join(map(str, anchors)))
        return
    text = hosts_toml(place.address, anchors).encode()
    if _bytes(path) != text:
        yield Step(f"name {place.label}", partial(_write, path, text))


def hosts_toml(address: str, anchors: Sequence[Path]) -> str:
    """containerd's ``hosts.toml`` for the registry at ``address``; the paths are absolute."""
    # A JSON string is a TOML basic string.
    listed = ", ".join(json.dumps(str(path)) for path in anchors)
    server = json.dumps(f"https://{address}")
    return (
        f"{_MARK}; it writes it anew with every certificate-install.\n"
        f"server = {server}\n\n"
        f"[host.{server}]\n"
        f'  capabilities = ["pull", "resolve", "push"]\n'
        f"  ca = [{listed}]\n"
    )


def _authorities_journal(settings: Settings) -> Journal:
    return Journal(settings.paths.state / "authorities-journal")


def our_anchors(directory: Path) -> list[Path]:
    """The files in ``directory`` that are named as ours are."""
    return [path for path in sorted(directory.glob("sysreg-*.crt")) if _OURS.fullmatch(path.name)]


def may_write(path: Path) -> bool:
    """Whether there is no such file, or one that we wrote; what cannot be read is not ours."""
    data = _bytes(path)
    return data is None or data.startswith(_MARK.encode())


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        return b""


def _write(path: Path, data: bytes) -> None:
    _make_directory(path.parent)
    files.write(path, data, mode=0o644)


def _make_directory(directory: Path) -> None:
    """Make a directory that everybody may read, whatever the umask; anchors are no secret."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    files.flush_directory(directory.parent)


def _rebuild_bundle(settings: Settings) -> None:
    failpoint.reach("rebuild bundle")
    command = shlex.split(settings.paths.system_trust_command)
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_COMMAND_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise SysregError(f"{command[0]} did not end within {_COMMAND_TIMEOUT} s") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).decode(errors="replace").strip().splitlines()[-1:]
        raise SysregError(f"{command[0]} failed with status {error.returncode}: {''.join(last)}") from None
    except (OSError, IndexError) as error:
        raise SysregError(f"{settings.paths.system_trust_command!r} cannot be run: {error}") from None
