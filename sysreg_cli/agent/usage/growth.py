"""How fast the storage's file system fills: samples of its used bytes, and what follows from them.

The agent takes a sample every six hours, and keeps those of 30 days. The growth is the median of the slopes
between all pairs of samples (Theil-Sen), so that one large image, or one collection, does not decide it. A
resize of the file system changes nothing, because samples are of used bytes. A sample that is later than now,
after the clock was set back, does not count.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from typing import NamedTuple

from sysreg_cli.errors import SysregError, text_of
from sysreg_cli.host import files, registry_config
from sysreg_cli.settings import Settings

log = logging.getLogger("sysreg.agent")

#: grows when a field changes its meaning
_FORMAT = 1
_HOUR, _DAY = 3600.0, 86400.0
_INTERVAL = 6 * _HOUR
_MAX_SAMPLES = 120
# how far back the growth looks, and what it needs at least
_WINDOW, _MIN_SPAN, _MIN_SAMPLES = 14 * _DAY, _DAY, 4
# a later day says nothing
_MAX_DAYS = 3650


class Sample(NamedTuple):
    """The used bytes of the file system at a time, in seconds since the epoch."""

    time: float
    used: int


class Growth:
    """The samples of one controller, in the file ``usage-samples.json``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.paths.state / "usage-samples.json"

    async def watch(self) -> None:
        """Take a sample every six hours, until cancelled. A restart takes none before its time."""
        while True:
            await asyncio.to_thread(self.sample, time.time())
            await asyncio.sleep(_HOUR)

    def sample(self, now: float) -> None:
        """Take a sample if it is time for one. One that cannot be taken is logged, and no error."""
        # without those from before the clock was set back
        samples = [it for it in self._read() if it.time <= now]
        if samples and now - samples[-1].time < _INTERVAL:
            return
        try:
            root = registry_config.load(self._settings).root
            if root is None:
                return
            disk = os.statvfs(root)
            samples.append(Sample(now, (disk.f_blocks - disk.f_bfree) * disk.f_frsize))
            text = json.dumps({"format": _FORMAT, "samples": samples[-_MAX_SAMPLES:]})
            files.write(self._path, text.encode(), mode=0o600)
        except (OSError, SysregError) as error:
            log.warning("the growth of the storage lacks a sample: %s", text_of(error))

    def per_day(self, now: float) -> int | None:
        """Return the growth in bytes a day, or None if it is not known yet."""
        return per_day(self._read(), now)

    def _read(self) -> list[Sample]:
        """Return the samples, the oldest first. A damaged file counts as empty."""
        try:
            document = json.loads(self._path.read_bytes())
            if document["format"] != _FORMAT:
                return []
            return sorted(Sample(float(when), int(used)) for when, used in document["samples"])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s cannot be read: %s", self._path, error)
            return []


def per_day(samples: Sequence[Sample], now: float) -> int | None:
    """Return the growth in bytes a day. None if the samples of two weeks span less than a day."""
    recent = [it for it in samples if now - _WINDOW <= it.time <= now]
    if len(recent) < _MIN_SAMPLES or recent[-1].time - recent[0].time < _MIN_SPAN:
        return None
    slopes = [
        (later.used - earlier.used) / (later.time - earlier.time)
        for earlier, later in combinations(recent, 2)
        if later.time > earlier.time
    ]
    return round(statistics.median(slopes) * _DAY)


def full_on(free: int, growth: int | None, now: float) -> date | None:
    """Return the day on which ``free`` bytes are used up; None if they are not within ten years."""
    if growth is None or growth <= 0 or free / growth > _MAX_DAYS:
        return None
    return (datetime.fromtimestamp(now, UTC) + timedelta(days=free / growth)).date()
