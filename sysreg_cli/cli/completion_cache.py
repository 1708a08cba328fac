"""Image names and tags for bash completion, so that it needs no Python: small files in the user's home.

The list and tags commands write what they have shown, and ``etc/bash_completion.d/system`` reads it. A file
has these lines::

    sysreg-completion 1 <seconds since the epoch>
    <key: registry, settings file, Keystone URL, domain, user, application credential, repository>
    <one name or tag per line>

The directory is ``$XDG_CACHE_HOME/sysreg`` or ``~/.cache/sysreg``, 0700. Under sudo HOME may be another
user's, so a directory of another owner is left alone, and no symbolic link below it is followed. Files appear
by rename. Nothing here raises: what cannot be written is not written.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sysreg_cli.reference import is_repository, is_tag

# tools/write_reference.py writes these three into the bash completion
HEADER = "sysreg-completion 1"
MAX_FILE_NAME = 200
#: the variables from which the bash completion takes the fields of CacheOwner
KEY_VARIABLES = (
    *("SYSREG_REGISTRY", "SYSREG_CONF", "OS_AUTH_URL", "OS_USER_DOMAIN_NAME", "OS_USERNAME"),
    "OS_APPLICATION_CREDENTIAL_ID",
)
# seconds after which the next write removes a file
_KEEP = 86400
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class CacheOwner(NamedTuple):
    """Who may see a list: equal values see equal lists. A value that is not set is ""."""

    registry: str
    settings_file: str
    auth_url: str
    user_domain: str
    user: str
    application_credential: str

    def key(self, repository: str = "") -> str:
        """Return the key of a list, one line. "" if the values cannot make one; then nothing is cached."""
        key = "|".join((*self, repository))
        return "" if any(character in key for character in "\n\r\0") else key


def remember_names(owner: CacheOwner, names: Iterable[str], environ: Mapping[str, str] = os.environ) -> None:
    """Keep the names of all repositories that this user sees."""
    _write(owner.key(), [name for name in names if is_repository(name)], environ)


def remember_tags(
    owner: CacheOwner, repository: str, tags: Iterable[str], environ: Mapping[str, str] = os.environ
) -> None:
    """Keep the tags of one repository."""
    _write(owner.key(repository), [tag for tag in tags if is_tag(tag)], environ)


def forget_tags(owner: CacheOwner, repository: str, environ: Mapping[str, str] = os.environ) -> None:
    """Remove the tags of one repository, because one of them was deleted."""
    if key := owner.key(repository):
        with contextlib.suppress(OSError), _directory(environ) as directory:
            os.unlink(_file_name(key), dir_fd=directory)


def _file_name(key: str) -> str:
    """Return the end of the key, with all but ASCII letters and digits replaced. Two keys may share it."""
    return re.sub(rb"[^A-Za-z0-9]", b"_", os.fsencode(key)).decode()[-MAX_FILE_NAME:]


def _write(key: str, entries: list[str], environ: Mapping[str, str]) -> None:
    if not key:
        return
    text = "\n".join([f"{HEADER} {int(time.time())}", key, *sorted(entries), ""])
    with contextlib.suppress(OSError), _directory(environ) as directory:
        _prune(directory)
        temporary = f".{os.getpid()}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(os.fsencode(text))
            os.rename(temporary, _file_name(key), src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            os.unlink(temporary, dir_fd=directory)
            raise


@contextlib.contextmanager
def _directory(environ: Mapping[str, str]) -> Iterator[int]:
    """Yield a descriptor of the cache directory; make the directory if it is missing.

    Raises OSError, also if a part of the path belongs to another user.
    """
    base, below = environ.get("XDG_CACHE_HOME", ""), ["sysreg"]
    if not base.startswith("/"):
        base, below = environ.get("HOME", ""), [".cache", "sysreg"]
    if not base.startswith("/"):
        raise FileNotFoundError(base)
    descriptor = os.open(base, _DIRECTORY_FLAGS)
    try:
        _require_owner(descriptor)
        for name in below:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=descriptor)
            inner = os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
            _require_owner(descriptor)
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o700)
        yield descriptor
    finally:
        os.close(descriptor)


def _require_owner(descriptor: int) -> None:
    if os.fstat(descriptor).st_uid != os.geteuid():
        raise PermissionError("the directory belongs to another user")


def _prune(directory: int) -> None:
    oldest = time.time() - _KEEP
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):
            if os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime < oldest:
                os.unlink(name, dir_fd=directory)
