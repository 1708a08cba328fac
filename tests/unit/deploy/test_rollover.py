"""The switch of the token-signing key: whatever cuts it short, a token can be signed and is trusted."""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sysreg_cli.deploy import keys, rollover
from sysreg_cli.deploy.items import Context
from sysreg_cli.deploy.record import Record
from sysreg_cli.host import failpoint
from sysreg_cli.pki.selfsigned import signing_certificate
from sysreg_cli.settings import PathSettings, Settings, TokenServerSettings
from sysreg_cli.tokens.signer import TokenSigner

NOW = datetime.now(UTC)


def controller(directory: Path) -> Settings:
    """Settings of a controller with a token-signing pair."""
    (directory / "token").mkdir(parents=True)
    (directory / "state").mkdir()
    ours = TokenServerSettings(
        signing_key=directory / "token/signing.key", signing_certificate=directory / "token/signing.crt"
    )
    key = ec.generate_private_key(ec.SECP256R1())
    keys.write_key(ours.signing_key, key)
    ours.signing_certificate.write_bytes(signing_certificate(key, now=NOW))
    return Settings(token_server=ours, paths=PathSettings(state=directory / "state"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "TOKEN_GROUP", "root")
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return controller(tmp_path)


def trusted(settings: Settings) -> set[str]:
    """Fingerprints of what the registry trusts, once ``TokenTrust`` was applied."""
    trust = keys.TokenTrust(settings)
    context = Context(Record(settings.paths.state))
    trust.apply(context)
    assert trust.compare(context) is None
    pem = trust.path.read_bytes()
    return {one.fingerprint(hashes.SHA256()).hex() for one in x509.load_pem_x509_certificates(pem)}


def live(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[str]:
    """Services that take what the files say when they are told to; returns what was waited for."""
    signs = [TokenSigner.load(settings).fingerprint]

    def reload(*_words: str) -> None:
        signs[0] = TokenSigner.load(settings).fingerprint

    monkeypatch.setattr(rollover, "command", reload)
    monkeypatch.setattr(rollover, "_signing_key", lambda _settings: signs[0])
    monkeypatch.setattr(
        rollover, "_accepts", lambda _settings, signer: signer.fingerprint in trusted(settings)
    )
    return signs


def finish(settings: Settings, record: Record) -> bool:
    return rollover.finish(
        settings, record, lambda: trusted(settings), report=lambda _: None, wait=lambda _: None
    )


def test_the_old_key_is_trusted_until_its_tokens_have_run_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs = live(monkeypatch, settings)
    record = Record(settings.paths.state)
    waits: list[float] = []
    reports: list[str] = []
    (old,) = signs

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert trusted(settings) == {old, signs[0]}
        assert signs[0] != old

    rollover.begin(settings, record)
    assert rollover.finish(settings, record, lambda: trusted(settings), report=reports.append, wait=wait)
    assert len(waits) == 1
    assert 360 < waits[0] <= 361
    assert trusted(settings) == set(signs)
    assert keys.unfinished(settings) == []
    assert not finish(settings, record), "there is nothing left to do"
    assert not any("next" in path or "retired" in path for path in record.files)


def test_cut_short_at_any_place_a_token_can_be_signed_and_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in itertools.count(1):
        settings = controller(tmp_path / str(place))
        with monkeypatch.context() as patched:
            signs = live(patched, settings)
            (old,) = signs
            patched.setattr(failpoint, "_reached", 0)
            patched.setenv(failpoint.VARIABLE, f"{place}:ENOSPC")
            record = Record.load(settings.paths.state)
            try:
                rollover.begin(settings, record)
                finish(settings, record)
                whole = True
            except OSError:
                whole = False
            patched.delenv(failpoint.VARIABLE)
            present = TokenSigner.load(settings).fingerprint
            assert {present, signs[0]} <= trusted(settings), f"place {place}"

            record = Record.load(settings.paths.state)
            rollover.begin(settings, record)
            finish(settings, record)
            assert signs[0] != old
            assert trusted(settings) == set(signs)
            assert keys.unfinished(settings) == []
        if whole:
            break
    assert place > 20


def test_a_certificate_whose_key_was_never_written_is_no_rollover(settings: Settings) -> None:
    present = TokenSigner.load(settings).fingerprint
    keys.next_certificate(settings).write_bytes(
        signing_certificate(ec.generate_private_key(ec.SECP256R1()), now=NOW)
    )
    assert not finish(settings, Record(settings.paths.state))
    assert keys.unfinished(settings) == []
    assert trusted(settings) == {present}


@pytest.mark.parametrize(
    ("since", "left"), [(0, 361), (100, 261), (361, 0), (10_000, 0), (-50, 361)], ids=str
)
def test_the_wait_is_what_is_left_of_the_longest_token(since: int, left: int) -> None:
    now = 1_000_000.0
    assert rollover.seconds_left(now - since, now, TokenServerSettings()) == left


def test_long_write_tokens_prolong_the_wait() -> None:
    settings = TokenServerSettings(read_lifetime=60, write_lifetime=600)
    assert rollover.seconds_left(0, 0, settings) == 606


def test_a_bundle_holds_each_certificate_once() -> None:
    one, two = (signing_certificate(ec.generate_private_key(ec.SECP256R1()), now=NOW) for _ in range(2))
    assert keys.bundle(one, two, one) == one + two
    assert keys.bundle(one + two, without=two) == one
    assert keys.bundle(b"garbage", one) == one
