"""The command lines and environments of an embedded controller's programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from devstack import keystone_server, workers
from devstack.endpoints import USUAL_PORTS
from devstack.options import Options
from devstack.paths import Paths
from devstack.programs import AGENT, ETCD, KEYSTONE, REGISTRY, REGISTRY_USER, TOKEN_SERVER
from devstack.supervisor import MARK, Program

#: where the console scripts of this checkout are
BIN = Path(sys.executable).parent
_AS_REGISTRY = ("setpriv", "--reuid", REGISTRY_USER, "--regid", REGISTRY_USER, "--groups", "sysreg-tls", "--")


def programs(paths: Paths, options: Options) -> Iterator[Program]:
    """The programs that the controller runs."""
    for program in _all(paths, options):
        if program.name in options.programs:
            environment = {**program.environment, **options.environment.get(program.name, {})}
            yield replace(program, environment={MARK: str(paths.root), **environment})
    if options.hosts:
        yield Program(ETCD, ["sh", str(paths.etcd_script)], paths.root, {MARK: str(paths.root)})
    for worker in workers.named(paths.workers, options.hosts):
        yield worker.program(str(paths.root))


def _all(paths: Paths, options: Options) -> Iterator[Program]:
    clock = fake_clock(paths.clock) if options.fake_clock else {}
    daemon = {"SYSREG_CONF": str(paths.settings), **clock}
    registry = [*_AS_REGISTRY, "docker-registry", "serve", str(paths.registry_config)]
    if not options.running_keystone:
        environment = {**keystone_server.environment(paths.keystone), **clock}
        # gunicorn's quick stop; with SIGTERM it waits for idle connections
        yield Program(KEYSTONE, keystone_server.command(), paths.keystone, environment, stop_signal="QUIT")
    elif options.netns:
        yield Program(KEYSTONE, _proxy(paths, options.running_keystone.socket), paths.root)
    yield Program(REGISTRY, registry, paths.root)
    yield Program(TOKEN_SERVER, [str(BIN / "sysreg-token-server")], paths.root, daemon)
    # after an etcd that does not ask for passwords yet, the agent would pause for 30 s
    yield Program(AGENT, [str(BIN / "sysreg-agent")], paths.root, daemon, is_late=options.hosts > 0)


def _proxy(paths: Paths, socket: Path) -> list[str]:
    """The command line of a proxy in the namespace, from Keystone's usual port to a unix socket."""
    return [
        "systemd-socket-activate",
        f"--listen=127.0.0.1:{USUAL_PORTS['keystone']}",
        f"--setenv={MARK}={paths.root}",
        "/lib/systemd/systemd-socket-proxyd",
        str(socket),
    ]


def fake_clock(file: Path) -> dict[str, str]:
    """The environment of a program that reads in ``file`` how far its clock is ahead."""
    libraries = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {
        "LD_PRELOAD": str(next(libraries)),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
    }
