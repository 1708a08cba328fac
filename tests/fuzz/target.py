"""What is fuzzed: any bytes through every reader of pki, and what must hold afterwards.

1. The answer is a value or CertificateRefused, whose text is one printable line without key or passphrase.
2. It comes within a few seconds of CPU time, however costly the file asks it to be.
3. An accepted chain is good: OpenSSL loads what would be written to disk, and a client that trusts the anchor
   and knows the host name finishes a handshake with it.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
import time
import warnings
from collections import Counter
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki.check import ServerChain, check_authorities, check_server, read_certificates
from sysreg_cli.pki.describe import describe
from sysreg_cli.pki.pem import holds_private_key
from sysreg_cli.v1.certificates import Mode
from tests import certificates as make

PASSPHRASE = b"correct horse"
LONGEST = 5.0  # CPU seconds; RSA keys of 8192 bits and 5 million iterations are within

#: how often each outcome came, for the report
outcomes: Counter[str] = Counter()


def one_input(data: bytes) -> None:
    """Raises AssertionError, or whatever pki should not have raised; a warning on stderr is an error too."""
    with warnings.catch_warnings(action="error"):
        _one_input(data)


def _one_input(data: bytes) -> None:
    start = time.process_time()
    now = datetime.now(UTC)
    try:
        chain = check_server(data, passphrase=PASSPHRASE, host_names=[make.HOST], now=now)
    except CertificateRefused as refusal:
        outcomes["chain refused"] += 1
        _is_decent(refusal)
    else:
        outcomes["chain accepted"] += 1
        assert holds_private_key(data)
        describe(chain.certificates[0], Mode.DOCKER_REGISTRY)
        handshake(chain)
    try:
        authorities = check_authorities(data, now=now).accepted
    except CertificateRefused as refusal:
        outcomes["authorities refused"] += 1
        _is_decent(refusal)
    else:
        outcomes["authorities accepted"] += 1
        for authority in authorities:
            ssl.create_default_context(cadata=authority.pem.decode())
    with contextlib.suppress(CertificateRefused):
        for certificate in read_certificates(data):
            assert describe(certificate, Mode.SSL_CA).subject.isprintable()
    assert time.process_time() - start < LONGEST, "too slow"


def _is_decent(refusal: CertificateRefused) -> None:
    assert refusal.problems
    assert str(refusal).isprintable()
    assert PASSPHRASE.decode() not in str(refusal)
    assert len(set(refusal.problems)) == len(refusal.problems), "the same reason twice"


def handshake(chain: ServerChain) -> None:
    """A TLS handshake in memory: OpenSSL serves the chain to a client that trusts nothing but the anchor."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as directory:  # noqa: PTH112
        key, certificate = f"{directory}/server.key", f"{directory}/server.crt"
        for path, text in ((key, chain.key_pem), (certificate, chain.chain_pem)):
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(text)
        server.load_cert_chain(certificate, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=chain.anchor.public_bytes(Encoding.PEM).decode())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up, server_hostname=make.HOST), server.wrap_bio(up, down, server_side=True))
    pending = set(ends)
    for _ in range(10):
        for end in list(pending):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                pending.discard(end)
        if not pending:
            return
    raise AssertionError("the handshake does not end")
