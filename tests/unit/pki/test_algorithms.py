"""Keys, curves and signature algorithms: accepted just inside, refused just outside.

The rules are in docs/contracts.rst, "Certificate".
"""

from __future__ import annotations

import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from tests import certificates as make
from tests.unit.pki.conftest import NOW, accepted, only, refused

SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(hours=1)  # certificates that openssl makes are valid from when it makes them


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_the_three_curves_and_hashes_are_accepted(
    curve: ec.EllipticCurve, algorithm: hashes.HashAlgorithm
) -> None:
    authority = make.authority(key=make.ec_key(curve), algorithm=algorithm)
    accepted(make.bundle(make.server(authority, key=make.ec_key(curve), algorithm=algorithm), authority))


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1()])
def test_other_curves_are_refused_anywhere_in_the_chain(curve: ec.EllipticCurve, root: make.Issued) -> None:
    problems = refused(make.bundle(make.server(root, key=make.ec_key(curve)), root))
    assert any("the private key" in problem and curve.name in problem for problem in problems)
    assert any("certificate 1 (server)" in problem and curve.name in problem for problem in problems)
    authority = make.authority(key=make.ec_key(curve))
    only(
        refused(make.bundle(make.server(authority), authority)),
        "certificate 2 (Test Root): its key is on the curve",
    )


def test_a_ca_on_ed25519_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    problems = refused(make.bundle(make.server(), _ed25519_authority(key)))
    assert any("neither RSA nor ECDSA" in problem for problem in problems)


def _ed25519_authority(key: ed25519.Ed25519PrivateKey) -> make.Issued:
    builder = (
        x509.CertificateBuilder()
        .subject_name(make.name("Ed"))
        .issuer_name(make.name("Ed"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return make.Issued(builder.sign(key, None), key)


@pytest.mark.parametrize("bits", [1024, 2047])
def test_a_small_rsa_ca_is_refused(bits: int) -> None:
    authority = make.authority(key=make.rsa_key(bits))
    only(
        refused(make.bundle(make.server(authority), authority)),
        f"certificate 2 (Test Root): its key is RSA of {bits}",
    )


def test_an_rsa_ca_of_2048_bits_is_accepted() -> None:
    authority = make.authority(key=make.rsa_key())
    accepted(make.bundle(make.server(authority, key=make.rsa_key(number=1)), authority))


def test_sha1_is_refused_and_sha256_is_not(tmp_path: Path) -> None:
    for algorithm, good in (("sha256", True), ("sha1", False), ("md5", False), ("sha224", False)):
        data = _openssl_self_signed(tmp_path, f"-{algorithm}")
        if good:
            accepted(data, now=LATER)
        else:
            shown = {"sha1": "SHA-1", "md5": "MD5"}.get(algorithm, "signed with")
            only(refused(data, now=LATER), shown)


def test_a_sha1_signature_counts_unless_it_is_the_roots_own() -> None:
    root = make.resigned(make.authority("Root", key=make.rsa_key()), "sha1")
    intermediate = make.authority("Intermediate", root, key=make.rsa_key(number=1))
    server = make.server(intermediate, key=make.rsa_key(number=1))
    accepted(make.bundle(server, intermediate, root), now=LATER)
    weak = make.resigned(make.authority("Weak", key=make.rsa_key()), "sha1")
    problems = refused(make.bundle(make.server(weak), weak, make.authority("Other")), now=LATER)
    assert any(problem.startswith("certificate 2") and "SHA-1" in problem for problem in problems)


def _openssl_self_signed(directory: Path, *options: str, key: str = "rsa:2048") -> bytes:
    has_constraints = any(option.startswith("basicConstraints") for option in options)
    constraints = () if has_constraints else ("-addext", "basicConstraints=critical,CA:FALSE")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", key, "-nodes", "-subj", "/CN=registry.local", "-days", "90",
         "-addext", "subjectAltName=DNS:registry.local", *constraints, *options,
         "-keyout", directory / "key.pem", "-out", directory / "crt.pem"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return (directory / "key.pem").read_bytes() + (directory / "crt.pem").read_bytes()


def test_pss_is_accepted_where_go_accepts_it() -> None:
    authority = make.authority(key=make.rsa_key())
    usual = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    accepted(make.bundle(make.server(authority, padding=usual), authority))
    for unusual in (
        padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=20),
        padding.PSS(mgf=padding.MGF1(hashes.SHA512()), salt_length=32),
    ):
        only(refused(make.bundle(make.server(authority, padding=unusual), authority)), "RSASSA-PSS")


def test_explicit_curve_parameters_are_refused(tmp_path: Path) -> None:
    data = _openssl_self_signed(
        tmp_path, "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit", key="ec"
    )
    only(refused(data, now=LATER), "named curve")


def test_a_key_of_an_unknown_kind_is_refused() -> None:
    server = make.server()
    der = server.certificate.public_bytes(serialization.Encoding.DER)
    other = der.replace(bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0209"), 1)
    text = ssl.DER_cert_to_PEM_cert(other).encode()
    assert any("of an unknown kind" in problem for problem in refused(server.key_pem + text))


def test_an_rsa_exponent_beyond_31_bits_is_refused() -> None:
    numbers = make.rsa_key().private_numbers()
    for exponent, good in ((65537, True), (2**31 - 1, True), (2**33 + 17, False)):
        d = pow(exponent, -1, (numbers.p - 1) * (numbers.q - 1))
        key = rsa.RSAPrivateNumbers(
            numbers.p, numbers.q, d, d % (numbers.p - 1), d % (numbers.q - 1), numbers.iqmp,
            rsa.RSAPublicNumbers(exponent, numbers.public_numbers.n),
        ).private_key()  # fmt: skip
        data = make.bundle(make.server(key=key))
        if good:
            accepted(data)
        else:
            only(refused(data), "public exponent")


def test_pss_with_sha1_is_refused(tmp_path: Path) -> None:
    pss = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
    accepted(_openssl_self_signed(tmp_path, "-sha256", *pss), now=LATER)
    only(refused(_openssl_self_signed(tmp_path, "-sha1", *pss), now=LATER), "it is signed with SHA1")


def test_a_compressed_curve_point_is_refused() -> None:
    server = make.server()
    raw = server.certificate.tbs_certificate_bytes
    forms = serialization.PublicFormat
    long, short = (
        server.key.public_key().public_bytes(serialization.Encoding.X962, form)
        for form in (forms.UncompressedPoint, forms.CompressedPoint)
    )
    # The same certificate with the short point: three lengths shrink by 32, and the signature is made anew.
    spki = raw.index(long) - 26
    assert (raw[0:2], raw[spki : spki + 2]) == (b"\x30\x82", b"\x30\x59")
    content = raw[4:spki] + b"\x30\x39" + raw[spki + 2 : spki + 23] + b"\x03\x22\x00" + short
    content += raw[spki + 26 + len(long) :]
    certificate = make.signed(content, server.key)
    assert certificate.public_key() == server.key.public_key()
    only(refused(make.bundle(make.Issued(certificate, server.key))), "compressed curve point")
