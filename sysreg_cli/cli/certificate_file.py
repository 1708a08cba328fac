"""The operator's certificate file: read it, and after the install remove it if it is still the same file.

Root may remove a file below a directory where another user can rename things. Therefore the file's directory
stays open from the reading to the removal, and the file is looked up in it. If somebody exchanges a directory
of the path meanwhile, root removes no other file.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sysreg_cli.errors import SysregError


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """What was read, and from which file. Only ``path`` and ``data`` are set for standard input."""

    path: str
    data: bytes
    max_bytes: int
    status: os.stat_result | None = None
    #: the name in the directory, and the directory's descriptor
    name: str = ""
    directory: int | None = None

    @property
    def holds_key(self) -> bool:
        """Whether the file holds a private key."""
        from sysreg_cli.pki import pem

        return pem.holds_private_key(self.data)

    @property
    def is_encrypted(self) -> bool:
        """Whether the private key needs a passphrase."""
        return b"ENCRYPTED" in self.data

    def reason_to_keep(self) -> str:
        """Return why the command must not remove the file; "" if it may."""
        if self.status is None or not stat.S_ISREG(self.status.st_mode):
            return "it is not a file"
        if stat.S_ISLNK(os.stat(self.name, dir_fd=self.directory, follow_symlinks=False).st_mode):
            return f"it is a link to {os.path.realpath(self.path)}"
        return ""

    def remove(self) -> None:
        """Remove the file if it is still the one that was read. Raises SysregError: what is left, and why."""
        assert self.status is not None
        left = f"the certificate is installed, but {self.path}, which holds its private key, was not removed"
        try:
            now = _read_in(self.directory, self.name, self.path, self.max_bytes, os.O_NOFOLLOW)
            assert now.status is not None
            if not os.path.samestat(now.status, self.status) or now.data != self.data:
                raise SysregError(f"{left}: it has changed meanwhile", next_step="look at it")
            os.unlink(self.name, dir_fd=self.directory)
        except OSError as error:
            raise SysregError(f"{left}: {error.strerror}", next_step="remove it by hand") from None
        if self.status.st_nlink > 1:
            raise SysregError(
                f"the certificate is installed and {self.path} removed, but the file with its private key"
                " has another name (hard link)",
                next_step="remove that by hand",
            )


@contextlib.contextmanager
def opened(path: str, max_bytes: int) -> Iterator[CertificateFile]:
    """Read a certificate file; ``-`` is standard input. The file can be removed until the context ends.

    Raises OSError, and SysregError for more than ``max_bytes``.
    """
    if path == "-":
        data = _read(sys.stdin.buffer, "standard input", max_bytes)
        yield CertificateFile(path, data, max_bytes)
        return
    parent, name = os.path.split(path)
    directory = os.open(parent or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _read_in(directory, name or ".", path, max_bytes)
    finally:
        os.close(directory)


def _read_in(directory: int | None, name: str, path: str, max_bytes: int, flags: int = 0) -> CertificateFile:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=directory)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        data = _read(file, path, max_bytes)
        return CertificateFile(path, data, max_bytes, os.fstat(descriptor), name, directory)


def _read(file: BinaryIO, shown: str, max_bytes: int) -> bytes:
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise SysregError(f"{shown}: certificate refused: it has more than {max_bytes // 1024} KiB")
    return data
