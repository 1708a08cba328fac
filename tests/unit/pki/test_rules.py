"""Every rule of CONTRACTS 4 from both sides: accepted just inside, refused just outside."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests import certificates as make
from tests.unit.pki.conftest import NOW, accepted, only, refused

SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(hours=1)  # certificates that openssl makes are valid from when it makes them


# key and certificate


def test_the_key_must_be_that_of_the_first_certificate(root: make.Issued) -> None:
    server, other = make.server(root), make.server(root)
    accepted(make.bundle(server, root))
    only(refused(make.bundle(server, root, key=other.key_pem)), "does not match certificate 1 (server)")


def test_a_key_of_another_kind_does_not_match(root: make.Issued) -> None:
    server = make.server(root)
    only(refused(make.bundle(server, root, key=make.key_pem(make.rsa_key()))), "does not match")


def test_a_chain_given_root_first_is_told_the_order(root: make.Issued) -> None:
    server = make.server(root)
    problems = refused(server.key_pem + root.pem + server.pem)
    assert any("belongs to certificate 2, which has to come first" in problem for problem in problems)


# algorithms


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


def test_a_sha1_signature_further_up_is_refused_too(tmp_path: Path) -> None:
    weak = _openssl_self_signed(tmp_path, "-sha1", "-addext", "basicConstraints=critical,CA:TRUE")
    problems = refused(make.bundle(make.server()) + weak[weak.index(b"-----BEGIN CERT") :])
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


# CA or not


def test_a_ca_does_not_come_first(root: make.Issued) -> None:
    leaf = {"names": [make.HOST], "key_usage": make.usage("digital_signature", "key_cert_sign")}
    problems = refused(make.bundle(make.authority("CA", root, **leaf), root))
    only(problems, "certificate 1 (CA): is a CA; the server certificate comes first")
    only(
        refused(make.bundle(make.authority("Own", **leaf))),
        "a self-signed one needs basicConstraints=CA:FALSE",
    )


def test_a_self_signed_server_certificate_is_accepted_with_a_warning() -> None:
    chain = accepted(make.bundle(make.server()))
    assert [warning for warning in chain.warnings if "is self-signed" in warning]
    assert chain.anchor == chain.certificates[0]


def test_an_issuer_must_be_a_ca_that_may_sign(root: make.Issued) -> None:
    for changes, words in (
        ({}, ""),
        ({"ca": False, "key_usage": make.usage("key_cert_sign")}, "is not a CA"),
        ({"without": [x509.BasicConstraints]}, "is not a CA"),
        ({"key_usage": make.usage("crl_sign")}, "may not sign certificates"),
        ({"without": [x509.KeyUsage]}, ""),
    ):
        authority = make.issue("Sub", root, **{"ca": True, **changes})
        data = make.bundle(make.server(authority), authority, root)
        if words:
            only(refused(data), f"certificate 2 (Sub): {words}")
        else:
            accepted(data)


# order and signatures


def test_one_two_and_three_intermediates_are_accepted(root: make.Issued) -> None:
    one = make.authority("One", root)
    two = make.authority("Two", one)
    three = make.authority("Three", two)
    accepted(make.bundle(make.server(one), one, root))
    accepted(make.bundle(make.server(two), two, one))
    accepted(make.bundle(make.server(three), three, two, one, root))


def test_a_wrong_order_is_refused(root: make.Issued) -> None:
    one = make.authority("One", root)
    two = make.authority("Two", one)
    problems = refused(make.bundle(make.server(two), one, two, root))
    assert any("certificate 1 (server): is not issued by the certificate after it" in p for p in problems)
    assert any("certificate 2 (One): is not issued by the certificate after it" in p for p in problems)


def test_a_missing_intermediate_is_refused(root: make.Issued, intermediate: make.Issued) -> None:
    only(refused(make.bundle(make.server(intermediate), root)), "wrong order, or one is missing")


def test_a_ca_of_the_same_name_but_another_key_is_refused(root: make.Issued) -> None:
    impostor = make.authority("Root")
    only(
        refused(make.bundle(make.server(root), impostor)),
        "is not signed by the key of the certificate after it",
    )


def test_a_certificate_that_stands_twice_is_refused(root: make.Issued, intermediate: make.Issued) -> None:
    server = make.server(intermediate)
    only(refused(make.bundle(server, intermediate, intermediate, root)), "stands twice")
    assert any("stands twice" in problem for problem in refused(make.bundle(server, server, intermediate)))
    assert any(
        "stands twice" in problem for problem in refused(make.bundle(server, intermediate, root, root))
    )


def test_a_foreign_certificate_at_the_end_is_refused(root: make.Issued) -> None:
    stray = make.authority("Stray")
    only(refused(make.bundle(make.server(root), root, stray)), "certificate 2 (Root): is not issued by")


def test_a_false_self_signature_is_refused(root: make.Issued) -> None:
    liar = make.issue(
        "Root", root, names=[make.HOST], without=[x509.AuthorityKeyIdentifier]
    )  # of the root's name, but not of its key
    only(refused(make.bundle(liar)), "is self-signed, but not with its own key")


def test_key_identifiers_must_meet(root: make.Issued) -> None:
    stranger = x509.AuthorityKeyIdentifier(b"x" * 20, None, None)
    only(
        refused(make.bundle(make.server(root, extra=[(stranger, False)]), root)), "names another issuing key"
    )
    accepted(make.bundle(make.server(root, without=[x509.AuthorityKeyIdentifier]), root))


def test_the_path_length_counts_the_cas_below(root: make.Issued) -> None:
    for allowed, good in ((0, False), (1, True), (None, True)):
        top = make.authority("Top", path_length=allowed)
        sub = make.authority("Sub", top)
        data = make.bundle(make.server(sub), sub, top)
        if good:
            accepted(data)
        else:
            only(refused(data), "path length")
    strict = make.authority("Strict", path_length=0)
    accepted(make.bundle(make.server(strict), strict))


# dates


@pytest.mark.parametrize("place", ["server", "intermediate", "root"])
def test_every_certificate_must_be_valid_now(place: str) -> None:
    def chain(**dates: object) -> bytes:
        at = {one: dates if one == place else {} for one in ("server", "intermediate", "root")}
        root = make.authority("root", **at["root"])  # type: ignore[arg-type]
        sub = make.authority("intermediate", root, **at["intermediate"])  # type: ignore[arg-type]
        return make.bundle(make.server(sub, **at["server"]), sub, root)  # type: ignore[arg-type]

    accepted(chain(end=NOW))
    only(refused(chain(end=NOW - SECOND)), f"({place}): expired at ")
    accepted(chain(start=NOW))
    only(refused(chain(start=NOW + SECOND)), f"({place}): is not valid before ")


def test_an_expiry_within_30_days_is_warned_of(root: make.Issued) -> None:
    late = accepted(make.bundle(make.server(root, end=NOW + timedelta(days=30)), root))
    assert late.warnings == ()
    soon = accepted(make.bundle(make.server(root, end=NOW + timedelta(days=30) - SECOND), root))
    assert len(soon.warnings) == 1
    assert "(server): expires within 30 days, at 20" in soon.warnings[0]


# names


def test_every_configured_host_name_must_be_in_the_san(root: make.Issued) -> None:
    two = [make.HOST, "registry.central"]
    accepted(make.bundle(make.server(root, names=two), root), two)
    only(refused(make.bundle(make.server(root), root), two), "lacks the DNS name registry.central")
    problems = refused(make.bundle(make.server(root, names=["other.local"]), root), two)
    assert len(problems) == 2


def test_a_common_name_alone_counts_for_nothing(root: make.Issued) -> None:
    nameless = make.issue(make.HOST, root)
    only(refused(make.bundle(nameless, root)), "a common name alone counts for nothing")


@pytest.mark.parametrize(
    ("host", "names", "good"),
    [
        ("registry.local", ["REGISTRY.Local"], True),
        ("registry.local", ["*.local"], False),  # OpenSSL wants two labels after the star
        ("registry.example.org", ["*.example.org"], True),
        ("a.registry.example.org", ["*.example.org"], False),
        ("example.org", ["*.example.org"], False),
        ("registry.example.org", ["reg*.example.org"], False),
        ("registry.example.org", ["*"], False),
        ("registry.local", ["registry.local."], False),
        ("registry.local", ["xregistry.local", "registry.localx"], False),
        ("198.51.100.10", ["198.51.100.10"], True),
        ("198.51.100.10", ["198.51.100.11", "registry.local"], False),
        ("registry.local", ["198.51.100.10", "registry.local"], True),
    ],
)
def test_names_match_as_go_and_openssl_both_have_it(
    host: str, names: list[str], good: bool, root: make.Issued
) -> None:
    data = make.bundle(make.server(root, names=names), root)
    if good:
        accepted(data, [host])
    else:
        only(refused(data, [host]), f"lacks the {'IP address' if host[0].isdigit() else 'DNS name'} {host}")


def test_an_address_written_as_a_dns_name_is_no_address(root: make.Issued) -> None:
    san = x509.SubjectAlternativeName([x509.DNSName("198.51.100.10")])
    only(refused(make.bundle(make.server(root, extra=[(san, False)]), root), ["198.51.100.10"]), "IP address")


def _constraint(permitted: list[str] | None, excluded: list[str] | None) -> tuple[x509.NameConstraints, bool]:
    def read(one: str) -> x509.GeneralName:
        return x509.IPAddress(ipaddress.ip_network(one)) if one[0].isdigit() else x509.DNSName(one)

    return (
        x509.NameConstraints(
            [read(one) for one in permitted] if permitted else None,
            [read(one) for one in excluded] if excluded else None,
        ),
        True,
    )


@pytest.mark.parametrize(
    ("permitted", "excluded", "names", "good"),
    [
        (["local"], None, ["registry.local"], True),
        (["registry.local"], None, ["registry.local"], True),
        (["example.org"], None, ["registry.local"], False),
        (["gistry.local"], None, ["registry.local"], False),
        (None, ["local"], ["registry.local"], False),
        (None, ["example.org"], ["registry.local"], True),
        (["198.51.100.0/24"], None, ["registry.local", "198.51.100.10"], True),
        (["198.51.100.0/28"], None, ["registry.local", "198.51.100.16"], False),
        (None, ["198.51.100.0/24"], ["registry.local", "198.51.100.10"], False),
        (["local"], None, ["registry.local", "198.51.100.10"], True),
    ],
)
def test_name_constraints_of_a_ca_leave_room_or_not(
    permitted: list[str] | None, excluded: list[str] | None, names: list[str], good: bool
) -> None:
    authority = make.authority("Narrow", extra=[_constraint(permitted, excluded)])
    data = make.bundle(make.server(authority, names=names), authority)
    if good:
        accepted(data)
    else:
        only(refused(data), "certificate 2 (Narrow): forbids the ")


def test_name_constraints_that_go_does_not_know_are_refused_when_critical() -> None:
    directory = x509.NameConstraints([x509.DirectoryName(make.name("x"))], None)
    for critical in (True, False):
        authority = make.authority(extra=[(directory, critical)])
        data = make.bundle(make.server(authority), authority)
        if critical:
            only(refused(data), "name constraints are of a kind")
        else:
            accepted(data)


# key usage


@pytest.mark.parametrize(
    ("usages", "good"),
    [
        (("digital_signature",), True),
        (("digital_signature", "key_encipherment"), True),
        (("key_encipherment",), False),
        (("key_agreement",), False),
        (("content_commitment",), False),
    ],
)
def test_key_usage_must_allow_a_tls_server(usages: tuple[str, ...], good: bool, root: make.Issued) -> None:
    data = make.bundle(make.server(root, key_usage=make.usage(*usages)), root)
    if good:
        accepted(data)
    else:
        only(refused(data), "key usage lacks digitalSignature")


def test_a_certificate_without_any_key_usage_is_accepted(root: make.Issued) -> None:
    accepted(make.bundle(make.server(root, without=[x509.KeyUsage, x509.ExtendedKeyUsage]), root))


@pytest.mark.parametrize(
    ("extended", "good"),
    [
        ([ExtendedKeyUsageOID.SERVER_AUTH], True),
        ([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH], True),
        ([ExtendedKeyUsageOID.CLIENT_AUTH], False),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], False),  # OpenSSL does not take it for serverAuth
    ],
)
def test_extended_key_usage_must_name_server_auth_all_along(
    extended: list, good: bool, root: make.Issued
) -> None:
    authority = make.authority("Sub", root, extended=extended)
    for data in (
        make.bundle(make.server(root, extended=extended), root),
        make.bundle(make.server(authority), authority, root),
    ):
        if good:
            accepted(data)
        else:
            only(refused(data), "extended key usage lacks serverAuth")


# what else clients stumble over


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


def test_a_negative_serial_number_is_refused() -> None:
    vectors = Path(cryptography_vectors.__file__).parent
    pem = (vectors / "x509/custom/negative_serial.pem").read_bytes()
    assert any("serial number is negative" in problem for problem in refused(pem))


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
    signed = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    signature = server.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    whole = signed + algorithm + bytes([0x03, len(signature) + 1, 0]) + signature
    certificate = x509.load_der_x509_certificate(b"\x30\x82" + len(whole).to_bytes(2, "big") + whole)
    assert certificate.public_key() == server.key.public_key()
    only(refused(make.bundle(make.Issued(certificate, server.key))), "compressed curve point")


def test_a_critical_extension_that_nobody_knows_is_refused(root: make.Issued) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    accepted(make.bundle(make.server(root, extra=[(unknown, False)]), root))
    only(refused(make.bundle(make.server(root, extra=[(unknown, True)]), root)), "critical extension 1.2.3.4")
    authority = make.authority(extra=[(unknown, True)])
    only(refused(make.bundle(make.server(authority), authority)), "certificate 2 (Test Root): clients do not")


def test_a_name_that_stands_twice_is_one_name() -> None:
    """Found by the fuzzer: each reason about it came twice."""
    narrow = make.authority("Narrow", extra=[_constraint(["local"], None)])
    server = make.server(narrow, names=[make.HOST, "elsewhere", "elsewhere", make.HOST])
    only(refused(make.bundle(server, narrow)), "forbids the DNS name elsewhere")
    accepted(make.bundle(make.server(names=[make.HOST, make.HOST])))


def test_every_reason_is_given_at_once() -> None:
    bad_root = make.authority("Root", key=make.rsa_key(1024), end=NOW - SECOND)
    server = make.issue(
        "bad", bad_root, names=["other"], key_usage=make.usage("key_agreement"), start=NOW + timedelta(days=1)
    )
    problems = refused(make.bundle(server, bad_root, key=make.key_pem(make.ec_key())))
    for words in (
        "the private key does not match",
        "(bad): is not valid before",
        "(bad): may not be used for a TLS server",
        "(bad): its subject alternative name lacks the DNS name registry.local",
        "(Root): expired at",
        "(Root): its key is RSA of 1024 bits",
    ):
        assert [problem for problem in problems if words in problem], (words, problems)
    assert len(problems) == 6


def test_names_from_a_certificate_cannot_forge_a_line() -> None:
    forged = make.issue("evil\nAll is well\x1b[2J", names=["other"])
    for problem in refused(make.bundle(forged)):
        assert problem.isprintable()


def test_a_san_cannot_forge_a_line_either() -> None:
    """Found by the fuzzer: a name that the CA's constraints forbid was quoted as it was."""
    narrow = make.authority("Narrow", extra=[_constraint(["local"], None)])
    server = make.server(narrow, names=[make.HOST, "evil\nAll is well\x1b[2J"])
    only(refused(make.bundle(server, narrow)), "forbids the DNS name evil\\nAll is well\\x1b[2J")
