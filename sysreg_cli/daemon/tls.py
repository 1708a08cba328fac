"""TLS for both daemons: a server's certificate that can be replaced while it runs, and whom to trust.

``SSLContext.load_cert_chain`` on the context in use isn't enough: OpenSSL keeps one certificate per key type
in a context, so after a change from ECDSA to RSA it goes on presenting the old ECDSA one (measured).
Therefore the listening context only hands each handshake on to the context that was loaded last.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path


def system_authorities() -> str | bool:
    """The CAs that this machine trusts, as ``requests`` wants them in ``verify``.

    Its own default is the list of the package certifi, which knows no CA that was installed with
    ``certificate-install -m ssl_ca``. A directory is looked into at every handshake, so a CA that is added
    needs no restart.
    """
    found = ssl.get_default_verify_paths()
    if found.openssl_cafile_env in os.environ and found.cafile:
        return found.cafile
    return found.capath or found.cafile or True


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
