"""sysreg-deploy runs etcd on a controller, if the settings say so, as systemd confines it."""

from __future__ import annotations

import shutil

from devstack import etcd
from tests.controller.debian_root import HOST
from tests.controller.installation import configure
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY

UNIT = "sysreg-etcd.service"
_LISTEN = f"[cluster]\nlisten = {ADDRESS}:2479\n"


def install_etcd(machine: Machine) -> None:
    """Do what apt-get install etcd-server does, whose unit is masked."""
    shutil.copy2(etcd.programs(HOST) / "etcd", machine.file("/usr/bin/etcd"))
    machine.shell("useradd --system --user-group --home-dir /var/lib/etcd --shell /usr/sbin/nologin etcd")


def test_etcd_is_deployed_repaired_and_withdrawn(deployed: Machine) -> None:
    configure(deployed, extra=_LISTEN)
    refused = deployed.run(DEPLOY, status=1)
    assert "etcd is not installed" in refused.stderr
    assert "apt-get install etcd-server" in refused.stderr
    assert deployed.run("systemctl", "is-enabled", "etcd.service", status=None).stdout == "masked\n"

    install_etcd(deployed)
    assert deployed.run(DEPLOY).stdout.splitlines()[-1].startswith("done: ")
    assert deployed.show(UNIT, "ActiveState") == "active"
    assert deployed.show(UNIT, "UnitFileState") == "enabled"
    assert deployed.run(DEPLOY).stdout == "done: no changes, serving at registry.local:9001\n"
    deployed.run(DEPLOY, "--check")
    process = deployed.shell(f"ps -o user= -p {deployed.show(UNIT, 'MainPID')}").stdout
    assert process == "etcd\n"

    # etcd keeps what it has when it is repaired and restarted
    epoch = _epoch(deployed)
    deployed.file("/etc/sysreg/cluster/server.key").unlink()
    assert f"restart {UNIT}" in deployed.run(DEPLOY).stdout
    assert _epoch(deployed) == epoch

    configure(deployed)
    assert f"stop {UNIT}" in deployed.run(DEPLOY).stdout
    assert deployed.show(UNIT, "ActiveState") == "inactive"
    assert deployed.file("/var/lib/sysreg-etcd/data").is_dir()
    configure(deployed, extra=_LISTEN)
    deployed.run(DEPLOY)
    assert _epoch(deployed) == epoch

    removed = deployed.run(DEPLOY, "--remove").stdout
    assert "left etcd.service masked" in removed
    for gone in ("/var/lib/sysreg-etcd", "/etc/sysreg/cluster", "/etc/sysreg/etcd.env"):
        assert not deployed.file(gone).exists()


def _epoch(machine: Machine) -> str:
    script = (
        "from sysreg_cli import settings; from sysreg_cli.cluster.etcd import EtcdStore;"
        " from sysreg_cli.cluster.membership import access; from sysreg_cli.cluster.port import EPOCH;"
        " print(EtcdStore(access(settings.load().cluster)).get(EPOCH).value.decode())"
    )
    return machine.run("/opt/sysreg/bin/python", "-c", script).stdout
