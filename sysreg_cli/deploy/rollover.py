"""A new token-signing key in place of the present one, with no request refused on the way.

The files say how far a rollover has come; a run that was killed is finished by the next one:

    next.key, next.crt   the next pair is made, and trusted beside the present one
    retired.crt          the next key signs (its file was renamed to signing.key); tokens that were signed
                         before are accepted until the last of them has run out
    none of them         no rollover is under way

``trusted.crt`` is a function of these (``TokenTrust``), and the registry is restarted whenever it changes.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from sysreg_cli.deploy.items import command, write
from sysreg_cli.deploy.keys import (
    bundle,
    next_certificate,
    next_key,
    retired_certificate,
    unfinished,
    write_key,
)
from sysreg_cli.deploy.record import Record
from sysreg_cli.errors import SettingsError, Unavailable
from sysreg_cli.host import files, probe
from sysreg_cli.host.locks import services_lock
from sysreg_cli.pki.selfsigned import signing_certificate
from sysreg_cli.settings import Settings, TokenServerSettings
from sysreg_cli.tokens.signer import REGISTRY_LEEWAY, TokenSigner, write_token_accepted

_LIVE_SECONDS = 20.0
_PAUSE = 0.05
#: a token is dated to the second
_ROUNDING = 1


def begin(settings: Settings, record: Record) -> None:
    """Make the next pair, unless a rollover is under way. Raises SysregError, OSError."""
    if _under_way(settings):
        return
    for path in (next_key(settings), next_certificate(settings), retired_certificate(settings)):
        record.take(path)
    record.retired = 0.0
    record.save()
    _make_next(settings)


def finish(
    settings: Settings,
    record: Record,
    trust: Callable[[], object],
    *,
    report: Callable[[str], None],
    wait: Callable[[float], None],
) -> bool:
    """Take a rollover that is under way to its end; returns whether there was one.

    ``trust`` has the registry trust what the files say, and restarts it where it doesn't; ``wait`` gets the
    seconds for which old tokens are still accepted, and sits them out. Raises SysregError, OSError; a later
    call goes on.
    """
    under_way = _under_way(settings)
    if not unfinished(settings):
        return False
    if next_key(settings).exists():
        _make_next(settings)
        trust()
        _wait_until(
            lambda: _accepts(settings, _next_signer(settings)), "the registry refuses the next key's tokens"
        )
        with services_lock(settings.paths.state, "rollover of the token-signing key", wait=10):
            # a collection signs with the key that it began with; it holds the lock to its end
            _switch(settings)
        report("the next token-signing key is in use")
    if retired_certificate(settings).exists():
        _settle(settings)
        signer = TokenSigner.load(settings)
        if _signing_key(settings) != signer.fingerprint or not record.retired:
            command("systemctl", "reload-or-restart", settings.token_server.unit)
            _wait_until(
                lambda: _signing_key(settings) == signer.fingerprint,
                "the token server signs with another key",
            )
            record.retired = time.time()
            record.save()
        wait(seconds_left(record.retired, time.time(), settings.token_server))
    for path in unfinished(settings):
        files.remove(path)
    trust()
    for path in (next_key(settings), next_certificate(settings), retired_certificate(settings)):
        if record.owns(path):
            record.files.remove(str(path))
    record.retired = 0.0
    record.save()
    if under_way:
        report("the old token-signing key is trusted no more")
    return under_way


def seconds_left(retired: float, now: float, settings: TokenServerSettings) -> float:
    """How long tokens that were signed until ``retired`` may still be accepted; both are Unix times.

    Never longer than from now on: a clock that was set back prolongs nothing.
    """
    longest = max(settings.read_lifetime + REGISTRY_LEEWAY, write_token_accepted(settings.write_lifetime))
    longest += _ROUNDING
    return max(0.0, min(float(longest), retired + longest - now))


def _under_way(settings: Settings) -> bool:
    """Whether there is more of a rollover than a certificate whose key was not written any more."""
    return next_key(settings).exists() or retired_certificate(settings).exists()


def _make_next(settings: Settings) -> None:
    """Make the next pair, or what a run that was killed has not made of it."""
    try:
        _next_signer(settings)
    except SettingsError:
        key = ec.generate_private_key(ec.SECP256R1())
        # the certificate first: a key is in use only together with its certificate
        write(next_certificate(settings), signing_certificate(key, now=datetime.now(UTC)), mode=0o644)
        write_key(next_key(settings), key)


def _next_signer(settings: Settings) -> TokenSigner:
    ours = dataclasses.replace(
        settings.token_server, signing_key=next_key(settings), signing_certificate=next_certificate(settings)
    )
    return TokenSigner.load(dataclasses.replace(settings, token_server=ours))


def _switch(settings: Settings) -> None:
    """Put the next key in use by one rename; whichever key is there, its certificate is, too."""
    ours = settings.token_server
    present, following = ours.signing_certificate.read_bytes(), next_certificate(settings).read_bytes()
    old = bundle(present, without=following)
    write(retired_certificate(settings), old, mode=0o644)
    write(ours.signing_certificate, bundle(old, following), mode=0o644)
    files.rename(next_key(settings), ours.signing_key)


def _settle(settings: Settings) -> None:
    """Leave the new key's certificate alone in its file."""
    ours = settings.token_server
    present = ours.signing_certificate.read_bytes()
    new = bundle(present, without=retired_certificate(settings).read_bytes())
    if new and new != present:
        write(ours.signing_certificate, new, mode=0o644)
    files.remove(next_certificate(settings))


def _accepts(settings: Settings, signer: TokenSigner) -> bool:
    """Whether the live registry accepts the signer's tokens. Raises Unavailable."""
    registry, _ = probe.endpoints(settings, with_agent=False)
    token = signer.sign("sysreg-deploy", (), lifetime=60, service=settings.registry.address)
    return probe.ask(registry, token).status == 200


def _signing_key(settings: Settings) -> str:
    """Fingerprint of the certificate with which the live token server signs. Raises Unavailable."""
    _, token_server = probe.endpoints(settings, with_agent=False)
    try:
        return str(json.loads(probe.ask(token_server).body).get("signing_key"))
    except (ValueError, AttributeError):
        return ""


def _wait_until(condition: Callable[[], bool], problem: str) -> None:
    """Raises Unavailable with ``problem`` if the condition stays false."""
    deadline = time.monotonic() + _LIVE_SECONDS
    while True:
        try:
            if condition():
                return
            why = ""
        except Unavailable as error:
            why = f" ({error})"
        if time.monotonic() >= deadline:
            raise Unavailable(f"{problem}{why}", next_step="see journalctl -b, then run sysreg-deploy again")
        time.sleep(_PAUSE)
