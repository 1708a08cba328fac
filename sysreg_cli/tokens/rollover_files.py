"""The files of a rollover of the token-signing key. ``deploy/rollover.py`` says what they tell."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sysreg_cli.settings import Settings


class RolloverFiles(NamedTuple):
    """The files of a rollover of the token-signing key, which are beside the pair in use."""

    #: the next key, until one rename puts it in use
    next_key: Path
    next_certificate: Path
    #: the certificate of the old key, until the last token signed with that key has expired
    retired_certificate: Path

    @classmethod
    def of(cls, settings: Settings) -> RolloverFiles:
        key, certificate = settings.token_server.signing_key, settings.token_server.signing_certificate
        names = ("next.crt", "retired.crt")
        return cls(key.with_name("next.key"), *(certificate.with_name(name) for name in names))

    @property
    def present(self) -> list[Path]:
        """Those that exist: the rollover has not ended."""
        return [path for path in self if path.exists()]
