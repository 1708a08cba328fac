"""Parses the credentials of a request. Nothing has verified them yet."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Literal

from sysreg_cli.errors import NotAuthenticated, UsageError

Kind = Literal["password", "application_credential", "token"]

_APPLICATION_CREDENTIAL = re.compile(r"[0-9a-f]{32}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Keystone's own limits.
_MAX_NAME = 255
_MAX_SECRET = 4096


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a secret. The name of a token is empty. The secret never appears in messages or logs."""

    kind: Kind
    name: str
    secret: str = field(repr=False)


def from_pair(name: str, secret: str) -> Credentials:
    """Return the credentials. A name of 32 hexadecimal digits is always an application credential's id.

    Raises NotAuthenticated if either is missing or longer than Keystone allows, UsageError for control
    characters.
    """
    if not name or not secret:
        raise NotAuthenticated("user name or password is missing")
    if _CONTROL.search(name) or "\0" in secret:
        raise UsageError("the user name or the password holds control characters")
    if len(name) > _MAX_NAME or len(secret) > _MAX_SECRET:
        raise NotAuthenticated("the user name or the password is longer than Keystone allows")
    kind: Kind = "application_credential" if _APPLICATION_CREDENTIAL.fullmatch(name) else "password"
    return Credentials(kind, name, secret)


def from_token(token: str) -> Credentials:
    """Return the credentials for a Keystone token. Raises NotAuthenticated if it can't be one."""
    if not _TOKEN.fullmatch(token):
        raise NotAuthenticated("X-Auth-Token is not a Keystone token")
    return Credentials("token", "", token)


def from_headers(authorization: str | None, auth_token: str | None) -> Credentials:
    """Return the credentials of a GET: ``Authorization: Basic``, or else ``X-Auth-Token``.

    Raises NotAuthenticated if there are none, UsageError if the header is malformed.
    """
    if authorization is None:
        if auth_token is None:
            raise NotAuthenticated("no credentials were sent", next_step="log in with a Keystone user")
        return from_token(auth_token)
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise NotAuthenticated("only Basic authentication is understood here")
    try:
        pair = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise UsageError("the Authorization header is not Basic with base64 of UTF-8") from None
    name, colon, secret = pair.partition(":")
    if not colon:
        raise UsageError("the Authorization header holds no colon between user name and password")
    return from_pair(name, secret)
