"""Checks of Keystone, clocks, tokens, and refused logins."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from sysreg_cli.errors import SettingsError, SysregError
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.remedies import DEPLOY, SET_CLOCK, reload_command, restart
from sysreg_cli.health.results import Remedy, Result, Skipped, failed, ok, warning
from sysreg_cli.host import probe
from sysreg_cli.host.probe import NoResponse, Response
from sysreg_cli.tokens.times import REGISTRY_LEEWAY, wrong_clock

# Seconds. The header Date is in whole seconds, and a busy machine takes its time.
_CLOCK_TOLERANCE = 10
_CORRECT_URL = Remedy(
    "start Keystone there, or correct auth_url in section [keystone] of sysreg.conf and apply it",
    "sysreg-deploy",
)
_NAME_CA = Remedy(
    "name the file of its CA as ca_file in section [keystone] of sysreg.conf, and apply it", "sysreg-deploy"
)


def keystone(readings: Readings) -> Result:
    """Keystone answers with its API v3."""
    url = readings.settings.keystone.auth_url
    if not url:
        return failed("auth_url in section [keystone] of sysreg.conf is not set", _CORRECT_URL)
    try:
        answer = readings.keystone()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "verify_message", "") or getattr(error, "strerror", "")
        remedy = _NAME_CA if isinstance(error, ssl.SSLCertVerificationError) else _CORRECT_URL
        return failed(f"Keystone at {url} does not answer ({reason or type(error).__name__})", remedy)
    try:
        version = json.loads(answer.body)["version"]["id"]
    except (ValueError, KeyError, TypeError):
        return failed(f"what answers at {url} ({answer.status}) is not Keystone's API v3", _CORRECT_URL)
    return ok(f"Keystone {version} answers at {url}")


def clocks(readings: Readings) -> Result:
    """The clocks of registry and Keystone agree with that of this host."""
    asked = {"the registry": readings.registry, "Keystone": readings.keystone}
    offsets = {name: offset for name, ask in asked.items() if (offset := _offset(ask)) is not None}
    if not offsets:
        raise Skipped("neither the registry nor Keystone answers")
    wrong = {name: offset for name, offset in offsets.items() if abs(offset) > _CLOCK_TOLERANCE}
    if not wrong:
        return ok(f"those of {' and '.join(offsets)} agree with that of this host")
    what = "; ".join(
        f"the clock of {name} is {abs(offset)} s {'ahead of' if offset > 0 else 'behind'} that of this host"
        for name, offset in wrong.items()
    )
    return (failed if max(map(abs, wrong.values())) > REGISTRY_LEEWAY else warning)(what, SET_CLOCK)


def _offset(ask: Callable[[], Response]) -> int | None:
    """Return by how many seconds a service's clock is ahead of this host's; None if it does not tell."""
    try:
        response = ask()
        return round(parsedate_to_datetime(response.date).timestamp() - response.received)
    except (SysregError, OSError, http.client.HTTPException, ValueError, TypeError):
        return None


def token(readings: Readings) -> Result:
    """The registry accepts a token of the key on the disk, and the token server signs with that key."""
    settings = readings.settings
    try:
        made, fingerprint = readings.token(), readings.signer().fingerprint
    except SettingsError as error:
        return failed("; ".join(error.problems), DEPLOY)
    key = settings.token_server.signing_key
    endpoint = readings.registry_endpoint
    try:
        readings.registry()
        response = probe.request(endpoint, made)
    except NoResponse:
        raise Skipped("the registry does not answer") from None
    if response.status == 401:
        if clock := wrong_clock(made, response.date):
            return failed(clock, SET_CLOCK)
        return _refused(readings)
    if response.status != 200:
        what = f"the registry answers {response.status} to a token of {key}"
        return failed(what, restart(settings, endpoint.name))
    try:
        in_use = readings.token_server_health.get("signing_key", fingerprint)
    except NoResponse:
        in_use = fingerprint
    if in_use != fingerprint:
        what = f"the token server signs with another key than {key}"
        command = reload_command(settings, settings.token_server.unit)
        return failed(what, Remedy("let it read the key again", command))
    return ok(f"the registry accepts a token of {key}")


def _refused(readings: Readings) -> Result:
    """Say why the registry refuses a token of the key on the disk."""
    settings = readings.settings.token_server
    what = f"the registry refuses a token of {settings.signing_key}"
    try:
        is_trusted = settings.signing_certificate.read_bytes() in settings.trust_bundle.read_bytes()
    except OSError as error:
        return failed(f"{what}: {error.filename}: {error.strerror}", DEPLOY)
    if is_trusted:
        # the registry reads the file when it starts
        return failed(what, restart(readings.settings, readings.settings.registry.unit))
    return failed(f"{what}: {settings.trust_bundle} lacks its certificate", DEPLOY)


def logins(readings: Readings) -> Result:
    """The token server keeps no refused credentials away from Keystone."""
    try:
        number = readings.token_server_health.get("refused_logins")
    except NoResponse:
        raise Skipped("the token server does not answer") from None
    if not isinstance(number, int):
        raise Skipped("the token server does not tell")
    if not number:
        return ok("no login is being refused")
    unit = readings.settings.token_server.unit
    remedy = Remedy(
        "correct pull secrets and scripts with an old password; to ask Keystone again at once",
        reload_command(readings.settings, unit),
    )
    return warning(f"pairs of user and password that Keystone has refused lately: {number}", remedy)
