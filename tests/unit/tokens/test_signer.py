"""Tokens as the registry reads them, and signing keys that are no signing keys."""

import base64
import datetime
import subprocess
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from sysreg_cli.errors import SettingsError
from sysreg_cli.settings import Settings, TokenServerSettings
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.signer import TokenSigner, write_token_accepted, write_token_lifetime

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def certificate_of(key: PrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def settings_with(directory: Path, key: PrivateKey, certificate: bytes, password: bytes = b"") -> Settings:
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (directory / "key").write_bytes(pem)
    (directory / "crt").write_bytes(certificate)
    pair = TokenServerSettings(signing_key=directory / "key", signing_certificate=directory / "crt")
    return Settings(token_server=pair)


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_a_token_verifies_with_the_certificate_it_carries(
    tmp_path: Path, key: ec.EllipticCurvePrivateKey
) -> None:
    signer = TokenSigner.load(settings_with(tmp_path, key, certificate_of(key)))
    access = [Access("repository", "a/b", ("pull", "push")), Access("registry", "catalog", ("*",))]
    token = signer.sign("testuser", access, lifetime=5, service="registry.local:9001")

    chain = jwt.get_unverified_header(token)["x5c"]
    certificate = x509.load_der_x509_certificate(base64.b64decode(chain[0]))
    public_key = certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    claims = jwt.decode(
        token,
        public_key,
        algorithms=["ES256"],
        audience="registry.local:9001",
    )
    assert claims["sub"] == "testuser"
    assert claims["iss"] == "sysreg-token-server"
    assert claims["exp"] - claims["nbf"] == 5
    assert claims["access"] == [
        {"type": "repository", "name": "a/b", "actions": ["pull", "push"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]


def test_a_write_token_is_accepted_a_little_longer_than_clients_keep_it() -> None:
    assert write_token_lifetime(60) == 5
    assert write_token_accepted(60) == 65


def test_only_changes_of_repositories_count_as_writes() -> None:
    assert Access("repository", "a", ("pull", "push")).writes
    assert Access("repository", "a", ("*",)).writes
    assert Access("repository", "a", ("delete",)).writes
    assert not Access("repository", "a", ("pull",)).writes
    assert not Access("registry", "catalog", ("*",)).writes


def test_a_key_that_is_not_the_certificates_is_refused(
    tmp_path: Path, key: ec.EllipticCurvePrivateKey
) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(SettingsError, match="is not the certificate of"):
        TokenSigner.load(settings_with(tmp_path, key, certificate_of(other)))


def test_in_a_rollover_the_certificate_of_the_key_that_is_there_is_taken(
    tmp_path: Path, key: ec.EllipticCurvePrivateKey
) -> None:
    following = ec.generate_private_key(ec.SECP256R1())
    both = certificate_of(key) + certificate_of(following)
    for present in (key, following):
        token = TokenSigner.load(settings_with(tmp_path, present, both)).sign(
            "testuser", (), lifetime=5, service="registry.local:9001"
        )
        chain = jwt.get_unverified_header(token)["x5c"]
        first = x509.load_der_x509_certificate(base64.b64decode(chain[0]))
        assert first.public_key() == present.public_key()
    assert len(chain) == 1, "the key that is gone says nothing about the one that signs"


@pytest.mark.parametrize(
    "unfit",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-384", "RSA"],
)
def test_only_p256_keys_sign(tmp_path: Path, unfit: PrivateKey) -> None:
    with pytest.raises(SettingsError, match="not an ECDSA P-256 key"):
        TokenSigner.load(settings_with(tmp_path, unfit, certificate_of(unfit)))


def test_unreadable_files_are_named(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    settings = settings_with(tmp_path, key, b"no certificate")
    with pytest.raises(SettingsError, match="crt: holds no certificate"):
        TokenSigner.load(settings)
    (tmp_path / "key").write_text("no key")
    with pytest.raises(SettingsError, match="key: not an unencrypted private key"):
        TokenSigner.load(settings)
    (tmp_path / "key").unlink()
    with pytest.raises(SettingsError, match="key: No such file"):
        TokenSigner.load(settings)
    with pytest.raises(SettingsError, match="not an unencrypted private key"):
        TokenSigner.load(settings_with(tmp_path, key, certificate_of(key), password=b"secret"))


def test_a_pair_of_an_unknown_algorithm_is_refused(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    made = settings_with(tmp_path, key, certificate_of(key))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:SM2", "-nodes", "-subj", "/CN=signer"]
    files = ["-keyout", str(tmp_path / "sm2.key"), "-out", str(tmp_path / "crt")]
    subprocess.run(["openssl", "req", "-x509", *curve, *files], check=True, capture_output=True)
    with pytest.raises(SettingsError, match="crt: holds no certificate in PEM that can be read"):
        TokenSigner.load(made)
    (tmp_path / "sm2.key").rename(tmp_path / "key")
    with pytest.raises(SettingsError, match="key: not an unencrypted private key in PEM"):
        TokenSigner.load(made)
