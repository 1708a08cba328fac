"""Every error that sysreg raises on purpose, as one tree.

    SysregError                  exit 1, HTTP 500
    +-- UsageError               exit 2, HTTP 400
    |   `-- InvalidReference     exit 2, HTTP 400
    +-- SettingsError            exit 1, HTTP 500
    +-- CredentialsMissing       exit 1, HTTP 401
    +-- NotAuthenticated         exit 1, HTTP 401
    +-- NotAuthorized            exit 1, HTTP 403
    +-- NotFound                 exit 1, HTTP 404
    +-- NotSupported             exit 1, HTTP 405
    +-- Conflict                 exit 1, HTTP 409
    |   `-- Changed
    +-- TooManyRequests          exit 1, HTTP 429
    +-- ProtocolError            exit 1, HTTP 502
    +-- Unavailable              exit 1, HTTP 503
    |   +-- CertificateNotTrusted
    |   +-- NotStored
    |   +-- OutcomeUnknown
    |   `-- Compacted
    `-- CertificateRefused       exit 1, HTTP 400

A message is one line: what failed, on which object, why. ``next_step`` says what to do about it. Neither
holds a secret, because both are shown to users and written to logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class SysregError(Exception):
    """Something failed. The message says what, on which object and why."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}; {self.next_step}" if self.next_step else self.message


class UsageError(SysregError):
    """The command line or the request is wrong. Nothing was tried."""

    exit_code = 2
    http_status = 400


class InvalidReference(UsageError):
    """The text is not an image reference."""


class _Problems(SysregError):
    """An error with several reasons. It reports them all at once, so that one correction is enough."""

    def __init__(self, message: str, problems: Sequence[str], *, next_step: str = "") -> None:
        super().__init__(f"{message}: {'; '.join(problems)}", next_step=next_step)
        self.problems = tuple(problems)


class SettingsError(_Problems):
    """The settings file is wrong. ``problems`` name file and line."""


class CredentialsMissing(SysregError):
    """No user, password or token was given. The message names the option and the variable."""

    http_status = 401


class NotAuthenticated(SysregError):
    """The other side refused the credentials."""

    http_status = 401


class NotAuthorized(SysregError):
    """The other side knows the caller, but does not allow this."""

    http_status = 403


class NotFound(SysregError):
    """The repository, tag, digest or certificate does not exist."""

    http_status = 404


class NotSupported(SysregError):
    """The other side cannot do that: it is read-only, or deletes are disabled."""

    http_status = 405


class Conflict(SysregError):
    """The state of the object, or another operation, excludes this."""

    http_status = 409


class Changed(Conflict):
    """Somebody else wrote to the shared store since it was read. This transaction wrote nothing."""


class TooManyRequests(SysregError):
    """The other side asks to slow down."""

    http_status = 429


class ProtocolError(SysregError):
    """The response makes no sense: it is cut short, or not from a registry or an agent."""

    http_status = 502


class Unavailable(SysregError):
    """No usable response: connection refused, name not found, TLS failed, timeout, or a status 5xx."""

    http_status = 503


class CertificateNotTrusted(Unavailable):
    """The other side's certificate is not acceptable: unknown issuer, wrong name, expired."""


class TagsLeft(Unavailable):
    """The registry deleted a manifest, but not its tags, because it cannot read another tag."""


class NotStored(Unavailable):
    """The registry answered a write with 500, as it does when its disk is full."""


class OutcomeUnknown(Unavailable):
    """The answer to a transaction was lost. It may be done, and it may still be done later."""


class Compacted(Unavailable):
    """The shared store has forgotten the changes since that revision. The list has to be read again."""


class CertificateRefused(_Problems):
    """A certificate is not fit to be installed. ``problems`` holds every reason."""

    http_status = 400


def text_of(error: Exception) -> str:
    """Return the text of an error for messages. That of an OSError is ``path: reason``."""
    if not isinstance(error, OSError):
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)


#: The error that the HTTP status of a response stands for.
BY_STATUS: Mapping[int, type[SysregError]] = {
    kind.http_status: kind
    for kind in (
        NotAuthenticated,
        NotAuthorized,
        NotFound,
        NotSupported,
        Conflict,
        TooManyRequests,
        ProtocolError,
        Unavailable,
    )
}
