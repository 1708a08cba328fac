"""A running listener presents the certificate that was loaded last, whatever kind of key came before."""

import socket
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from sysreg_cli.daemon.tls import ServerTLS

RSA, ECDSA = trustme.KeyType.RSA, trustme.KeyType.ECDSA


def write_certificate(directory: Path, kind: trustme.KeyType) -> bytes:
    """Put a fresh key and certificate into ``directory``; returns the certificate as DER."""
    issued = trustme.CA().issue_cert("registry.local", key_type=kind)
    (directory / "server.key").write_bytes(issued.private_key_pem.bytes())
    (directory / "server.crt").write_bytes(issued.cert_chain_pems[0].bytes())
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


def presented(context: ssl.SSLContext, server_name: str | None) -> bytes:
    """The certificate that one handshake with ``context`` shows."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    near, far = socket.socketpair()

    def serve() -> None:
        with context.wrap_socket(far, server_side=True) as connection:
            connection.recv(1)

    server = threading.Thread(target=serve)
    server.start()
    with client.wrap_socket(near, server_hostname=server_name) as connection:
        certificate = connection.getpeercert(binary_form=True)
        connection.send(b"x")
    server.join()
    assert certificate is not None
    return certificate


@pytest.mark.parametrize(("first", "second"), [(RSA, ECDSA), (ECDSA, RSA), (RSA, RSA), (ECDSA, ECDSA)])
@pytest.mark.parametrize("server_name", ["registry.local", None])
def test_the_new_certificate_is_presented_after_a_reload(
    tmp_path: Path, first: trustme.KeyType, second: trustme.KeyType, server_name: str | None
) -> None:
    old = write_certificate(tmp_path, first)
    tls = ServerTLS(tmp_path / "server.crt", tmp_path / "server.key")
    assert presented(tls.context, server_name) == old
    new = write_certificate(tmp_path, second)
    tls.reload()
    assert presented(tls.context, server_name) == new


def test_a_key_that_does_not_match_leaves_the_old_certificate_in_use(tmp_path: Path) -> None:
    old = write_certificate(tmp_path, ECDSA)
    tls = ServerTLS(tmp_path / "server.crt", tmp_path / "server.key")
    key = (tmp_path / "server.key").read_bytes()
    write_certificate(tmp_path, ECDSA)
    (tmp_path / "server.key").write_bytes(key)
    with pytest.raises(ssl.SSLError):
        tls.reload()
    assert presented(tls.context, None) == old
