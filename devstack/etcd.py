"""etcd for the hosts of an embedded controller: as ``sysreg-deploy`` sets it up, without systemd."""

from __future__ import annotations

import grp
import os
import platform
import shlex
from pathlib import Path

from sysreg_cli.deploy import etcd
from sysreg_cli.deploy.record import Record
from sysreg_cli.deploy.resource import Context
from sysreg_cli.settings import ClusterSettings

#: where fetch_etcd.sh unpacks the packages of the releases of Debian
PACKAGES = Path("/var/cache/sysreg-tests")
#: the group that may read etcd's key. It runs as root here, so the group of Debian's package is not needed.
GROUP = grp.getgrgid(os.getegid()).gr_name


def programs(release: str = "") -> Path:
    """The directory of etcd's programs of a release of Debian, by default this host's."""
    release = release or platform.freedesktop_os_release()["VERSION_CODENAME"]
    return PACKAGES / f"etcd-{release}/usr/bin"


def provision(cluster: ClusterSettings, directory: Path) -> None:
    """Make the CA of the cluster, the certificates and the password of root, unless they exist.

    ``directory`` is for the record of what was made.
    """
    keys = etcd.ClusterKeys(cluster, GROUP)
    context = Context(Record.load(directory))
    if change := keys.compare(context):
        change.apply(context)


def write_start(cluster: ClusterSettings, script: Path) -> None:
    """Write the script that starts it. What it stores is beside the script."""
    values = "".join(
        f"{name}={shlex.quote(value)}\n" for name, value in environment(cluster, script.parent).items()
    )
    script.write_text(f"set -a\n{values}exec {programs()}/etcd\n")


def environment(cluster: ClusterSettings, directory: Path) -> dict[str, str]:
    """The environment of etcd, which keeps what it stores in ``directory``."""
    lines = [line for line in etcd.environment(cluster).decode().splitlines() if line[0] != "#"]
    return {**dict(line.split("=", 1) for line in lines), "ETCD_DATA_DIR": f"{directory}/data"}
