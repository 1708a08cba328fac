"""Every file of cryptography-vectors, as it is and bent: accepted or refused, never another exception.

The files are PKITS, damaged and exotic certificates, keys of every kind: what the field found in 20 years.
"""

from __future__ import annotations

import base64
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import cryptography_vectors
import pytest

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki.check import check_authorities, check_server, read_certificates
from sysreg_cli.pki.describe import describe
from sysreg_cli.v1.certificates import Mode
from tests import certificates as make
from tests.unit.pki.conftest import NOW

ROOT = Path(cryptography_vectors.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
LABELS = ("CERTIFICATE", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
SLOWEST = 5.0  # CPU seconds for all readings of one file; an install waits for one


def survives(data: bytes, passphrase: bytes | None = b"password") -> int:
    """How many of the readers accept ``data``; anything but CertificateRefused goes up and fails the test."""
    with warnings.catch_warnings(action="error"):
        return _survives(data, passphrase)


def _survives(data: bytes, passphrase: bytes | None) -> int:
    count = 0
    for read in (
        lambda: check_server(data, passphrase=passphrase, host_names=[make.HOST], now=NOW),
        lambda: check_authorities(data, now=NOW),
        lambda: [describe(certificate, Mode.SSL_CA) for certificate in read_certificates(data)],
    ):
        try:
            assert read()
        except CertificateRefused as refusal:
            assert refusal.problems
            assert str(refusal).isprintable(), refusal
        else:
            count += 1
    return count


def wrapped(data: bytes) -> Iterator[bytes]:
    """The bytes as the body of every label that is read: DER files take the road of PEM too."""
    body = base64.encodebytes(data)
    for label in LABELS:
        yield f"-----BEGIN {label}-----\n".encode() + body + f"-----END {label}-----\n".encode()


@pytest.fixture(scope="module")
def around() -> tuple[bytes, bytes]:
    server = make.server(make.authority())
    return server.key_pem, server.pem


def test_there_are_as_many_files_as_there_should_be() -> None:
    assert len(FILES) > 2000


@pytest.mark.parametrize("group", sorted({path.relative_to(ROOT).parts[0] for path in FILES}))
def test_every_vector_is_accepted_or_refused(group: str, around: tuple[bytes, bytes]) -> None:
    key, certificate = around
    accepted = 0
    for path in FILES:
        if path.relative_to(ROOT).parts[0] != group:
            continue
        data = path.read_bytes()
        start = time.process_time()
        try:
            accepted += survives(data)
            survives(key + data, None)
            survives(data + certificate)
            survives(key + certificate + data, None)
            if path.suffix in (".der", ".crt", ".key", ".p12") and len(data) < 48 * 1024:
                for text in wrapped(data):
                    accepted += survives(text)
                    survives(key + text)
        except BaseException as error:
            error.add_note(f"with {path}")
            raise
        assert time.process_time() - start < SLOWEST, f"{path} takes too long"
    if group == "x509":
        assert accepted > 100  # the harness does reach the certificates
