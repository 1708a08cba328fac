"""The agent's metrics in Prometheus' text format (docs/contracts.rst, "Metrics").

They are collected when somebody asks. What cannot be found out then is left out.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sysreg_cli.agent.alarms import expiry
from sysreg_cli.agent.garbage.service import CollectionService
from sysreg_cli.agent.renewal.record import SourceRecord
from sysreg_cli.errors import SysregError
from sysreg_cli.host import probe
from sysreg_cli.settings import Settings
from sysreg_cli.v1.collections import Outcome, State

_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_DAY_SECONDS = 86400


def build(metrics: AgentMetrics) -> ASGIApp:
    """Return the application that answers GET /metrics, and nothing else."""

    async def show(_request: Request) -> Response:
        # in a thread: it reads files, and asks the token server
        text = await asyncio.to_thread(metrics.text)
        return Response(text, headers={"Content-Type": _TYPE})

    return Starlette(routes=[Route("/metrics", show, methods=["GET"])])


class AgentMetrics:
    """Collects the metrics. ``source`` returns what is known about the source of renewed certificates."""

    def __init__(
        self, settings: Settings, collections: CollectionService, source: Callable[[], SourceRecord]
    ) -> None:
        self._settings = settings
        self._collections = collections
        self._source = source
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """Return all metrics. Blocks for seconds at most."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all metrics; prometheus_client calls this."""
        yield from self._certificates()
        yield from self._renewal()
        yield from self._last_collection()
        yield from self._space()
        yield from self._refused_logins()

    def _certificates(self) -> Iterator[GaugeMetricFamily]:
        now = datetime.now(UTC)
        days = GaugeMetricFamily(
            "sysreg_certificate_days_left",
            "Days until an installed certificate expires; negative afterwards",
            labels=("name", "mode"),
        )
        for certificate in expiry.installed(self._settings):
            left = (certificate.expires - now).total_seconds() / _DAY_SECONDS
            days.add_metric((certificate.name, certificate.mode), round(left, 3))
        yield days

    def _renewal(self) -> Iterator[GaugeMetricFamily]:
        record = self._source()
        if not record.source:
            return
        yield _gauge(
            "sysreg_certificate_source_problem",
            "Whether what the source of the certificate holds is not in use",
            bool(record.problem),
        )
        if record.seen:
            yield _gauge(
                "sysreg_certificate_source_seen_timestamp_seconds",
                "When the source of the certificate was read last",
                datetime.fromisoformat(record.seen).timestamp(),
            )

    def _last_collection(self) -> Iterator[GaugeMetricFamily]:
        """Yield what is known of the last collection that was no dry run."""
        status = self._collections.status(names=False)
        name = "sysreg_collection"
        yield _gauge(f"{name}_running", "Whether a garbage collection runs", status.state is State.RUNNING)
        last = next((result for result in status.results if not result.options.dry_run), None)
        if last is None:
            return
        outcomes = GaugeMetricFamily(
            f"{name}_last_outcome", "1 for the outcome of the last garbage collection", labels=("outcome",)
        )
        for outcome in Outcome:
            outcomes.add_metric((outcome.value,), float(last.outcome == outcome))
        yield outcomes
        yield _gauge(
            f"{name}_last_end_timestamp_seconds",
            "When the last garbage collection ended",
            datetime.fromisoformat(last.ended).timestamp(),
        )
        yield _gauge(
            f"{name}_last_freed_bytes", "Bytes that the last garbage collection freed", float(last.bytes)
        )
        yield _gauge(
            f"{name}_last_writes_held_seconds",
            "Seconds for which the last garbage collection held pushes",
            last.writes_held,
        )

    def _space(self) -> Iterator[GaugeMetricFamily]:
        free = GaugeMetricFamily(
            "sysreg_free_bytes", "Space that is free for files in a directory", labels=("directory",)
        )
        for directory in (self._settings.registry.storage, self._settings.paths.state):
            try:
                status = os.statvfs(directory)
            except OSError:
                continue
            free.add_metric((str(directory),), float(status.f_bavail * status.f_frsize))
        yield free

    def _refused_logins(self) -> Iterator[GaugeMetricFamily]:
        """Ask the token server, which alone knows them."""
        try:
            (token_server,) = (
                endpoint
                for endpoint in probe.endpoints(self._settings, with_agent=False)
                if endpoint.name == self._settings.token_server.unit
            )
            number = json.loads(probe.request(token_server).body)["refused_logins"]
            yield _gauge(
                "sysreg_refused_logins",
                "Credentials that Keystone refused, and that the token server keeps away from it",
                float(number),
            )
        except (SysregError, ValueError, KeyError, TypeError):
            return


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))
