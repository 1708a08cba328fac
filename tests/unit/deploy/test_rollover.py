"""The switch of the token-signing key: whatever cuts it short, a token can be signed and is trusted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sysreg_cli.deploy import rollover, token_keys
from sysreg_cli.deploy.file import File
from sysreg_cli.deploy.machine import Attributes
from sysreg_cli.deploy.record import Record
from sysreg_cli.deploy.rollover import LiveServices, Rollover, RolloverState
from sysreg_cli.host import failpoint
from sysreg_cli.pki.selfsigned import signing_certificate
from sysreg_cli.settings import PathSettings, Settings, TokenServerSettings
from sysreg_cli.tokens.signer import TokenSigner
from tests.unit.deploy.machine import FakePrograms, apply, context_of

NOW = datetime.now(UTC)
_KEY = Attributes(0o440)


@dataclass(frozen=True)
class Services(LiveServices):
    """Services that use what the files say when they are told to."""

    signs: list[str]

    def accepts(self, signer: TokenSigner) -> bool:
        return signer.fingerprint in trusted(self.settings)

    def signing_key(self) -> str:
        return self.signs[-1]

    def reload_token_server(self) -> None:
        self.signs.append(TokenSigner.load(self.settings).fingerprint)


def controller(directory: Path) -> Services:
    """A controller with a token-signing pair."""
    (directory / "token").mkdir(parents=True)
    (directory / "state").mkdir()
    pair = TokenServerSettings(
        signing_key=directory / "token/signing.key", signing_certificate=directory / "token/signing.crt"
    )
    settings = Settings(token_server=pair, paths=PathSettings(state=directory / "state"))
    apply(token_keys.SigningPair(settings, _KEY), context_of(directory / "state"))
    apply_trust(settings)
    return Services(settings, FakePrograms(), [TokenSigner.load(settings).fingerprint])


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return controller(tmp_path)


def apply_trust(settings: Settings) -> None:
    trust = File(settings.token_server.trust_bundle, partial(token_keys.trusted_certificates, settings))
    context = context_of(settings.paths.state)
    if change := trust.compare(context):
        change.apply(context)


def trusted(settings: Settings) -> set[str]:
    """Fingerprints of the certificates whose tokens the registry accepts."""
    pem = settings.token_server.trust_bundle.read_bytes()
    return {
        certificate.fingerprint(hashes.SHA256()).hex() for certificate in x509.load_pem_x509_certificates(pem)
    }


def state_of(rolling: Rollover) -> RolloverState:
    """The present state; mypy takes a property for a constant."""
    return rolling.state


def rollover_of(
    services: Services,
    record: Record,
    report: Callable[[str], None] = lambda _: None,
    wait: Callable[[float], None] = lambda _: None,
) -> Rollover:
    settings = services.settings
    return Rollover(settings, record, services, lambda: apply_trust(settings), report, wait, _KEY)


def test_the_old_key_is_trusted_until_its_tokens_have_expired(services: Services) -> None:
    settings = services.settings
    waits: list[float] = []
    reported: list[str] = []
    (old,) = services.signs

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert state_of(rolling) is RolloverState.SWITCHED
        assert trusted(settings) == {old, services.signing_key()}
        assert services.signing_key() != old

    record = Record(settings.paths.state)
    rolling = rollover_of(services, record, reported.append, wait)
    assert state_of(rolling) is RolloverState.NONE
    rolling.begin()
    assert state_of(rolling) is RolloverState.PREPARED
    assert rolling.finish()
    assert state_of(rolling) is RolloverState.NONE
    (seconds,) = waits
    assert 360 < seconds <= 361
    assert len(reported) == 2
    assert trusted(settings) == {services.signing_key()}
    assert not rolling.finish(), "there is nothing left to do"
    assert not any("next" in path or "retired" in path for path in record.files)


def test_cut_short_at_any_place_a_token_can_be_signed_and_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in itertools.count(1):
        services = controller(tmp_path / str(place))
        settings, (old,) = services.settings, services.signs
        with monkeypatch.context() as patched:
            failpoint.reset()
            patched.setenv(failpoint.VARIABLE, f"{place}:ENOSPC")
            rolling = rollover_of(services, Record.load(settings.paths.state))
            try:
                rolling.begin()
                rolling.finish()
                whole = True
            except OSError:
                whole = False
        apply_trust(settings)
        present = TokenSigner.load(settings).fingerprint
        assert {present, services.signing_key()} <= trusted(settings), f"place {place}"

        rolling = rollover_of(services, Record.load(settings.paths.state))
        rolling.begin()
        rolling.finish()
        assert services.signing_key() != old
        assert trusted(settings) == {services.signing_key()}
        assert state_of(rolling) is RolloverState.NONE
        if whole:
            break
    assert place > 20


def test_a_certificate_whose_key_was_never_written_is_no_rollover(services: Services) -> None:
    settings = services.settings
    rolling = rollover_of(services, Record(settings.paths.state))
    key = ec.generate_private_key(ec.SECP256R1())
    rolling.files.next_certificate.write_bytes(signing_certificate(key, now=NOW))
    assert state_of(rolling) is RolloverState.LEFTOVER
    assert not rolling.finish()
    assert state_of(rolling) is RolloverState.NONE
    assert trusted(settings) == set(services.signs)


@pytest.mark.parametrize(
    ("since", "left"), [(0, 361), (100, 261), (361, 0), (10_000, 0), (-50, 361)], ids=str
)
def test_the_wait_is_what_is_left_of_the_longest_token(since: int, left: int) -> None:
    now = 1_000_000.0
    assert rollover.seconds_left(now - since, now, TokenServerSettings()) == left


def test_long_write_tokens_prolong_the_wait() -> None:
    settings = TokenServerSettings(read_lifetime=60, write_lifetime=600)
    assert rollover.seconds_left(0, 0, settings) == 606
