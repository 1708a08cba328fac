"""A server certificate that can be replaced while the daemon runs.

``SSLContext.load_cert_chain`` on the context in use isn't enough. OpenSSL keeps one certificate for each type
of key in a context. After a change from ECDSA to RSA it still presents the old ECDSA certificate (measured).
Therefore the context that listens hands each handshake on to the context that was loaded last.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from sysreg_cli.errors import SettingsError
from sysreg_cli.settings import CertificateSettings


class ServerTLS:
    """Presents the chain in ``certificate``. Raises OSError (ssl.SSLError) for files it can't use."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._active = self._load()
        #: the context to listen with
        self.context = self._load()
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Read the files again for later handshakes. On an OSError the old certificate stays in use."""
        self._active = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # without a password OpenSSL would ask the terminal for that of an encrypted key
        context.load_cert_chain(self._certificate, self._key, password="")
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _listening: ssl.SSLContext) -> None:
        # OpenSSL calls this for clients that send no server name, too
        connection.context = self._active


def load_server_tls(settings: CertificateSettings) -> ServerTLS:
    """Load the certificate in use. Raises SettingsError."""
    try:
        return ServerTLS(settings.chain, settings.key)
    except OSError as error:
        raise SettingsError(
            "no TLS certificate",
            [f"{settings.chain}, {settings.key}: {error.strerror or error}"],
            next_step="run sysreg-deploy",
        ) from None
