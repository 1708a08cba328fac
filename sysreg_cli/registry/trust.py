"""The TLS context of a client: which certificates the registry may present.

Every certificate given is an anchor, also a server's own and an intermediate, as in docker's and containerd's
certs.d (``VERIFY_X509_PARTIAL_CHAIN``). The variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE have no effect.
OpenSSL itself honours SSL_CERT_FILE and SSL_CERT_DIR for the system's bundle.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from sysreg_cli.errors import CertificateNotTrusted


def client_context(ca_file: str = "", trust_directory: Path | None = None) -> ssl.SSLContext:
    """Trust only ``ca_file``; without it the system's bundle and every ``*.crt`` in ``trust_directory``.

    ``trust_directory`` is docker's /etc/docker/certs.d/<host:port>. It need not exist.

    Raises CertificateNotTrusted, with the path of the file that cannot be read or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if ca_file:
        _load(context, Path(ca_file))
        return context
    context.load_default_certs()
    if trust_directory is not None:
        try:
            files = sorted(trust_directory.glob("*.crt"))
        except OSError:
            files = []
        for path in files:
            _load(context, path)
    return context


def _load(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise CertificateNotTrusted(
            f"{path}: holds no certificate in PEM format", next_step="give the CA's certificate"
        ) from None
    except OSError as error:
        raise CertificateNotTrusted(f"{path}: cannot be read: {error.strerror}") from None
