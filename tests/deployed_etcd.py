"""An etcd as sysreg-deploy sets it up on a controller, on loopback, for tests that need no systemd."""

from __future__ import annotations

import grp
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

from devstack import ports, temporary
from devstack.waiting import wait_until
from sysreg_cli.addresses import HostPort
from sysreg_cli.cluster.membership import access
from sysreg_cli.deploy.etcd import ClusterKeys, Passwords, environment
from sysreg_cli.deploy.units import ETCD
from sysreg_cli.settings import ClusterSettings
from tests.etcd_cluster import PACKAGES
from tests.unit.deploy.machine import FakePrograms, apply, context_of

OWN_GROUP = grp.getgrgid(os.getegid()).gr_name
ACTIVE = f"systemctl show --value --property ActiveState {ETCD}"


@dataclass
class DeployedEtcd:
    """It runs, unless ``stop`` was called."""

    settings: ClusterSettings
    program: Path
    environ: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", self.program],
                env=self.environ,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, 60, what="etcd answers")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        context = access(self.settings).tls.context()
        with urllib3.PoolManager(ssl_context=context, retries=False) as pool:
            return pool.request("GET", f"https://{self.settings.listen}/health").status == 200


@contextmanager
def deployed_etcd(release: str, *, passwords: bool = True) -> Iterator[DeployedEtcd]:
    """Run the etcd of a release of Debian. Without ``passwords``, it is not set up to the end."""
    with temporary.directory("etcd-") as directory:
        listen = HostPort("127.0.0.1", _pair_of_ports())
        cluster = ClusterSettings(listen=listen, directory=directory / "cluster")
        context = context_of(directory / "state", FakePrograms({ACTIVE: "active\n"}))
        apply(ClusterKeys(cluster, OWN_GROUP), context)
        lines = [line for line in environment(cluster).decode().splitlines() if line[0] != "#"]
        environ = dict(line.split("=", 1) for line in lines) | {"ETCD_DATA_DIR": f"{directory}/data"}
        program = PACKAGES / f"etcd-{release}/usr/bin/etcd"
        etcd = DeployedEtcd(cluster, program, environ, directory / "log")
        try:
            etcd.start()
            if passwords:
                apply(Passwords(cluster), context)
            yield etcd
        except BaseException as error:
            error.add_note(etcd.log.read_text(errors="replace")[-3000:])
            raise
        finally:
            etcd.stop()


def _pair_of_ports() -> int:
    """A free port whose next one is free, too."""
    return wait_until(lambda: next((p for p in ports.free_ports(20) if not ports.listeners([p, p + 1])), 0))
