"""The certificates by which docker and containerd on this host trust the registry.

docker (https://docs.docker.com/engine/security/certificates/) trusts each ``*.crt`` in
``<docker_trust>/<host:port>/``. containerd (docs/hosts.md in its sources) reads ``hosts.toml`` in
``<containerd_trust>/<host:port>/``, whose ``ca`` lists files. Both read them for each request, so nothing is
restarted.

This module manages one file of certificates in each directory, ``sysreg-registry.crt``, and a ``hosts.toml``
that begins with its marker and names that file. It never changes files of the administrator. A change
replaces the file, so clients always find it: a pull fails if a file goes after docker has listed the
directory, or containerd has read ``hosts.toml``, and before they read that file.

Earlier versions had a file for each certificate, ``sysreg-<fingerprint>.crt``. These go with the next change.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sysreg_cli.host import files
from sysreg_cli.settings import Settings

#: holds what docker and containerd are to trust, in each directory of theirs
FILE = "sysreg-registry.crt"
_MARKER = "# Written by sysreg-agent"
_NAME = re.compile(r"sysreg-[0-9a-f]{32}\.crt")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileChange:
    """One rename or unlink. ``apply`` may be called twice; it raises OSError."""

    description: str
    apply: Callable[[], None]


def trust_also(settings: Settings, *anchors: x509.Certificate) -> list[FileChange]:
    """Return the changes after which docker and containerd trust ``anchors`` beside what they trust now."""
    return list(_changes(settings, anchors, only=False))


def trust_only(settings: Settings, *anchors: x509.Certificate) -> list[FileChange]:
    """Return the changes after which ``anchors`` are the only managed ones of docker and containerd."""
    return list(_changes(settings, anchors, only=True))


def _changes(settings: Settings, anchors: Sequence[x509.Certificate], *, only: bool) -> Iterator[FileChange]:
    pems = {anchor.public_bytes(serialization.Encoding.PEM) for anchor in anchors}
    for address in settings.registry.addresses:
        for client, directory in (
            ("docker", settings.paths.docker_trust / address),
            ("containerd", settings.paths.containerd_trust / address),
        ):
            path = directory / FILE
            present = _pems(path)
            older = [other for other in managed_anchors(directory) if other != path]
            wanted = pems if only else pems | present
            text = b"".join(sorted(wanted))
            if _read(path) != text:
                alone = " alone" if present - wanted else ""
                yield FileChange(
                    f"have {client} trust the certificate of {address}{alone}", partial(_write, path, text)
                )
            if client == "containerd":
                yield from _list_anchors(address, directory, [path, *(() if only else older)])
            for other in older if only else ():
                yield FileChange(
                    f"remove {other.name}, which {client} trusts for {address}", partial(files.remove, other)
                )


def _pems(path: Path) -> set[bytes]:
    """Return the certificates in a file; none if it cannot be read or is damaged."""
    try:
        found = x509.load_pem_x509_certificates(_read(path) or b"")
    except ValueError:
        return set()
    return {certificate.public_bytes(serialization.Encoding.PEM) for certificate in found}


def _list_anchors(address: str, directory: Path, anchors: Sequence[Path]) -> Iterator[FileChange]:
    """Have ``hosts.toml`` list ``anchors``, if it is managed."""
    path = directory / "hosts.toml"
    if is_foreign(path):
        _log.warning("%s is not from sysreg: have it trust %s", path, ", ".join(map(str, anchors)))
        return
    text = hosts_toml(address, anchors).encode()
    if _read(path) != text:
        yield FileChange(
            f"list the trusted certificates of {address} in hosts.toml of containerd",
            partial(_write, path, text),
        )


def hosts_toml(address: str, anchors: Sequence[Path]) -> str:
    """Return containerd's ``hosts.toml`` for the registry at ``address``. The paths are absolute."""
    listed = ", ".join(json.dumps(str(path)) for path in anchors)  # a JSON string is a TOML basic string
    server = json.dumps(f"https://{address}")
    return (
        f"{_MARKER}; it writes it anew with every certificate-install.\n"
        f"server = {server}\n\n"
        f"[host.{server}]\n"
        f'  capabilities = ["pull", "resolve", "push"]\n'
        f"  ca = [{listed}]\n"
    )


def anchor_name(certificate: x509.Certificate) -> str:
    """Return the name of the file that holds ``certificate`` in the system's directory."""
    return f"sysreg-{certificate.fingerprint(hashes.SHA256()).hex()[:32]}.crt"


def is_anchor_name(name: str) -> bool:
    """Whether ``anchor_name`` returns such names."""
    return _NAME.fullmatch(name) is not None


def managed_anchors(directory: Path) -> list[Path]:
    """Return the files of certificates in ``directory`` that sysreg has written."""
    paths = sorted(directory.glob("sysreg-*.crt"))
    return [path for path in paths if path.name == FILE or is_anchor_name(path.name)]


def foreign_files(settings: Settings) -> list[Path]:
    """Return the ``hosts.toml`` of the administrator. Through them, containerd trusts no managed anchor."""
    directories = [settings.paths.containerd_trust / address for address in settings.registry.addresses]
    return [directory / "hosts.toml" for directory in directories if is_foreign(directory / "hosts.toml")]


def is_foreign(hosts_toml: Path) -> bool:
    """Whether there is a ``hosts.toml`` without the marker, or one that cannot be read."""
    data = _read(hosts_toml)
    return data is not None and not data.startswith(_MARKER.encode())


def _read(path: Path) -> bytes | None:
    """Return the content of a file; None if there is no file, b"" if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        return b""


def _write(path: Path, data: bytes) -> None:
    make_public_directory(path.parent)
    files.write(path, data, mode=0o644)


def make_public_directory(directory: Path) -> None:
    """Create ``directory`` and its parents with mode 0755 whatever the umask is. Raises OSError."""
    if directory.is_dir():
        return
    make_public_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    files.flush_directory(directory.parent)
