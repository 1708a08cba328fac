"""Image names and tags for bash completion, so that it needs no Python: small files of the user's own.

The list and tags commands write here what they have just shown; ``etc/bash_completion.d/system`` reads it and
must make the same keys and file names. A file holds::

    sysreg-completion 1 <seconds since the epoch>
    <key: registry, settings file, Keystone URL, domain, user, application credential, repository>
    <one name or tag per line>

The directory is ``$XDG_CACHE_HOME/sysreg`` or ``~/.cache/sysreg``, 0700. Under sudo HOME may still be another
user's: a directory of another owner is left alone, and no symbolic link is followed below it. Files appear
by rename. The cache is a convenience: nothing here ever raises, and what can't be written isn't.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sysreg_cli.reference import is_repository, is_tag

# A file of a user who no longer asks is removed by the next write after this many seconds.
_KEEP = 86400
_LONGEST_FILE_NAME = 200
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sees what: the same words are the same list. Values as given, empty where nothing is."""

    registry: str
    settings_file: str
    auth_url: str
    user_domain: str
    user: str
    application_credential: str

    def key(self, repository: str = "") -> str:
        """One line; empty if the values can't make one, and then nothing is cached."""
        fields = (
            self.registry,
            self.settings_file,
            self.auth_url,
            self.user_domain,
            self.user,
            self.application_credential,
            repository,
        )
        key = "|".join(fields)
        return "" if any(character in key for character in "\n\r\0") else key


def remember_names(identity: Identity, names: Iterable[str], environ: Mapping[str, str] = os.environ) -> None:
    """Keep the names of all repositories that this user sees."""
    _write(identity.key(), [name for name in names if is_repository(name)], environ)


def remember_tags(
    identity: Identity, repository: str, tags: Iterable[str], environ: Mapping[str, str] = os.environ
) -> None:
    """Keep the tags of one repository."""
    _write(identity.key(repository), [tag for tag in tags if is_tag(tag)], environ)


def forget_tags(identity: Identity, repository: str, environ: Mapping[str, str] = os.environ) -> None:
    """Drop what is known of a repository's tags, because one of them was deleted."""
    if key := identity.key(repository):
        with contextlib.suppress(OSError), _directory(environ) as directory:
            os.unlink(_file_name(key), dir_fd=directory)


def _file_name(key: str) -> str:
    """The key's end, all but ASCII letters and digits replaced; line 2 of the file decides."""
    return re.sub(rb"[^A-Za-z0-9]", b"_", os.fsencode(key)).decode()[-_LONGEST_FILE_NAME:]


def _write(key: str, words: list[str], environ: Mapping[str, str]) -> None:
    if not key:
        return
    text = "\n".join([f"sysreg-completion 1 {int(time.time())}", key, *sorted(words), ""])
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
    """A descriptor of the cache directory, made if it isn't there. Raises OSError if it isn't all ours."""
    base, below = environ.get("XDG_CACHE_HOME", ""), ["sysreg"]
    if not base.startswith("/"):
        base, below = environ.get("HOME", ""), [".cache", "sysreg"]
    if not base.startswith("/"):
        raise FileNotFoundError(base)
    descriptor = os.open(base, _DIRECTORY_FLAGS)
    try:
        _require_own(descriptor)
        for name in below:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=descriptor)
            inner = os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
            _require_own(descriptor)
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o700)
        yield descriptor
    finally:
        os.close(descriptor)


def _require_own(descriptor: int) -> None:
    if os.fstat(descriptor).st_uid != os.geteuid():
        raise PermissionError("the directory belongs to another user")


def _prune(directory: int) -> None:
    oldest = time.time() - _KEEP
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):
            if os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime < oldest:
                os.unlink(name, dir_fd=directory)
