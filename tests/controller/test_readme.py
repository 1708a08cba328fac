"""The commands in README and the operator's guide, typed in by a new operator, print what these show."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack import bridge, namespace
from devstack.waiting import wait_until
from tests import certificates as make
from tests.controller.clients import start_runtimes
from tests.controller.debian_root import OTHER, PACKAGES, RELEASES
from tests.controller.installation import listen_for_keystone, openrc, passwords
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import MachineFactory
from tests.controller.wheels import CHECKOUT, wheels
from tests.examples import Step, check, script_of, steps_of, steps_on_hosts

_WHEEL = "A wheel in place of the packages"
#: for the commands that are typed on several hosts; the machines have no ssh
_SCP = """\
scp() { mkdir -p "/run/share/sent/$3"; install -m 600 "$2" "/run/share/sent/$3"; }
export DEBIAN_FRONTEND=noninteractive; [ ! -e openrc ] || . ./openrc
"""
_RETRIED = re.compile(r"system registry-host-(list|show) ")


def _section(text: str, title: str) -> str:
    """The section ``title`` of a document, without its title."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def _type_in(machine: Machine, steps: list[tuple[str, str]], preparation: str) -> None:
    """Type the commands into a shell, in /root. Raises AssertionError unless each prints what it shows."""
    script = script_of(steps, f"{preparation}\ncd /root")
    check(steps, machine.run("bash", "-c", script, timeout=400).stdout)


def _type_on(hosts: Mapping[str, Machine], host: str, step: Step) -> None:
    """Type a command on a host, and carry over what it sends. One that shows hosts is repeated."""

    def typed() -> bool:
        script = script_of([step], f"cd /root\n{_SCP}")
        done = hosts[host].run("bash", "-c", script, timeout=400, status=None)
        check([step], done.stdout)
        # "..." fits the message of a failure, too
        assert done.returncode == ("\nsystem: " in step[1]), done.stdout
        return True

    if _RETRIED.match(step[0]):
        wait_until(typed, 40, what=step[0], pause=0.5)
    else:
        typed()
    for sent in hosts[host].share.glob("sent/root@*/*"):
        target = sent.parent.name.removeprefix("root@").removesuffix(":")
        shutil.move(sent, hosts[target].file("/root"))


def _leave_out_recommends(machine: Machine) -> None:
    """The machine has what the packages depend on, and not what that recommends."""
    machine.file("/etc/apt/apt.conf.d/90tests").write_text('APT::Install-Recommends "false";\n')


def _connect(controller: Machine, worker: Machine, name: str, address: str) -> None:
    """Connect a booted worker with the bridge on a controller."""
    worker.run("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo")
    with namespace.entered_network(controller._init):
        bridge.attach(worker._init, name, address)


def _make_certificate(path: Path) -> None:
    """Make what an operator gets from a CA of its own: the key and the chain in one file."""
    root = make.authority(path.stem)
    path.write_bytes(make.bundle(make.server(root, names=["registry.local", ADDRESS]), root))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("release", RELEASES)
def test_every_command_of_readme_and_guide_prints_what_it_shows(
    machines: MachineFactory, release: str
) -> None:
    guide = (CHECKOUT / "docs/controller.rst").read_text()
    text = _section((CHECKOUT / "README.rst").read_text(), "A controller")
    steps = list(steps_of(text + guide.replace(_section(guide, _WHEEL), "")))
    assert len(steps) >= 20
    with machines.fresh(release) as machine:
        machine.boot()
        listen_for_keystone(machine, now=True)
        start_runtimes(machine)
        machine.file("/root/password").write_text(passwords(machine)["testuser"])
        variables = openrc(machine, "admin", "admin").items()
        machine.file("/root/openrc").write_text(
            "".join(f"export {name}={value}\n" for name, value in variables)
        )
        _leave_out_recommends(machine)
        _type_in(machine, steps, f"export DEBIAN_FRONTEND=noninteractive; cp {PACKAGES}/*.deb /root")
        if release == OTHER:
            _type_the_way_to_three_hosts(machines, machine, guide)


def _type_the_way_to_three_hosts(machines: MachineFactory, controller: Machine, guide: str) -> None:
    steps = list(steps_on_hosts(guide))
    typed = {(host, command) for host, (command, _) in steps}
    shown = {(host, command) for host, (command, _) in steps_on_hosts((CHECKOUT / "README.rst").read_text())}
    assert len(steps) >= 25
    assert len(shown) >= 5
    assert shown <= typed
    hosts = {"controller-0": controller}
    for name in ("registry", "next"):
        _make_certificate(controller.file(f"/root/{name}.pem"))
    with namespace.entered_network(controller._init):
        bridge.make(ADDRESS)
    with machines.fresh(OTHER) as first, machines.fresh(OTHER) as second:
        for number, worker in enumerate((first, second), 1):
            name = f"worker-{number}"
            hosts[name] = worker.boot()
            _connect(controller, worker, name, f"198.51.100.{10 + 10 * number}")
            _leave_out_recommends(worker)
            worker.shell(f"cp {PACKAGES}/*.deb /root")
            worker.file("/root/password").write_text(passwords(worker)["testuser"])
            start_runtimes(worker)
        for host, step in steps:
            _type_on(hosts, host, step)
        accepts = first.shell("ss -Hltnp | grep -v 127.0.0 || true").stdout
        assert "sysreg" not in accepts
        assert "registry" not in accepts
        installed = first.run("dpkg-query", "--show").stdout
        assert "docker-registry" not in installed, "a worker needs no registry of its own"
        assert "sysreg-controller" not in installed


@pytest.mark.timeout(500)
def test_the_wheel_is_installed_as_the_guide_shows(installed: Machine) -> None:
    steps = list(steps_of(_section((CHECKOUT / "docs/controller.rst").read_text(), _WHEEL)))
    installed.shell("rm -r /etc/sysreg /opt/sysreg")
    # machines have no network: pip finds the wheels where we put them
    pip = f"export PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels()} PIP_DISABLE_PIP_VERSION_CHECK=1"
    _type_in(installed, steps, f"{pip}\ncp {wheels()}/sysreg_cli-*.whl {CHECKOUT}/constraints.txt /root")
