"""What a file may look like: blocks, keys, passphrases."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519

from sysreg_cli.pki.check import read_certificates
from sysreg_cli.pki.pem import holds_private_key
from sysreg_cli.v1.certificates import MAX_BYTES, Mode
from tests import certificates as make
from tests.unit.pki.conftest import accepted, only, refused


@pytest.fixture(scope="module")
def server(root: make.Issued) -> make.Issued:
    return make.server(root, key=make.rsa_key())


def test_key_first_and_certificate_first_are_the_same_chain(server: make.Issued, root: make.Issued) -> None:
    key_first = accepted(server.key_pem + server.pem + root.pem)
    certificate_first = accepted(server.pem + root.pem + server.key_pem)
    between = accepted(server.pem + server.key_pem + root.pem)
    assert key_first.chain_pem == certificate_first.chain_pem == between.chain_pem == server.pem + root.pem
    assert key_first.key_pem == certificate_first.key_pem == server.key_pem


def test_the_chain_says_what_it_holds(server: make.Issued, root: make.Issued) -> None:
    chain = accepted(make.bundle(server, root))
    assert chain.certificates == (server.certificate, root.certificate)
    assert chain.anchor == root.certificate
    assert chain.chain_pem == server.pem + root.pem
    assert chain.warnings == ()


def test_the_anchor_is_the_last_certificate_as_given(root: make.Issued, intermediate: make.Issued) -> None:
    server = make.server(intermediate)
    assert accepted(make.bundle(server, intermediate, root)).anchor == root.certificate
    assert accepted(make.bundle(server, intermediate)).anchor == intermediate.certificate
    assert accepted(make.bundle(server)).anchor == server.certificate


def test_no_key_shows_in_the_repr_of_a_chain(server: make.Issued, root: make.Issued) -> None:
    assert "PRIVATE" not in repr(accepted(make.bundle(server, root)))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: b"Bag Attributes\n" + text.replace(b"-----BEGIN", b"subject=\xff\n-----BEGIN"),
        lambda text: text.replace(b"\n", b"  \n"),
        lambda text: b"".join(b"    " + line + b"\n" for line in text.splitlines()),
        lambda text: text.replace(b"-----\n-----BEGIN", b"----------BEGIN"),
        lambda text: text.rstrip(b"\n"),
        lambda text: text.replace(b"BEGIN CERTIFICATE", b"BEGIN X509 CERTIFICATE").replace(
            b"END CERTIFICATE", b"END X509 CERTIFICATE"
        ),
        lambda text: b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + text,
        lambda text: text + b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n",
    ],
    ids=[
        "CRLF", "CR", "byte order mark", "text around blocks", "trailing spaces", "indented",
        "no newline between files", "no newline at the end", "old label", "EC parameters", "DH parameters",
    ],
)  # fmt: skip
def test_text_that_cannot_mean_anything_else_is_taken(
    change: Callable[[bytes], bytes], server: make.Issued, root: make.Issued
) -> None:
    chain = accepted(change(make.bundle(server, root)))
    assert chain.chain_pem == server.pem + root.pem
    assert chain.key_pem == server.key_pem


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
@pytest.mark.parametrize("passphrase", [None, b"correct horse", "pässwörd".encode()])
@pytest.mark.parametrize("kind", ["RSA", "P-256", "P-384", "P-521"])
def test_every_usual_form_of_key_is_taken(kind: str, passphrase: bytes | None, form: str) -> None:
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    key = make.rsa_key() if kind == "RSA" else make.ec_key(curves[kind])
    server = make.server(key=key)
    chain = accepted(make.key_pem(key, form, passphrase) + server.pem, passphrase=passphrase)
    assert chain.key_pem == make.key_pem(key)
    assert b"ENCRYPTED" not in chain.key_pem


@pytest.mark.parametrize("cipher", ["-des3", "-aes128", "-aes256"])
def test_keys_encrypted_by_openssl_are_taken(cipher: str, server: make.Issued, root: make.Issued) -> None:
    for command in (
        ["rsa", "-traditional"],
        ["pkcs8", "-topk8", "-v2", cipher[1:]],
        ["pkcs8", "-topk8", "-scrypt"],
    ):
        options = [cipher] if command[0] == "rsa" else []
        encrypted = subprocess.run(
            ["openssl", *command, *options, "-passout", "pass:secret"],
            input=server.key_pem, capture_output=True, check=True, timeout=30,
        ).stdout  # fmt: skip
        assert b"ENCRYPTED" in encrypted
        assert accepted(encrypted + server.pem + root.pem, passphrase=b"secret").key_pem == server.key_pem


def test_a_passphrase_that_is_not_needed_is_ignored(server: make.Issued, root: make.Issued) -> None:
    assert accepted(make.bundle(server, root), passphrase=b"unneeded").key_pem == server.key_pem


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_a_wrong_or_missing_passphrase_is_said(form: str, server: make.Issued) -> None:
    data = make.key_pem(server.key, form, b"right") + server.pem
    only(refused(data), "is encrypted and no passphrase was given")
    only(refused(data, passphrase=b""), "is encrypted and no passphrase was given")
    problems = refused(data, passphrase=b"wr0ng-one")
    only(problems, "wrong passphrase, or damaged")
    assert "wr0ng-one" not in problems[0]


def test_exactly_one_key_is_expected(server: make.Issued) -> None:
    only(refused(server.pem), "there is no private key")
    only(refused(server.key_pem * 2 + server.pem), "there are 2 private keys")


def test_a_file_without_certificate_is_refused(server: make.Issued) -> None:
    only(refused(server.key_pem), "there is no certificate")
    assert len(refused(b"")) == 2


@pytest.mark.parametrize("label", ["TRUSTED CERTIFICATE", "PKCS7"])
def test_no_certificate_of_another_form_is_left_out(
    server: make.Issued, root: make.Issued, label: str
) -> None:
    other = root.pem.replace(b"BEGIN CERTIFICATE", f"BEGIN {label}".encode())
    other = other.replace(b"END CERTIFICATE", f"END {label}".encode())
    before = server.key_pem + server.pem
    only(refused(before + other), f"line {len(before.splitlines()) + 1}: a block {label}")


def test_other_formats_are_named(server: make.Issued) -> None:
    der = server.certificate.public_bytes(serialization.Encoding.DER)
    assert any("DER and PKCS #12" in problem for problem in refused(der))
    request = b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
    only(refused(server.key_pem + request), "only CERTIFICATE REQUEST")


def test_the_size_limit_is_64_kib(server: make.Issued, root: make.Issued) -> None:
    data = make.bundle(server, root)
    padding = b"#" * (MAX_BYTES[Mode.DOCKER_REGISTRY] - len(data) - 1) + b"\n"
    assert len(padding + data) == 65536
    accepted(padding + data)
    only(refused(b"#" + padding + data), "larger than 64 KiB")


@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())]
)
def test_other_keys_are_refused(key: Any, server: make.Issued) -> None:
    assert any(
        "P-256" in problem or "neither" in problem for problem in refused(make.key_pem(key) + server.pem)
    )


def test_dsa_and_openssh_keys_are_named(server: make.Issued) -> None:
    old = dsa.generate_private_key(1024)
    only(refused(make.key_pem(old, "TraditionalOpenSSL") + server.pem), "DSA PRIVATE KEY")
    only(refused(make.key_pem(server.key, "OpenSSH") + server.pem), "OPENSSH PRIVATE KEY")


def test_small_rsa_keys_are_refused() -> None:
    for bits, good in ((2048, True), (2047, False), (1024, False)):
        server = make.server(key=make.rsa_key(bits))
        if good:
            accepted(make.bundle(server))
        else:
            problems = refused(make.bundle(server))
            assert len(problems) == 2  # the key, and the certificate on it
            assert all(str(bits) in problem for problem in problems)


def test_damaged_blocks_are_refused_with_their_place(server: make.Issued, root: make.Issued) -> None:
    good = make.bundle(server, root)
    assert "has no END line" in refused(good[:-30])[0]
    without_end = make.key_pem(server.key).replace(b"-----END PRIVATE KEY-----\n", b"")
    assert any("has no END line" in problem for problem in refused(without_end + server.pem + root.pem))
    crossed = good.replace(b"END PRIVATE KEY", b"END RSA PRIVATE KEY")
    assert any("closes a PRIVATE KEY block" in problem for problem in refused(crossed))
    body = base64.b64encode(b"not a certificate")
    broken = b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n"
    only(refused(good + broken), "certificate 3: is damaged")
    lines = server.key_pem.splitlines(keepends=True)
    lines[3] = lines[4]
    only(refused(b"".join(lines) + server.pem + root.pem), "the private key is damaged")


def test_everything_after_a_damaged_certificate_is_still_checked(server: make.Issued) -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    weak = make.authority("weak", key=make.rsa_key(1024))
    problems = refused(broken + weak.pem)
    assert len(problems) == 3, problems


@pytest.mark.parametrize("iterations", [2**31 - 1, 2**62])
def test_a_key_that_would_take_hours_to_decrypt_is_refused_at_once(
    iterations: int, server: make.Issued
) -> None:
    encrypted = make.key_pem(server.key, "PKCS8", b"secret")
    der = base64.b64decode(b"".join(encrypted.splitlines()[1:-1]))
    body = base64.encodebytes(_with_iterations(der, iterations))
    text = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + body + b"-----END ENCRYPTED PRIVATE KEY-----\n"
    only(refused(text + server.pem, passphrase=b"secret"), "would take too long")


def _with_iterations(der: bytes, iterations: int) -> bytes:
    """The EncryptedPrivateKeyInfo with other numbers in its algorithm (RFC 8018 PBKDF2-params)."""

    def tlv(tag: int, content: bytes) -> bytes:
        size = len(content)
        if size < 128:
            return bytes([tag, size]) + content
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        return bytes([tag, 0x80 | len(octets)]) + octets + content

    def rewrite(data: bytes) -> bytes:
        done = b""
        while data:
            tag, size, start = data[0], data[1], 2
            if size & 0x80:
                start += size & 0x7F
                size = int.from_bytes(data[2:start], "big")
            content, data = data[start : start + size], data[start + size :]
            if tag == 0x30:
                content = rewrite(content)
            elif tag == 0x02:
                content = iterations.to_bytes(iterations.bit_length() // 8 + 1, "big")
            done += tlv(tag, content)
        return done

    return rewrite(der)


def test_files_that_hold_a_key_are_recognised_without_reading_it(server: make.Issued) -> None:
    assert holds_private_key(server.key_pem)
    assert holds_private_key(server.pem + make.key_pem(server.key, "PKCS8", b"x")[:100])
    assert holds_private_key(b"-----BEGIN RSA PRIVATE KEY-----")
    assert not holds_private_key(server.pem)
    assert not holds_private_key(b"a PRIVATE KEY is not here")


def test_the_certificates_of_an_installed_file_are_read_back(server: make.Issued, root: make.Issued) -> None:
    chain = accepted(make.bundle(server, root))
    assert read_certificates(chain.chain_pem) == (server.certificate, root.certificate)
