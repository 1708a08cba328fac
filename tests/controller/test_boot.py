"""A controller comes back by itself after its power went, and moves to another machine with its backup."""

from __future__ import annotations

import time

from tests.controller.clients import (
    REGISTRY,
    archive,
    ca_signed_certificate,
    copy,
    system,
)
from tests.controller.installation import wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY, UNITS, MachineFactory
from tests.soak.controller import keystone_comes_later


def test_after_a_power_cut_everything_serves_again_with_the_installed_certificate(deployed: Machine) -> None:
    ca_signed_certificate(deployed.share, "registry.local", ADDRESS)
    system(deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem")
    shown = system(deployed, "admin", "certificate-show", "docker_registry")
    for go_down in (deployed.power_off, deployed.power_cut):
        go_down()
        deployed.boot()
        wait_until_served(deployed)
        served = time.monotonic()
        up = int(deployed.show("multi-user.target", "ActiveEnterTimestampMonotonic")) / 1e6
        print(f"served {served - up:.1f} s after multi-user.target")  # measured by bench/controller.py
        assert system(deployed, "admin", "certificate-show", "docker_registry") == shown
        for unit in UNITS:
            assert deployed.show(unit, "ActiveState") == "active"
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"


def test_when_keystone_comes_up_later_users_are_told_to_wait_and_then_served(
    machines: MachineFactory,
) -> None:
    with machines.deployed() as machine:  # `make soak` waits for a whole minute
        keystone_comes_later(machine.boot(), 0)


def test_a_backup_of_settings_keys_and_storage_makes_another_machine_the_same_controller(
    deployed: Machine, machines: MachineFactory
) -> None:
    ca_signed_certificate(deployed.share, "registry.local", ADDRESS)
    system(deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem")
    shown = system(deployed, "admin", "certificate-show", "docker_registry")
    image = f"docker://{REGISTRY}/testuser/busybox:kept"
    copy(deployed, "testuser", archive(deployed, "busybox", 1_000_000), image)
    deployed.run(
        "tar", "-C", "/", "-czf", "/run/share/backup.tar.gz", "etc/sysreg", "var/lib/docker-registry"
    )
    backup = (deployed.share / "backup.tar.gz").read_bytes()
    deployed.power_cut()

    with machines.installed() as fresh:
        (fresh.share / "backup.tar.gz").write_bytes(backup)
        fresh.boot()
        fresh.run("tar", "-C", "/", "-xzf", "/run/share/backup.tar.gz")
        fresh.run(DEPLOY)
        wait_until_served(fresh)
        assert system(fresh, "admin", "certificate-show", "docker_registry") == shown
        copy(fresh, "testuser", image, "dir:/run/share/pulled")
