"""What the tests of the Debian packages need on a machine: an older version, a stand-in, a dpkg that dies."""

from __future__ import annotations

from pathlib import Path

from tests.controller.debian_root import HOST, PACKAGES, layers
from tests.controller.installation import apt, configure, listen_for_keystone, serves, wait_until_served
from tests.controller.machine import Machine
from tests.controller.machine_factory import DEPLOY, MachineFactory
from tests.controller.wheels import wheels

#: the packages of an older version, once ``make_old_packages`` has made them
OLD = "/root/old/*.deb"
# It differs in what an upgrade has to handle: the version, the code of both daemons, a unit, a conffile.
_MAKE_OLD = f"""
mkdir /root/old; cd /root/old
for package in sysreg-cli sysreg-worker sysreg-controller; do
    dpkg-deb --raw-extract {PACKAGES}/"$package"_*.deb $package
    sed -i 's/^Version: .*/Version: 0.1.0/' $package/DEBIAN/control
    sed -i 's/\\(sysreg-[a-z]* ([<=]*\\) [0-9.]*)/\\1 0.1.0)/' $package/DEBIAN/control
done
if [ "${{1:-}}" = before-worker ]; then
    rm -r sysreg-worker/DEBIAN
    cp -a sysreg-worker/. sysreg-controller && rm -r sysreg-worker
    sed -i 's/sysreg-worker (=/sysreg-cli (=/' sysreg-controller/DEBIAN/control
fi
code=$(dirname $(find . -path '*/sysreg_cli/__init__.py'))
sed -i 's/^__version__ = .*/__version__ = "0.1.0"/' $code/__init__.py
for daemon in agent token_server; do echo '# older' >>$code/$daemon/main.py; done
etc=$(find . -path '*/usr/share/sysreg/etc')
echo '# older' >>$etc/systemd/system/sysreg-agent.service
for file in $etc sysreg-controller/etc; do echo '# older' >>$file/sysreg/sysreg.conf; done
for package in sysreg-*; do
    (cd $package; find . -path ./DEBIAN -prune -o -type f -printf '%P\\0' | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-deb -Znone --build $package . >/dev/null
    rm -r $package
done
"""
#: makes /root/platform.deb, in the place of StarlingX's package
STAND_IN = """
mkdir -p /root/platform/DEBIAN /root/platform/usr/bin; cd /root
printf 'Package: platform\\nVersion: 1\\nArchitecture: all\\n' >platform/DEBIAN/control
printf 'Maintainer: x <x@example.com>\\nDescription: x\\n' >>platform/DEBIAN/control
printf '#!/bin/sh\\necho platform "$@"\\n' >platform/usr/bin/system
chmod -R 0755 platform
dpkg-deb --build platform platform.deb
"""


_DEPENDENCIES = (
    f"for deb in {PACKAGES}/*.deb; do dpkg-deb --field $deb Depends; done | tr , '\\n'"
    " | sed 's/[(|].*//; s/ //g' | grep -v '^sysreg' | sort -u"
)


def install_dependencies(machine: Machine) -> None:
    """Install what the packages depend on, and the proxy to Keystone."""
    listen_for_keystone(machine, now=True)
    apt(machine, "install", *machine.shell(_DEPENDENCIES).stdout.split())


def make_old_packages(machine: Machine, *, before_worker: bool = False) -> None:
    """Make packages of an older version on the machine, in ``OLD``.

    ``before_worker``: of one in which sysreg-controller had what is in sysreg-worker now.
    """
    machine.shell(f"set -- {'before-worker' if before_worker else ''}\n{_MAKE_OLD}", timeout=120)


def interrupt(machine: Machine, command: str, place: str) -> None:
    """Kill apt, dpkg and sysreg-deploy while postinst is at a failpoint whose name begins with ``place``."""
    words = f"apt-get -q -y --no-install-recommends {command}"
    environ = {"DEBIAN_FRONTEND": "noninteractive", "SYSREG_AGENT_FAILPOINT": f"{place}:stop"}
    process = machine.popen("sh", "-c", words, environ=environ)
    stopped = "ps -eo stat=,args= | grep '^T.*sysreg-deploy --after-upgrade'"
    machine.wait_until(lambda: machine.shell(f"{stopped} || true").stdout, f"it is at {place}", 120)
    # once apt is gone, systemd may be faster with the rest
    machine.shell(
        "pkill -KILL 'apt-get|dpkg'; pkill -KILL -f 'controller.postins[t]|after-upgrad[e]' || true"
    )
    process.communicate(timeout=60)
    status = machine.run("dpkg-query", "--show", "--showformat", "${db:Status-Status}", "sysreg-controller")
    assert status.stdout == "half-configured"


def repair_after_interruption(machine: Machine) -> None:
    """What dpkg tells the administrator to do. Raises AssertionError unless all is well then."""
    machine.run("dpkg", "--configure", "-a", timeout=120)
    wait_until_served(machine)
    assert machine.run(DEPLOY, "--check").stdout == "no change\n"
    assert "Unpacked" not in apt(machine, "check")
    assert serves(machine)


def deployed_by_wheel(machines: MachineFactory, release: str) -> Machine:
    """A booted controller that has the packages as files in /run/share, and their dependencies installed."""
    debs = layers(release)[0] / PACKAGES.lstrip("/")
    machine = machines.deployed() if release == HOST else machines.fresh(release)
    try:
        for deb in debs.glob("*.deb"):
            (machine.share / deb.name).write_bytes(deb.read_bytes())
        machine.boot()
        if release != HOST:
            _deploy_wheel_with_debians_libraries(machine)
        wait_until_served(machine)
    except BaseException:
        machine.close()
        raise
    return machine


def _deploy_wheel_with_debians_libraries(machine: Machine) -> None:
    """Install the wheel. The packages that the Debian packages depend on stand in for those of PyPI."""
    (wheel,) = Path(wheels()).glob("sysreg_cli-*.whl")
    (machine.share / wheel.name).write_bytes(wheel.read_bytes())
    install_dependencies(machine)
    machine.shell(
        "python3 -m venv --system-site-packages /opt/sysreg\n"
        f"/opt/sysreg/bin/pip install --quiet --no-index --no-deps /run/share/{wheel.name}"
    )
    configure(machine)
    machine.run(DEPLOY)
