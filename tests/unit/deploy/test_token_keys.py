"""The token-signing pair and the registry's trust in it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sysreg_cli.deploy.machine import Attributes
from sysreg_cli.deploy.token_keys import SigningPair, bundle, trusted_certificates
from sysreg_cli.pki.keys import to_pem
from sysreg_cli.pki.selfsigned import signing_certificate
from sysreg_cli.settings import Settings, TokenServerSettings
from sysreg_cli.tokens.rollover_files import RolloverFiles
from sysreg_cli.tokens.signer import TokenSigner
from tests.unit.deploy.machine import apply, context_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    pair = TokenServerSettings(
        signing_key=tmp_path / "token/signing.key", signing_certificate=tmp_path / "token/signing.crt"
    )
    return dataclasses.replace(Settings(), token_server=pair)


def pair(settings: Settings) -> SigningPair:
    return SigningPair(settings, Attributes(0o440))


def certificate() -> bytes:
    return signing_certificate(ec.generate_private_key(ec.SECP256R1()), now=datetime.now(UTC))


def test_a_pair_is_made_and_removed(settings: Settings, tmp_path: Path) -> None:
    context, signing = context_of(tmp_path / "state"), pair(settings)
    apply(signing, context)
    TokenSigner.load(settings)
    assert settings.token_server.signing_key.stat().st_mode & 0o777 == 0o440
    RolloverFiles.of(settings).next_key.touch()
    assert signing.remove(context).count("removed") == 3
    assert list((tmp_path / "token").iterdir()) == []


@pytest.mark.parametrize("damage", ["no certificate", "another certificate", "mode"])
def test_a_good_key_is_kept_whatever_happens_to_its_certificate(
    settings: Settings, tmp_path: Path, damage: str
) -> None:
    context, path = context_of(tmp_path / "state"), settings.token_server.signing_certificate
    apply(pair(settings), context)
    key = settings.token_server.signing_key.read_bytes()
    if damage == "no certificate":
        path.unlink()
    elif damage == "mode":
        settings.token_server.signing_key.chmod(0o666)
    else:
        path.write_bytes(certificate())
    apply(pair(settings), context)
    assert settings.token_server.signing_key.read_bytes() == key
    TokenSigner.load(settings)


@pytest.mark.parametrize(
    "content", [b"garbage", to_pem(rsa.generate_private_key(65537, 2048))], ids=["garbage", "RSA"]
)
def test_a_key_that_cannot_sign_is_replaced(settings: Settings, tmp_path: Path, content: bytes) -> None:
    context = context_of(tmp_path / "state")
    apply(pair(settings), context)
    settings.token_server.signing_key.write_bytes(content)
    assert "repair the token-signing pair" in apply(pair(settings), context)
    TokenSigner.load(settings)


def test_the_registry_trusts_the_pair_in_use_and_those_of_a_rollover(
    settings: Settings, tmp_path: Path
) -> None:
    apply(pair(settings), context_of(tmp_path / "state"))
    used, following = settings.token_server.signing_certificate.read_bytes(), certificate()
    assert trusted_certificates(settings) == used
    RolloverFiles.of(settings).next_certificate.write_bytes(following)
    assert trusted_certificates(settings) == used + following


def test_a_bundle_holds_each_certificate_once() -> None:
    first, second = certificate(), certificate()
    assert bundle(first, second, first) == first + second
    assert bundle(first + second, without=second) == first
    assert bundle(b"garbage", first) == first
