"""``sysreg-agent``: recovers, then serves the API on the unix socket, and on TLS if ``listen`` is set.

Runs as root. SIGTERM ends it after the calls under way. SIGHUP reads the TLS certificate again, and forgets
what Keystone said about tokens. systemd may start it by socket activation, and watches it (Type=notify).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import struct
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute

from sysreg_cli.addresses import HostPort
from sysreg_cli.agent import metrics, openapi, registry_host, registry_image
from sysreg_cli.agent.alarms.delivery import Alarms
from sysreg_cli.agent.alarms.reminder import remind
from sysreg_cli.agent.app import build
from sysreg_cli.agent.certificate import api as certificate_api
from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.garbage import api as garbage_api
from sysreg_cli.agent.garbage.service import CollectionService
from sysreg_cli.agent.health import api as health_api
from sysreg_cli.agent.health.blobs import BlobReader
from sysreg_cli.agent.identity import CallerAuthenticator, Peer
from sysreg_cli.agent.metrics import AgentMetrics
from sysreg_cli.agent.prune import api as prune_api
from sysreg_cli.agent.renewal.renewal import Pace, Renewal, source_of
from sysreg_cli.agent.restore import api as restore_api
from sysreg_cli.agent.usage import api as usage_api
from sysreg_cli.agent.usage.growth import Growth
from sysreg_cli.daemon import program, server, systemd
from sysreg_cli.daemon.accepting import ConnectionLimits, reserve_descriptors
from sysreg_cli.daemon.limits import GuardedProtocol
from sysreg_cli.daemon.listeners import tcp_listener, unix_listener
from sysreg_cli.daemon.tls import ServerTLS, load_server_tls
from sysreg_cli.errors import SysregError, Unavailable
from sysreg_cli.settings import Settings
from sysreg_cli.v1.collections import Phase

if TYPE_CHECKING:
    from sysreg_cli.agent.hosts.cluster import HostCluster

log = logging.getLogger("sysreg.agent")

_PROGRAM = "sysreg-agent"
#: connections of each listener of the API, and of the metrics
LIMITS = ConnectionLimits(total=200, for_client=32)
METRICS_LIMITS = ConnectionLimits(total=20, for_client=10)
# An install that rolls back takes the longest of all calls.
_STOP_SECONDS = 200
# At the start an interrupted install may have to be undone.
_RECOVERY_SECONDS = 600
# Calls wait in threads for Keystone, for locks and for services.
_THREADS = 32


class PeerProtocol(GuardedProtocol):
    """Puts the process at the other end of a unix socket into the ``state.peer`` of each request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connection: socket.socket = transport.get_extra_info("socket")
        if connection.family == socket.AF_UNIX:
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            self.app_state = {**self.app_state, "peer": Peer(*struct.unpack("3i", raw))}
        super().connection_made(transport)


def parser() -> argparse.ArgumentParser:
    """Return the options of the console script."""
    return program.parser(
        _PROGRAM,
        "Install certificates and collect garbage for the local Docker registry.",
        on_sighup="reads the TLS certificate again, and forgets what Keystone said about tokens",
    )


def main(arguments: Sequence[str] | None = None, *, pace: Pace = Pace()) -> int:  # noqa: B008 - it is frozen
    """Run the agent. Return the exit status: 0 after SIGTERM, 1 if it can't start."""
    parser().parse_args(arguments)
    os.umask(0o022)
    program.log_to_stderr("%(name)s: %(message)s")
    return program.run(_PROGRAM, lambda settings: asyncio.run(_serve(settings, pace)))


async def _serve(settings: Settings, pace: Pace) -> None:
    settings.paths.state.mkdir(mode=0o755, parents=True, exist_ok=True)
    activated = systemd.activated_sockets()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    systemd.notify(f"EXTEND_TIMEOUT_USEC={_RECOVERY_SECONDS * 1_000_000}")
    collections = CollectionService(settings)
    await asyncio.to_thread(_recover, settings, collections)
    tls = load_server_tls(settings.certificate) if settings.agent.listen else None
    authenticator = CallerAuthenticator(settings.keystone)
    context = AgentContext(settings, authenticator)
    cluster = _cluster(settings)
    change = CertificateChange(
        settings,
        own_tls=tls,
        collecting=partial(_holds_writes, collections),
        hosts=cluster.rollout if cluster else None,
    )
    alarms = Alarms(settings)
    renewal = Renewal(settings, change, source_of(settings.certificate, pace), pace)
    growth = Growth(settings)
    blobs = BlobReader(settings)
    configuration = partial(
        server.configuration,
        build(_routes(context, change, renewal, collections, growth, cluster, blobs)),
        protocol=PeerProtocol,
        stop_seconds=_STOP_SECONDS,
    )
    reserve_descriptors(2 * LIMITS.total + METRICS_LIMITS.total)
    listeners = [
        server.Listener(listener, configuration(), LIMITS)
        for listener in activated or [unix_listener(settings.agent.socket, settings.agent.group)]
    ]
    if settings.agent.listen:
        listener = tcp_listener(settings.agent.listen)
        listeners.append(server.Listener(listener, configuration(tls=tls), LIMITS))
    if settings.agent.metrics:
        figures = AgentMetrics(settings, collections, lambda: renewal.record)
        listeners += _metrics_listener(settings.agent.metrics, figures)
    tasks = (remind(settings.certificate), alarms.watch(), growth.watch())
    background = [asyncio.create_task(task) for task in tasks]

    def stop() -> None:
        alarms.stop()
        blobs.stop()
        for task in background:
            task.cancel()
        renewal.stop()
        change.stop_waiting()
        if cluster:
            cluster.stop()

    def start() -> None:
        if cluster:
            cluster.start()
        # not before the agent serves: an install probes its listener, too
        renewal.start()

    await server.serve(
        listeners, on_ready=start, on_reload=partial(_reload, authenticator, tls), on_stop=stop
    )
    context.refusals.flush()
    await asyncio.to_thread(renewal.join)
    if not activated:
        settings.agent.socket.unlink(missing_ok=True)


def _recover(settings: Settings, collections: CollectionService) -> None:
    """Finish what an agent that was killed had begun, before any call is accepted."""
    try:
        CertificateChange(settings).recover()
    except SysregError as error:
        # the agent serves all the same: an install may be what repairs this
        log.error("%s", error)
    collections.recover()


def _holds_writes(collections: CollectionService) -> bool:
    """Whether a collection is past its scan: it holds the write lock, or will take it again."""
    return collections.status(names=False).phase not in ("", Phase.SCAN)


def _cluster(settings: Settings) -> HostCluster | None:
    """Return the other hosts, None if this controller is alone. Raises SettingsError."""
    if not settings.cluster.endpoints:
        return None
    # a controller that is alone imports nothing of it
    from sysreg_cli.agent.hosts.cluster import HostCluster

    return HostCluster.of(settings)


def _routes(
    context: AgentContext,
    change: CertificateChange,
    renewal: Renewal,
    collections: CollectionService,
    growth: Growth,
    cluster: HostCluster | None,
    blobs: BlobReader,
) -> list[BaseRoute]:
    return [
        *certificate_api.routes(context, change, lambda: renewal.record, cluster=cluster),
        *registry_host.routes(context, cluster),
        *garbage_api.routes(context, collections),
        *registry_image.routes(context),
        *usage_api.routes(context, partial(collections.status, names=False), growth),
        *prune_api.routes(context),
        *health_api.routes(context, blobs),
        *restore_api.routes(context),
        *openapi.routes(),
    ]


def _metrics_listener(address: HostPort, figures: AgentMetrics) -> list[server.Listener]:
    """Return the listener for the metrics; none if the port is taken: the agent has more to do."""
    try:
        listener = tcp_listener(address)
    except Unavailable as error:
        log.error("there are no metrics: %s", error)
        return []
    config = server.configuration(metrics.build(figures), stop_seconds=1)
    return [server.Listener(listener, config, METRICS_LIMITS)]


def _reload(authenticator: CallerAuthenticator, tls: ServerTLS | None) -> None:
    authenticator.forget()
    if tls is not None:
        try:
            tls.reload()
        except OSError as error:
            log.error("the TLS certificate can't be read again, the old one stays: %s", error)


if __name__ == "__main__":
    sys.exit(main())
