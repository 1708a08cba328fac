"""An etcd as sysreg-deploy sets it up on a controller, on loopback, for tests that need no systemd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

from devstack import etcd, ports, temporary
from devstack.waiting import wait_until
from sysreg_cli.addresses import HostPort
from sysreg_cli.cluster.membership import access
from sysreg_cli.deploy.etcd import ask_for_passwords
from sysreg_cli.settings import ClusterSettings


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
        listen = HostPort("127.0.0.1", ports.free_pair())
        cluster = ClusterSettings(listen=listen, directory=directory / "cluster")
        etcd.provision(cluster, directory / "state")
        environ = etcd.environment(cluster, directory)
        deployed = DeployedEtcd(cluster, etcd.programs(release) / "etcd", environ, directory / "log")
        try:
            deployed.start()
            if passwords:
                ask_for_passwords(cluster)
            yield deployed
        except BaseException as error:
            error.add_note(deployed.log.read_text(errors="replace")[-3000:])
            raise
        finally:
            deployed.stop()
