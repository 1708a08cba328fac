"""The times in a registry token, and whether the registry refused it because of a clock (RFC 7519)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from sysreg_cli.tokens.claims import claims

#: The registry accepts a token for so many seconds before ``nbf`` and after ``exp`` (2.8 and 3.x; fixed).
REGISTRY_LEEWAY = 60
#: what to do about a clock that is wrong
SET_CLOCKS = "set the clocks of both machines, and let NTP keep them right (timedatectl)"


def wrong_clock(token: str, date: str) -> str:
    """Say which clock is wrong and by how much, if that is why a registry refuses ``token``. Else "".

    ``token`` was issued just now: its times show the clock of whoever issued it. ``date`` is the header Date
    of the registry's response, which shows the registry's clock.
    """
    try:
        times = claims(token)
        now = parsedate_to_datetime(date).timestamp()
        issued, begins, ends = (int(times[name]) for name in ("iat", "nbf", "exp"))
        if begins - REGISTRY_LEEWAY <= now <= ends + REGISTRY_LEEWAY:
            return ""
        ahead = int(now) - issued
    except (ValueError, TypeError, LookupError, OverflowError):
        return ""
    word = "ahead of" if ahead > 0 else "behind"
    return f"the registry's clock is {abs(ahead)} s {word} that of the token server, more than it tolerates"
