"""A controller comes back by itself after its power went, and moves to another machine with its backup."""

from __future__ import annotations

from tests.controller.furnish import serves, wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.people import (
    REGISTRY,
    ca_signed_certificate,
    login,
    make_image,
    push,
    start_runtimes,
    system,
)
from tests.controller.test_deploy import DEPLOY, UNITS


def test_after_a_power_cut_everything_serves_again_with_the_installed_certificate(deployed: Machine) -> None:
    ca_signed_certificate(deployed.share, "registry.local", ADDRESS)
    system(deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem")
    shown = system(deployed, "admin", "certificate-show", "docker_registry")
    for go_down in (deployed.power_off, deployed.power_cut):
        go_down()
        deployed.boot()
        wait_until_served(deployed)
        assert system(deployed, "admin", "certificate-show", "docker_registry") == shown
        for unit in UNITS:
            assert deployed.show(unit, "ActiveState") == "active"
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"


def test_when_keystone_comes_up_later_users_are_told_to_wait_and_then_served(deployed: Machine) -> None:
    deployed.run("systemctl", "disable", "--quiet", "keystone.service")
    deployed.power_off()
    deployed.boot()
    for unit in UNITS:
        deployed.wait_until(lambda unit=unit: deployed.show(unit, "ActiveState") == "active", unit, 30)  # type: ignore[misc]
    for _ in range(3):
        said = login(deployed, "testuser", status=1)
        assert "503" in said, "a Keystone that is away is no wrong password"
    deployed.run("systemctl", "start", "keystone.service")
    wait_until_served(deployed)
    assert "Login Succeeded" in login(deployed, "testuser")
    for unit in UNITS:
        assert deployed.show(unit, "NRestarts") in ("0", ""), unit


def test_a_backup_of_settings_keys_and_storage_makes_another_machine_the_same_controller(
    deployed: Machine, installed_disk: object
) -> None:
    ca_signed_certificate(deployed.share, "registry.local", ADDRESS)
    system(deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem")
    shown = system(deployed, "admin", "certificate-show", "docker_registry")
    start_runtimes(deployed)
    login(deployed, "testuser")
    make_image(deployed, "busybox")
    push(deployed, "busybox", "testuser/busybox:kept")
    deployed.run(
        "tar", "-C", "/", "-czf", "/run/share/backup.tar.gz", "etc/sysreg", "var/lib/docker-registry"
    )
    backup = (deployed.share / "backup.tar.gz").read_bytes()
    deployed.power_cut()

    with Machine(lower=[installed_disk]) as fresh:  # type: ignore[list-item]
        (fresh.share / "backup.tar.gz").write_bytes(backup)
        fresh.boot()
        fresh.run("tar", "-C", "/", "-xzf", "/run/share/backup.tar.gz")
        fresh.run(DEPLOY)
        wait_until_served(fresh)
        assert serves(fresh)
        assert system(fresh, "admin", "certificate-show", "docker_registry") == shown
        start_runtimes(fresh)
        login(fresh, "testuser")
        assert fresh.run("docker", "pull", "--quiet", f"{REGISTRY}/testuser/busybox:kept").stdout
