"""TLS for both daemons: a server's certificate that can be replaced while it runs, and whom to trust.

``SSLContext.load_cert_chain`` on the context in use isn't enough: OpenSSL keeps one certificate per key type
in a context, so after a change from ECDSA to RSA it goes on presenting the old ECDSA one (measured).
Therefore the listening context only hands each handshake on to the context that was loaded last.
"""

from __future__ import annotations

import ssl
from pathlib import Path


class ServerTLS:
    """Presents the chain in ``certificate``; ``reload`` swaps it and its key for new handshakes, or neither.

    Raises OSError or ssl.SSLError (an OSError too) when the files can't be read or don't belong together.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._active = self._load()
        #: what to listen with (uvicorn: ``ssl_context_factory=lambda config, default: tls.context``)
        self.context = self._load()
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Read the files again; on any error the present certificate stays in use."""
        self._active = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # an empty password: OpenSSL would ask the terminal for that of an encrypted key
        context.load_cert_chain(self._certificate, self._key, password="")
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _listening: ssl.SSLContext) -> None:
        # OpenSSL calls this for clients that send no server name, too
        connection.context = self._active
