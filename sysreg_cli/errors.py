"""Every error that sysreg raises on purpose, as one tree.

    SysregError                  exit 1, HTTP 500   something failed
    +-- UsageError               exit 2, HTTP 400   the caller's words are wrong; nothing was tried
    |   `-- InvalidReference     exit 2, HTTP 400   not an image reference
    +-- SettingsError            exit 1, HTTP 500   sysreg.conf is wrong; every problem is in .problems
    +-- CredentialsMissing       exit 1, HTTP 401   no user, password or token was given
    +-- NotAuthenticated         exit 1, HTTP 401   the credentials were refused
    +-- NotAuthorized            exit 1, HTTP 403   known, but not allowed
    +-- NotFound                 exit 1, HTTP 404   no such repository, tag, digest or certificate
    +-- NotSupported             exit 1, HTTP 405   the other side can't do that (read-only, delete disabled)
    +-- Conflict                 exit 1, HTTP 409   something else is under way
    +-- TooManyRequests          exit 1, HTTP 429   the other side asks to slow down
    +-- ProtocolError            exit 1, HTTP 502   the other side's answer makes no sense
    +-- Unavailable              exit 1, HTTP 503   no answer: refused, DNS, TLS, timeout, 5xx
    |   +-- CertificateNotTrusted                   TLS: the other side's certificate is not acceptable
    |   `-- NotStored                               the other side could not write: its disk may be full
    `-- CertificateRefused       exit 1, HTTP 400   a certificate is not fit to be installed; see .problems

A message is one line: what failed, on which object, why. ``next_step`` says what to do about it. Neither
ever holds a secret: both are shown to users and written to logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "CertificateNotTrusted",
    "CertificateRefused",
    "Conflict",
    "CredentialsMissing",
    "InvalidReference",
    "NotAuthenticated",
    "NotAuthorized",
    "NotFound",
    "NotStored",
    "NotSupported",
    "ProtocolError",
    "SettingsError",
    "SysregError",
    "TooManyRequests",
    "Unavailable",
    "UsageError",
]


class SysregError(Exception):
    """Something failed, and the message says what, on which object and why."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}; {self.next_step}" if self.next_step else self.message


class UsageError(SysregError):
    """The caller's words are wrong; nothing was tried."""

    exit_code = 2
    http_status = 400


class InvalidReference(UsageError):
    """Not an image reference (distribution's reference grammar)."""


class _Problems(SysregError):
    """An error with several reasons: all that were found, so that one round of mending is enough."""

    def __init__(self, message: str, problems: Sequence[str], *, next_step: str = "") -> None:
        super().__init__(f"{message}: {'; '.join(problems)}", next_step=next_step)
        self.problems = tuple(problems)


class SettingsError(_Problems):
    """The settings file is wrong; ``problems`` holds each with file and line."""


class CredentialsMissing(SysregError):
    """No credentials were given; the message names the option and the variable."""

    http_status = 401


class NotAuthenticated(SysregError):
    """The credentials were refused."""

    http_status = 401


class NotAuthorized(SysregError):
    """The caller is known, but may not do this."""

    http_status = 403


class NotFound(SysregError):
    """There is no such repository, tag, digest or certificate."""

    http_status = 404


class NotSupported(SysregError):
    """The other side can't do that: read-only, or deletes disabled."""

    http_status = 405


class Conflict(SysregError):
    """Something else is under way that excludes this."""

    http_status = 409


class TooManyRequests(SysregError):
    """The other side asks to slow down."""

    http_status = 429


class ProtocolError(SysregError):
    """The other side's answer makes no sense: not a registry, not an agent, cut short."""

    http_status = 502


class Unavailable(SysregError):
    """No usable answer: connection refused, name not found, TLS failed, timeout, or a 5xx."""

    http_status = 503


class CertificateNotTrusted(Unavailable):
    """The other side's certificate is not acceptable: unknown issuer, wrong name, expired."""


class NotStored(Unavailable):
    """The registry answered a write with 500, as it does when its storage takes nothing more."""


class CertificateRefused(_Problems):
    """A certificate is not fit to be installed; ``problems`` holds every reason found."""

    http_status = 400
