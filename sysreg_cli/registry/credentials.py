"""The caller's credentials, and the header that carries them to the token server."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RegistryCredentials:
    """A Keystone token, or a name with a password (or an application credential's id with its secret)."""

    name: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def headers(self) -> dict[str, str]:
        """Return X-Auth-Token, or Basic (RFC 7617, UTF-8)."""
        if self.token:
            return {"X-Auth-Token": self.token}
        pair = f"{self.name}:{self.password}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode()}
