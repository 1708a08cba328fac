"""The Debian packages on booted machines of both releases: installed, upgraded, interrupted, removed, purged.

``make soak`` interrupts dpkg at more places (tests/soak/packages.py).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from tests.controller.clients import REGISTRY, archive, copy, system
from tests.controller.debian_root import PACKAGES, RELEASES, layers
from tests.controller.installation import (
    apt,
    configure,
    listen_for_keystone,
    serves,
    wait_until_served,
)
from tests.controller.load import PULLS, load, prepare
from tests.controller.machine import Machine
from tests.controller.machine_factory import DEPLOY, UNITS, MachineFactory
from tests.controller.packages import (
    OLD,
    STAND_IN,
    deployed_by_wheel,
    install_dependencies,
    interrupt,
    make_old_packages,
    repair_after_interruption,
)

pytestmark = pytest.mark.parametrize("release", RELEASES)

_DEBS = f"{PACKAGES}/*.deb"
_KEEP_SETTINGS = "--option Dpkg::Options::=--force-confold"
#: settings, keys and certificates, without what dpkg puts beside a conffile that was changed
_KEYS = "find /etc/sysreg -type f ! -name '*.dpkg-*' | sort | xargs sha256sum"
# Every file of the machine, but for what has no contents of its own.
_FILES = (
    "find / -xdev -ignore_readdir_race \\( -path /proc -o -path /sys -o -path /run -o -path /dev"
    " -o -path /tmp \\) -prune -o -printf '%y %p %l\\n' | sort\n"
    "getent passwd | cut -d: -f1; getent group | cut -d: -f1"
)
# What the system and other packages write by themselves, or leave.
_LEFT_BY_OTHERS = re.compile(
    "[a-z] /(root|var/log|var/cache|var/lib/(apt|dpkg|systemd|ucf|containerd|docker)|srv)\\b"
    "|[a-z] /etc/(ld.so.cache|[.]pwd.lock|(passwd|group|shadow|gshadow|subuid|subgid)-?)\\b"
    "|[a-z] /(etc/python3|usr/(lib/python3|local/lib|share/python3))\\b"
    "|[a-z] .*/(__pycache__|mime|[.]updated)\\b"
    "|[a-z] /etc/systemd/system/[a-z-]+[.]target[.]wants"  # empty: `systemctl disable` may remove it
)


@pytest.fixture
def fresh(machines: MachineFactory, release: str) -> Iterator[Machine]:
    """A booted machine without sysreg, whose apt has the packages."""
    with machines.fresh(release) as machine:
        yield machine.boot()


@pytest.fixture
def old(machines: MachineFactory, release: str) -> Iterator[Machine]:
    """A booted controller that an older version of the packages deployed."""
    with machines.packaged(release) as machine:
        make_old_packages(machine.boot())
        apt(machine, "install --allow-downgrades", _KEEP_SETTINGS, OLD)
        configure(machine)
        machine.run(DEPLOY)
        wait_until_served(machine)
        yield machine


def _files(machine: Machine) -> set[str]:
    lines = machine.shell(_FILES).stdout.splitlines()
    return {line for line in lines if not _LEFT_BY_OTHERS.match(line)}


def _states(machine: Machine) -> list[str]:
    return [machine.show(unit, "ActiveState") for unit in UNITS]


def test_lintian_finds_no_error_and_no_warning(release: str) -> None:
    found = (layers(release)[0] / PACKAGES.lstrip("/") / "lintian").read_text()
    assert [line for line in found.splitlines() if line.startswith(("E:", "W:"))] == []


@pytest.mark.timeout(600)
def test_installed_deployed_removed_installed_again_and_purged_they_leave_only_images(fresh: Machine) -> None:
    install_dependencies(fresh)
    before = _files(fresh)
    asked = apt(fresh, "install", _DEBS)
    assert "then run sysreg-deploy: it makes this machine a controller" in asked
    assert _states(fresh)[1:] == ["inactive"] * 3, "installing starts nothing of ours"
    assert "9001" not in fresh.file("/etc/docker/registry/config.yml").read_text()
    configure(fresh)
    fresh.run(DEPLOY)
    wait_until_served(fresh)
    copy(fresh, "testuser", archive(fresh, "image", 1000), f"docker://{REGISTRY}/testuser/image:1")
    keys = fresh.shell(_KEYS).stdout

    apt(fresh, "remove sysreg-controller sysreg-cli")
    assert fresh.shell(_KEYS).stdout == keys
    assert _states(fresh)[1:] == ["inactive"] * 3
    assert "9001" not in fresh.file("/etc/docker/registry/config.yml").read_text()
    ours = re.compile("sysreg|certs[.]d|bash_completion.d/system|bin/system")
    left = {line for line in _files(fresh) - before if ours.search(line) and " /etc/sysreg" not in line}
    assert left - {"sysreg", "sysreg-tls", "sysreg-token", "sysreg-tokens"} <= _conffiles(), left

    apt(fresh, f"install {_DEBS}")
    fresh.run(DEPLOY)
    wait_until_served(fresh)
    assert fresh.shell(_KEYS).stdout == keys
    assert "testuser/image" in system(fresh, "admin", "registry-image-list")

    apt(fresh, "purge sysreg-controller sysreg-worker sysreg-cli")
    images = re.compile("[df] /var/lib/docker-registry/docker")
    assert sorted(line for line in _files(fresh) ^ before if not images.match(line)) == []
    assert fresh.file("/var/lib/docker-registry/docker/registry/v2/repositories/testuser/image").is_dir()


def _conffiles() -> set[str]:
    """What dpkg keeps until a purge."""
    return {f"f /etc/bash_completion.d/{name} " for name in ("system", "system.sysreg")}


@pytest.mark.timeout(600)
def test_no_pull_fails_while_packages_are_upgraded_reinstalled_and_downgraded(old: Machine) -> None:
    keys = old.shell(_KEYS).stdout
    prepare(old)
    with load(old, PULLS) as clients:
        clients.another_round()
        asked = apt(old, "install", _KEEP_SETTINGS, _DEBS)
        assert "Configuration file '/etc/sysreg/sysreg.conf'" in asked, "dpkg asks about changed conffiles"
        clients.another_round()
        assert old.run("sysreg-deploy", "--version").stdout != "sysreg-deploy, version 0.1.0\n"
        assert old.run(DEPLOY, "--check").stdout == "no change\n"
        apt(old, "install --reinstall", _DEBS)
        clients.another_round()
        apt(old, "install --allow-downgrades", _KEEP_SETTINGS, OLD)
        assert old.run("sysreg-deploy", "--version").stdout == "sysreg-deploy, version 0.1.0\n"
        clients.another_round()
        assert clients.failures() == []
        print(f"rounds: {clients.rounds()}")
    assert old.run(DEPLOY, "--check").stdout == "no change\n"
    assert old.shell(_KEYS).stdout == keys


@pytest.mark.timeout(600)
def test_dpkg_that_is_killed_in_postinst_serves_on_and_configure_finishes_it(old: Machine) -> None:
    keys = old.shell(_KEYS).stdout
    interrupt(old, f"install {_KEEP_SETTINGS} {_DEBS}", random.choice(("write", "run systemctl")))
    assert serves(old)
    repair_after_interruption(old)
    assert old.shell(_KEYS).stdout == keys


@pytest.mark.timeout(600)
def test_the_platforms_command_is_handed_what_is_not_ours_and_comes_back(fresh: Machine) -> None:
    fresh.shell(STAND_IN)
    apt(fresh, "install /root/platform.deb")
    apt(fresh, f"install {PACKAGES}/sysreg-cli_*.deb")  # no daemon comes with it
    assert "docker-registry" not in fresh.run("dpkg-query", "--show").stdout
    assert fresh.run("system", "host-list", "--nowrap").stdout == "platform host-list --nowrap\n"
    assert "registry-image-list" in fresh.run("system", "help", "registry-image-list").stdout
    apt(fresh, "install --reinstall /root/platform.deb")  # an upgrade of theirs leaves ours in its place
    assert "registry-image-list" in fresh.run("system", "help", "registry-image-list").stdout
    apt(fresh, "remove sysreg-cli")
    assert fresh.run("system", "registry-image-list").stdout == "platform registry-image-list\n"
    assert fresh.run("dpkg-divert", "--list", "*system*").stdout == ""
    apt(fresh, f"purge platform && apt-get -q -y install {PACKAGES}/sysreg-cli_*.deb /root/platform.deb")
    assert fresh.run("system", "host-list").stdout == "platform host-list\n"


@pytest.mark.timeout(600)
def test_a_controller_from_before_there_was_sysreg_worker_is_upgraded(fresh: Machine) -> None:
    listen_for_keystone(fresh, now=True)
    make_old_packages(fresh, before_worker=True)
    apt(fresh, "install", OLD)
    configure(fresh)
    fresh.run(DEPLOY)
    keys = fresh.shell(_KEYS).stdout
    apt(fresh, "install", _KEEP_SETTINGS, _DEBS)
    wait_until_served(fresh)
    assert fresh.run(DEPLOY, "--check").stdout == "no change\n"
    assert "sysreg-worker" in fresh.run("dpkg-query", "--search", "/usr/bin/sysreg-deploy").stdout
    assert fresh.shell(_KEYS).stdout == keys


@pytest.mark.timeout(600)
def test_a_worker_that_has_sysreg_controller_from_before_needs_it_no_more(fresh: Machine) -> None:
    make_old_packages(fresh, before_worker=True)
    apt(fresh, "install", OLD)
    settings = fresh.file("/etc/sysreg/sysreg.conf")
    worker = "[cluster]\nendpoints = 192.0.2.1:2379\nuser = host-worker-1\n"
    settings.write_text(worker)
    # what makes a machine a worker; its etcd is not there
    unit = fresh.file("/etc/systemd/system/sysreg-host.service")
    unit.write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    fresh.run("systemctl", "start", "sysreg-host")
    apt(fresh, "install", _KEEP_SETTINGS, _DEBS)
    apt(fresh, "purge sysreg-controller docker-registry")
    assert settings.read_text() == worker
    assert fresh.show("sysreg-host", "ActiveState") == "active"
    assert "sysreg-worker" in fresh.run("dpkg-query", "--search", "/usr/bin/sysreg-deploy").stdout
    unit.unlink()
    apt(fresh, "purge sysreg-worker sysreg-cli")
    assert not settings.parent.exists()


@pytest.mark.timeout(600)
def test_a_controller_that_a_wheel_deployed_is_taken_over(machines: MachineFactory, release: str) -> None:
    with deployed_by_wheel(machines, release) as machine:
        keys = machine.shell(_KEYS).stdout
        assert machine.file("/usr/local/bin/system").is_symlink()
        machine.shell("dpkg --install /run/share/*.deb </dev/null 2>&1", timeout=200)
        machine.shell("rm -r /opt/sysreg")
        assert (
            machine.shell("type -P system sysreg-deploy").stdout
            == "/usr/bin/system\n/usr/bin/sysreg-deploy\n"
        )
        assert serves(machine)
        assert machine.run(DEPLOY, "--check").stdout == "no change\n"
        assert machine.shell(_KEYS).stdout == keys
        assert not machine.file("/usr/local/bin/system").is_symlink()
