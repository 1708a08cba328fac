"""A rollover of the token-signing key: a new key replaces the one in use, and no request is refused.

The files of a rollover say how far it has come, so a later run finishes one that was interrupted:

    PREPARED   next.key, next.crt   the next pair is made; the registry trusts it as well as the one in use
    SWITCHED   retired.crt          the next key signs: next.key was renamed to signing.key. The registry
                                    trusts the old key, too, until the last token signed with it has expired
    LEFTOVER   next.crt alone       a run was killed before it had written next.key
    NONE       none of them         no rollover is under way

``trusted.crt`` follows from these files; see ``trusted_certificates``. Whenever it changes, the registry is
restarted.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from sysreg_cli.deploy.machine import PUBLIC, Attributes, Programs
from sysreg_cli.deploy.record import Record
from sysreg_cli.deploy.token_keys import KEY_ATTRIBUTES, bundle
from sysreg_cli.errors import SettingsError, Unavailable
from sysreg_cli.host import files, probe
from sysreg_cli.host.locks import services_lock
from sysreg_cli.pki.keys import to_pem
from sysreg_cli.pki.selfsigned import signing_certificate
from sysreg_cli.settings import Settings, TokenServerSettings
from sysreg_cli.tokens.rollover_files import RolloverFiles
from sysreg_cli.tokens.signer import TokenSigner, write_token_accepted
from sysreg_cli.tokens.times import REGISTRY_LEEWAY

_LIVE_SECONDS = 20.0
_PAUSE = 0.05
#: the time of issue in a token is rounded to the second
_ROUNDING = 1


class RolloverState(enum.Enum):
    """How far a rollover has come."""

    NONE = "none"
    LEFTOVER = "leftover"
    PREPARED = "prepared"
    SWITCHED = "switched"


@dataclass(frozen=True)
class LiveServices:
    """The services that a rollover concerns. Its methods raise SysregError. Tests have others."""

    settings: Settings
    programs: Programs

    def accepts(self, signer: TokenSigner) -> bool:
        """Whether the registry accepts tokens of ``signer``."""
        registry, _ = probe.endpoints(self.settings, with_agent=False)
        token = signer.sign("sysreg-deploy", (), lifetime=60, service=self.settings.registry.address)
        return probe.request(registry, token).status == 200

    def signing_key(self) -> str:
        """The fingerprint of the certificate with which the token server signs."""
        _, token_server = probe.endpoints(self.settings, with_agent=False)
        try:
            return str(json.loads(probe.request(token_server).body).get("signing_key"))
        except (ValueError, AttributeError):
            return ""

    def reload_token_server(self) -> None:
        """Make the token server read its signing pair again."""
        self.programs.change("systemctl", "reload-or-restart", self.settings.token_server.unit)


@dataclass(frozen=True)
class Rollover:
    """The rollover of one controller. Its methods raise SysregError and OSError; a later run continues."""

    settings: Settings
    record: Record
    services: LiveServices
    #: makes the registry trust what the files say, and restarts it if that changed
    apply_trust: Callable[[], object]
    report: Callable[[str], None]
    #: waits for so many seconds, in which tokens signed with the old key are still accepted
    wait: Callable[[float], None]
    key_attributes: Attributes = KEY_ATTRIBUTES

    @property
    def files(self) -> RolloverFiles:
        return RolloverFiles.of(self.settings)

    @property
    def state(self) -> RolloverState:
        if self.files.next_key.exists():
            return RolloverState.PREPARED
        if self.files.retired_certificate.exists():
            return RolloverState.SWITCHED
        return RolloverState.LEFTOVER if self.files.next_certificate.exists() else RolloverState.NONE

    def begin(self) -> None:
        """Make the next pair, unless a rollover is under way."""
        if self.state in (RolloverState.PREPARED, RolloverState.SWITCHED):
            return
        self.record.take(*self.files)
        self.record.retired = 0.0
        self.record.save()
        self._make_next()

    def finish(self) -> bool:
        """Take a rollover that is under way to its end. Return whether there was one."""
        steps = {
            RolloverState.PREPARED: self._switch,
            RolloverState.SWITCHED: self._retire,
            RolloverState.LEFTOVER: self._forget,
        }
        begun_as = self.state
        while (state := self.state) is not RolloverState.NONE:
            steps[state]()
        return begun_as in (RolloverState.PREPARED, RolloverState.SWITCHED)

    def _make_next(self) -> None:
        """Make the next pair, or the part of it that a killed run has not made."""
        try:
            self._next_signer()
        except SettingsError:
            key = ec.generate_private_key(ec.SECP256R1())
            # The certificate first: a key is used only together with its certificate.
            PUBLIC.write(self.files.next_certificate, signing_certificate(key, now=datetime.now(UTC)))
            self.key_attributes.write(self.files.next_key, to_pem(key))

    def _next_signer(self) -> TokenSigner:
        pair = dataclasses.replace(
            self.settings.token_server,
            signing_key=self.files.next_key,
            signing_certificate=self.files.next_certificate,
        )
        return TokenSigner.load(dataclasses.replace(self.settings, token_server=pair))

    def _switch(self) -> None:
        """PREPARED to SWITCHED: when the registry accepts the next key's tokens, put that key in use."""
        self._make_next()
        self.apply_trust()
        next_signer = self._next_signer()
        _wait_until(lambda: self.services.accepts(next_signer), "the registry refuses the next key's tokens")
        # A certificate install holds this lock to its end, and signs its tokens with the key of its start.
        with services_lock(self.settings.paths.state, "rollover of the token-signing key", wait=10):
            self._rename_next()
        self.report("the next token-signing key is in use")

    def _rename_next(self) -> None:
        """Put the next key in use by one rename. At any time, the file has the certificate of the key."""
        pair = self.settings.token_server
        following = self.files.next_certificate.read_bytes()
        old = bundle(pair.signing_certificate.read_bytes(), without=following)
        PUBLIC.write(self.files.retired_certificate, old)
        PUBLIC.write(pair.signing_certificate, bundle(old, following))
        files.rename(self.files.next_key, pair.signing_key)

    def _retire(self) -> None:
        """SWITCHED to NONE: when all tokens signed with the old key have expired, end the trust in it."""
        self._remove_old_certificate()
        signer = TokenSigner.load(self.settings)

        def signs() -> bool:
            return self.services.signing_key() == signer.fingerprint

        if not signs() or not self.record.retired:
            self.services.reload_token_server()
            _wait_until(signs, "the token server signs with another key")
            self.record.retired = time.time()
            self.record.save()
        self.wait(seconds_left(self.record.retired, time.time(), self.settings.token_server))
        self._forget()
        self.report("the old token-signing key is trusted no more")

    def _remove_old_certificate(self) -> None:
        """Leave the new key's certificate alone in the file of the certificate in use."""
        path = self.settings.token_server.signing_certificate
        present = path.read_bytes()
        new = bundle(present, without=self.files.retired_certificate.read_bytes())
        if new and new != present:
            PUBLIC.write(path, new)
        files.remove(self.files.next_certificate)

    def _forget(self) -> None:
        """Remove the files of the rollover, and the trust in their certificates."""
        for path in self.files.present:
            files.remove(path)
        self.apply_trust()
        for path in self.files:
            if self.record.owns(path):
                self.record.files.remove(str(path))
        self.record.retired = 0.0
        self.record.save()


def seconds_left(retired: float, now: float, settings: TokenServerSettings) -> float:
    """How long tokens signed until ``retired`` may still be accepted. Both are Unix times.

    It is at most the longest life of a token, even if the clock was set back.
    """
    longest = max(settings.read_lifetime + REGISTRY_LEEWAY, write_token_accepted(settings.write_lifetime))
    longest += _ROUNDING
    return max(0.0, min(float(longest), retired + longest - now))


def _wait_until(condition: Callable[[], bool], problem: str) -> None:
    """Raise Unavailable with ``problem`` if the condition stays false."""
    deadline = time.monotonic() + _LIVE_SECONDS
    while True:
        try:
            if condition():
                return
            reason = ""
        except Unavailable as error:
            reason = f" ({error})"
        if time.monotonic() >= deadline:
            raise Unavailable(
                f"{problem}{reason}", next_step="see journalctl -b, then run sysreg-deploy again"
            )
        time.sleep(_PAUSE)
