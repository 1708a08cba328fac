"""Which alarms the installed certificates call for. Ids, entities and severities are those of StarlingX.

See https://docs.starlingx.io/fault-mgmt/kubernetes/500-series-alarm-messages.html.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sysreg_cli.agent.alarms.expiry import Expiry


class AlarmId(StrEnum):
    """What is wrong."""

    EXPIRES_SOON = "500.200"
    EXPIRED = "500.210"


class Action(StrEnum):
    """What happens to an alarm."""

    SET = "set"
    CLEAR = "clear"


_SEVERITY = {AlarmId.EXPIRES_SOON: "major", AlarmId.EXPIRED: "critical"}


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm. ``id`` and ``entity`` together say which one it is."""

    id: AlarmId
    entity: str
    severity: str
    text: str


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """What the command gets, as JSON. ``time`` is ISO 8601 in UTC."""

    action: Action
    id: AlarmId
    entity: str
    severity: str
    text: str
    time: str


def wanted(certificates: Iterable[Expiry], now: datetime, *, min_days: int) -> tuple[Alarm, ...]:
    """Return the alarms that ``certificates`` call for. Within ``min_days`` days is soon."""
    alarms = []
    for certificate in certificates:
        if now >= certificate.expires:
            alarms.append(_alarm(AlarmId.EXPIRED, certificate, "expired"))
        elif now >= certificate.expires - timedelta(days=min_days):
            alarms.append(_alarm(AlarmId.EXPIRES_SOON, certificate, "expires"))
    return tuple(alarms)


def changes(
    active: Iterable[Alarm], alarms: Iterable[Alarm], now: datetime
) -> list[tuple[AlarmChange, Alarm]]:
    """Return what leads from the ``active`` alarms to ``alarms``: first what is set, then what is cleared."""
    before = {(alarm.id, alarm.entity): alarm for alarm in active}
    after = {(alarm.id, alarm.entity): alarm for alarm in alarms}
    time = now.isoformat(timespec="seconds")
    return [
        *((_change(Action.SET, alarm, time), alarm) for key, alarm in after.items() if key not in before),
        *((_change(Action.CLEAR, alarm, time), alarm) for key, alarm in before.items() if key not in after),
    ]


def _alarm(number: AlarmId, certificate: Expiry, verb: str) -> Alarm:
    entity = f"system.certificate.mode={certificate.mode}.uuid={certificate.uuid}"
    text = (
        f"Certificate {certificate.name} (system certificate-show {certificate.uuid}) {verb} on"
        f" {certificate.expires:%Y-%m-%d %H:%M} UTC"
    )
    return Alarm(number, entity, _SEVERITY[number], text)


def _change(action: Action, alarm: Alarm, time: str) -> AlarmChange:
    return AlarmChange(action, alarm.id, alarm.entity, alarm.severity, alarm.text, time)
